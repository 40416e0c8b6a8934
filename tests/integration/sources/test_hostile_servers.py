"""Servers that redirect elsewhere, and forged records: they get no request and no token."""

from __future__ import annotations

import json
import ssl
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.sources.conftest import KAGGLE, YEAR
from tests.servers.bureau import RETRY_AT_ONCE, Answer, Bureau, serving
from tests.servers.receivers import WebServer
from utils.errors import DelaywatchError, InvalidInput, Unavailable
from utils.settings import Settings
from utils.sources import fetch
from utils.sources.download import Client
from utils.storage.keys import fetch_record_key
from utils.storage.lake import Lake

pytestmark = pytest.mark.security

PATH = "/month.zip"
RECORD = fetch_record_key(YEAR)


@pytest.fixture
def other() -> Iterator[Bureau]:
    """A server that is not in the settings."""
    with serving(Bureau()) as server:
        yield server


def download_error(url: str, target: Path) -> DelaywatchError:
    with closing(Client(RETRY_AT_ONCE)) as client, pytest.raises(DelaywatchError) as caught:
        client.download(url, target, lambda _: None)
    assert not target.exists()
    return caught.value


def from_kaggle(settings: Settings) -> None:
    fetch.into_bronze(settings, YEAR, "kaggle", policy=RETRY_AT_ONCE)


# --- redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["file", "ftp"])
def test_a_redirect_to_another_protocol_is_refused(bureau: Bureau, tmp_path: Path, scheme: str) -> None:
    bureau.always[PATH] = Answer(302, headers={"Location": f"{scheme}:///etc/passwd"})

    error = download_error(bureau.url + PATH, tmp_path / "month.zip")

    assert isinstance(error, InvalidInput)
    assert f"{scheme}://" in str(error)
    assert "root:" not in "".join(traceback.format_exception(error))


def test_a_redirect_from_https_to_http_is_refused(
    other: Bureau, tls_context: Callable[..., ssl.SSLContext], tmp_path: Path
) -> None:
    other.files[PATH] = b"anybody could have sent this"

    with WebServer("127.0.0.1", ssl_context=tls_context()) as server:
        server.expect_request(PATH).respond_with_data(status=302, headers={"Location": other.url + PATH})
        error = download_error(server.url_for(PATH), tmp_path / "month.zip")

    assert isinstance(error, InvalidInput)
    assert other.requests == []


def test_a_redirect_to_another_host_gets_the_request_without_the_token(
    settings: Settings, bureau: Bureau, other: Bureau
) -> None:
    other.files["/signed?signature=1"] = bureau.files[KAGGLE]
    bureau.always[KAGGLE] = Answer(302, headers={"Location": f"{other.url}/signed?signature=1"})

    from_kaggle(settings)

    assert "Authorization" in bureau.requests[0].headers
    assert "Authorization" not in other.requests[0].headers


def test_the_signature_in_the_address_of_a_redirect_is_secret(bureau: Bureau, tmp_path: Path) -> None:
    """Kaggle redirects to an address that gives access to the file for some minutes."""
    bureau.always[PATH] = Answer(302, headers={"Location": "http://127.0.0.1:1/2015.csv?signature=s3cret"})

    error = download_error(bureau.url + PATH, tmp_path / "month.zip")

    assert isinstance(error, Unavailable)
    assert "s3cret" not in "".join(traceback.format_exception(error))


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["{other}/steal", "{bureau}/api/v1.evil.example/1987.csv"])
def test_a_forged_record_does_not_send_the_token_elsewhere(
    settings: Settings, bureau: Bureau, other: Bureau, address: str
) -> None:
    """Everyone with write access to the bucket can forge the record."""
    from_kaggle(settings)
    store = Lake(settings).store
    record = json.loads(store.get(RECORD) or b"")
    record["files"][0]["url"] = address.format(other=other.url, bureau=bureau.url)
    store.put(RECORD, json.dumps(record).encode())
    bureau.requests.clear()

    from_kaggle(settings)

    assert other.requests == []
    assert bureau.paths() == [KAGGLE]
    assert json.loads(store.get(RECORD) or b"")["files"][0]["url"] == bureau.url + KAGGLE


def test_a_damaged_record_is_written_again(settings: Settings) -> None:
    from_kaggle(settings)
    Lake(settings).store.put(RECORD, b'{"bytes": 1}')

    from_kaggle(settings)

    assert json.loads(Lake(settings).store.get(RECORD) or b"")["is_whole"] is True


def test_the_token_is_written_to_no_file(settings: Settings, bureau: Bureau) -> None:
    bureau.answer_next(KAGGLE, *[Answer(cut_after=20)] * RETRY_AT_ONCE.tries)
    with pytest.raises(Unavailable):
        from_kaggle(settings)
    from_kaggle(settings)

    settings.kaggle_token_file.unlink()
    files = [path.read_bytes() for path in settings.scratch.rglob("*") if path.is_file()]

    assert len(files) > 1
    for secret in (b"s3cret", b"YW1lbGlh"):  # the second is "amelia" as Basic authentication begins
        assert not [content for content in files if secret in content]
