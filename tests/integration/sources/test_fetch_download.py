"""Download one file from a server that is slow, busy, incomplete, changing or wrong."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from tests.servers.bureau import RETRY_AT_ONCE, Answer, Bureau, serving
from utils.errors import DelaywatchError, InvalidInput, Unavailable
from utils.sources.download import Client, File, Progress, Version

CONTENT = Random(1).randbytes(300_000)
PATH = "/month.zip"
NEVER_SEND_A_BODY = Answer(cut_after=0)


@pytest.fixture
def bureau() -> Iterator[Bureau]:
    with serving(Bureau()) as server:
        server.files[PATH] = CONTENT
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "month.zip"


def download(
    url: str, target: Path, check: Callable[[Path], None] = lambda _: None, progress: Progress | None = None
) -> File | None:
    policy = dataclasses.replace(RETRY_AT_ONCE, read_timeout_s=0.5)
    with closing(Client(policy)) as client:
        return client.download(url, target, check, progress)


def version(url: str) -> Version | None:
    with closing(Client(RETRY_AT_ONCE)) as client:
        return client.version(url)


def md5(data: bytes) -> dict[str, str]:
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return {"x-goog-hash": f"crc32c=AAAAAA==, md5={base64.b64encode(digest).decode()}"}


def test_a_file_is_downloaded_once_and_kept_with_a_record(bureau: Bureau, target: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    file = download(bureau.url + PATH, target, progress=lambda *step: steps.append(step))
    bureau.always[PATH] = NEVER_SEND_A_BODY

    assert file == download(bureau.url + PATH, target)
    assert target.read_bytes() == CONTENT
    assert json.loads(target.with_name("month.zip.json").read_bytes()) == {
        "url": bureau.url + PATH,
        "version": dataclasses.asdict(version(bureau.url + PATH)),  # type: ignore[arg-type]
        "bytes": 300_000,
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    assert steps == sorted(steps)
    assert steps[-1] == ("month.zip", 300_000, 300_000)
    assert bureau.requests[0].headers["User-Agent"].startswith("delaywatch/")


@pytest.mark.parametrize(
    "answers",
    [
        [Answer(503, headers={"Retry-After": "86400"}), Answer(429)],
        [Answer(cut_after=100_000), Answer(500)],
        [Answer(silent_after=100_000)],
        [Answer(headers=md5(CONTENT))],
    ],
    ids=["busy", "cut, then an error", "silent", "with an MD5"],
)
def test_a_temporary_fault_is_retried_until_the_file_is_complete(
    bureau: Bureau, target: Path, monkeypatch: pytest.MonkeyPatch, answers: list[Answer]
) -> None:
    def short_sleep(seconds: float) -> None:
        assert seconds < 1

    monkeypatch.setattr(time, "sleep", short_sleep)
    bureau.answer_next(PATH, *answers)

    download(bureau.url + PATH, target)

    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("answer", "error", "named"),
    [
        (Answer(503), Unavailable, "503"),
        (Answer(cut_after=1000), Unavailable, PATH),
        (Answer(headers=md5(CONTENT[::-1])), Unavailable, "MD5"),
        (Answer(401), InvalidInput, "401"),
        (Answer(418), InvalidInput, "418"),
        (Answer(302, headers={"Location": PATH}), InvalidInput, PATH),
    ],
    ids=["busy", "cut", "damaged", "401", "418", "redirected in a circle"],
)
def test_a_lasting_fault_is_an_error_and_leaves_no_file(
    bureau: Bureau, target: Path, answer: Answer, error: type[DelaywatchError], named: str
) -> None:
    bureau.always[PATH] = answer

    with pytest.raises(error, match=named) as caught:
        download(bureau.url + PATH, target)

    assert "token" not in str(caught.value)  # this client sends none
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "error", "named"),
    [
        ("http://127.0.0.1:9/x.zip", Unavailable, "127.0.0.1:9"),
        ("transtats.bts.gov/x.zip", InvalidInput, "transtats.bts.gov/x.zip"),
        ("http://amelia:s3cret@127.0.0.1/x.zip", InvalidInput, ".netrc"),
    ],
)
def test_a_useless_address_is_named_without_its_password(
    target: Path, url: str, error: type[DelaywatchError], named: str
) -> None:
    with pytest.raises(error, match=named) as caught:
        download(url, target)

    assert "s3cret" not in str(caught.value)


def revise(bureau: Bureau, _: Path) -> None:
    bureau.files[PATH] = CONTENT[::-1]


def damage_file(_: Bureau, target: Path) -> None:
    target.write_bytes(CONTENT[:-1] + b"?")


def damage_record(text: str) -> Callable[[Bureau, Path], object]:
    return lambda _, target: target.with_name("month.zip.json").write_text(text)


@pytest.mark.parametrize(
    "change",
    [revise, damage_file, *map(damage_record, ["{", '{"url": 1}'])],
)
def test_a_kept_file_that_is_not_the_servers_version_is_downloaded_again(
    bureau: Bureau, target: Path, change: Callable[[Bureau, Path], object]
) -> None:
    download(bureau.url + PATH, target)
    change(bureau, target)

    file = download(bureau.url + PATH, target)

    assert file is not None
    assert target.read_bytes() == bureau.files[PATH]
    assert file.sha256 == hashlib.sha256(bureau.files[PATH]).hexdigest()


# --- the version without the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("to_head", [None, Answer(405), Answer(200)], ids=["", "405", "no length"])
def test_the_version_is_known_without_a_download_even_if_head_is_not_supported(
    target: Path, to_head: Answer | None
) -> None:
    with serving(Bureau(to_head=to_head)) as bureau:
        bureau.files[PATH] = CONTENT
        file = download(bureau.url + PATH, target)
        bureau.always[PATH] = NEVER_SEND_A_BODY

        assert file is not None
        assert version(bureau.url + PATH) == file.version
        assert version(f"{bureau.url}/none.zip") is None
        assert download(f"{bureau.url}/none.zip", target) is None
