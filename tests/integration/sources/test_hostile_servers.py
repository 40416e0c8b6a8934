"""Servers that lead elsewhere, and forged records of fetches: who is asked, who sees the token, what is told."""

from __future__ import annotations

import json
import re
import ssl
import threading
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from pytest_httpserver import HTTPServer

from tests.builders import csv_of, flight
from tests.servers.bureau import Answer, Bureau, serving
from utils.errors import DelaywatchError, Unavailable
from utils.settings import Settings
from utils.sources import fetch
from utils.sources.download import Client, RetryPolicy
from utils.storage.lake import Lake

pytestmark = pytest.mark.security

QUICK = RetryPolicy(connect_timeout_s=5, read_timeout_s=5, tries=2, pause_s=0.01, max_pause_s=0.02)
PATH = "/month.zip"
KAGGLES = "/api/v1/datasets/download/yuanyuwendymu/airline-delay-and-cancellation-data-2009-2018/2015.csv"
YEAR = csv_of([flight(FL_DATE=f"2015-{month:02}-04") for month in range(1, 13)])
RECORD_KEY = "01_bronze/_2015.csv.json"


@pytest.fixture
def bureau() -> Iterator[Bureau]:
    with serving(Bureau()) as server:
        server.files[KAGGLES] = YEAR
        yield server


@pytest.fixture
def other() -> Iterator[Bureau]:
    """A server that nobody's settings name."""
    with serving(Bureau()) as server:
        yield server


@pytest.fixture
def settings(bureau: Bureau, tmp_path: Path) -> Settings:
    (tmp_path / "kaggle.json").write_text('{"username": "amelia", "key": "s3cret"}')
    return Settings(
        lake=(tmp_path / "lake").as_uri(),
        warehouse="",
        scratch=tmp_path / "scratch",
        kaggle_url=f"{bureau.url}/api/v1",
        kaggle_token_file=tmp_path / "kaggle.json",
    )


def refusal(url: str, to: Path) -> DelaywatchError:
    with closing(Client(QUICK)) as client, pytest.raises(DelaywatchError) as caught:
        client.download(url, to, lambda _: None)
    assert not to.exists()
    return caught.value


def told(error: BaseException) -> str:
    """The error as a log shows it, with all that it was caused by."""
    return "".join(traceback.format_exception(error))


# --- redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["file", "ftp", "gopher", "data"])
def test_a_redirect_out_of_the_web_is_not_followed(bureau: Bureau, tmp_path: Path, scheme: str) -> None:
    bureau.always[PATH] = Answer(302, headers={"Location": f"{scheme}:///etc/passwd"})

    error = refusal(bureau.url + PATH, tmp_path / "month.zip")

    assert f"leads from http:// to {scheme}://" in str(error)
    assert "root:" not in told(error)


@contextmanager
def encrypted(location: str, context: ssl.SSLContext) -> Iterator[str]:
    """The address of a server with TLS that leads every request to `location`."""
    with HTTPServer("127.0.0.1", ssl_context=context) as server:
        server.expect_request(re.compile("")).respond_with_data(status=302, headers={"Location": location})
        yield server.url_for("").rstrip("/")


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """What a server on 127.0.0.1 shows; its issuer is trusted by this process."""
    issuer, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert("127.0.0.1").configure_cert(context)
    issuer.cert_pem.write_to_path(str(tmp_path / "issuer.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "issuer.pem"))
    return context


def test_a_redirect_from_an_encrypted_connection_to_a_plain_one_is_not_followed(
    other: Bureau, trusted: ssl.SSLContext, tmp_path: Path
) -> None:
    other.files[PATH] = b"anybody could have put this here"

    with encrypted(other.url + PATH, trusted) as url:
        error = refusal(url + PATH, tmp_path / "month.zip")

    assert "leads from https:// to http://" in str(error)
    assert other.asked == []


def test_a_redirect_between_encrypted_connections_is_followed(trusted: ssl.SSLContext, tmp_path: Path) -> None:
    with encrypted("https://127.0.0.1:1/gone", trusted) as url:
        error = refusal(url + PATH, tmp_path / "month.zip")

    assert "does not answer (Connection refused)" in str(error).replace("[Errno 111] ", "")


def test_the_signature_in_the_address_of_a_redirect_is_not_told(bureau: Bureau, tmp_path: Path) -> None:
    """Kaggle leads to a store whose address is a key to the file for some minutes."""
    bureau.always[PATH] = Answer(302, headers={"Location": "http://127.0.0.1:1/2015.csv?signature=s3cret"})

    error = refusal(bureau.url + PATH, tmp_path / "month.zip")

    assert "does not answer" in str(error)
    assert isinstance(error, Unavailable)  # which the DAG tries again
    assert "s3cret" not in told(error)


def test_what_a_server_says_cannot_steer_a_terminal(tmp_path: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(b"HTTP/1.1 403 \x1b]0;owned\x07\r\nContent-Length: 0\r\n\r\n")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        error = refusal(f"http://127.0.0.1:{server.server_address[1]}{PATH}", tmp_path / "month.zip")
        server.shutdown()

    assert "403 \\x1b]0;owned\\x07" in str(error)
    assert "\x1b" not in str(error)


# --- records ----------------------------------------------------------------------------------------------------------


def forge(settings: Settings, url: str) -> None:
    """Let the record beside bronze say that the year is from `url`, as whoever may write to the bucket can."""
    store = Lake(settings).store
    record = json.loads(store.get(RECORD_KEY) or b"")
    for file in record["files"]:
        file["url"] = url
    store.put(RECORD_KEY, json.dumps(record).encode())


def test_a_forged_record_sends_the_token_to_nobody_else(settings: Settings, bureau: Bureau, other: Bureau) -> None:
    fetch.into_bronze(settings, 2015, "kaggle", policy=QUICK)
    forge(settings, f"{other.url}/steal")
    bureau.asked.clear()

    fetch.into_bronze(settings, 2015, "kaggle", policy=QUICK)

    assert other.asked == []
    assert bureau.paths() == [KAGGLES]  # fetched anew
    assert json.loads(Lake(settings).store.get(RECORD_KEY) or b"")["files"][0]["url"] == bureau.url + KAGGLES


def test_an_address_that_only_begins_like_ours_is_not_asked(settings: Settings, bureau: Bureau) -> None:
    fetch.into_bronze(settings, 2015, "kaggle", policy=QUICK)
    forge(settings, f"{bureau.url}/api/v1.evil.example/2015.csv")
    bureau.asked.clear()

    fetch.into_bronze(settings, 2015, "kaggle", policy=QUICK)

    assert bureau.paths() == [KAGGLES]


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b'{"bytes": 1}', b"\xff"])
def test_a_damaged_record_is_no_record(settings: Settings, bureau: Bureau, record: bytes) -> None:
    fetch.into_bronze(settings, 2015, "kaggle", policy=QUICK)
    Lake(settings).store.put(RECORD_KEY, record)

    fetch.into_bronze(settings, 2015, "kaggle", policy=QUICK)

    assert json.loads(Lake(settings).store.get(RECORD_KEY) or b"")["is_whole"] is True


def test_the_token_is_in_no_record_and_in_no_file_that_is_kept(settings: Settings, bureau: Bureau) -> None:
    bureau.order(KAGGLES, Answer(cut_after=20))
    with pytest.raises(DelaywatchError, match="broke off"):
        fetch.into_bronze(settings, 2015, "kaggle", policy=replace(QUICK, tries=1))
    kept = [path.read_bytes() for path in settings.scratch.rglob("*") if path.is_file()]

    fetch.into_bronze(settings, 2015, "kaggle", policy=QUICK)

    store = Lake(settings).store
    written = b"".join([*kept, *(store.get(key) or b"" for key in store.list(""))])
    assert kept
    assert b"s3cret" not in written
    assert b"YW1lbGlh" not in written  # "amelia" as Basic authentication begins
