"""One file from a server that is slow, busy, cut, changing or wrong: what arrives, what is kept, which error it is."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from tests.servers.bureau import Answer, Bureau, serving
from utils.errors import DelaywatchError, InvalidInput, Unavailable
from utils.sources.download import Client, File, RetryPolicy

QUICK = RetryPolicy(connect_timeout_s=5, read_timeout_s=5, tries=4, pause_s=0.01, max_pause_s=0.02)
FILE = Random(1).randbytes(300_000)
PATH = "/month.zip"


@pytest.fixture
def bureau() -> Iterator[Bureau]:
    with serving(Bureau()) as server:
        server.files[PATH] = FILE
        yield server


def accept(_: Path) -> None:
    """Take every file as it is."""


def download(bureau: Bureau, to: Path, policy: RetryPolicy = QUICK) -> File | None:
    with closing(Client(policy)) as client:
        return client.download(bureau.url + PATH, to, accept)


def refusal(bureau: Bureau, to: Path, policy: RetryPolicy = QUICK) -> DelaywatchError:
    with pytest.raises(DelaywatchError) as caught:
        download(bureau, to, policy)
    return caught.value


def test_a_file_arrives_with_its_hash_beside_it(bureau: Bureau, tmp_path: Path) -> None:
    found = download(bureau, tmp_path / "month.zip")

    assert found is not None
    assert (tmp_path / "month.zip").read_bytes() == FILE
    told = json.loads((tmp_path / "month.zip.json").read_text())
    assert told["sha256"] == found.sha256 == hashlib.sha256(FILE).hexdigest()
    assert (told["url"], told["bytes"]) == (bureau.url + PATH, 300_000)
    assert told["version"]["etag"] == found.version.etag != ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["month.zip", "month.zip.json"]


def test_the_server_is_told_who_asks(bureau: Bureau, tmp_path: Path) -> None:
    download(bureau, tmp_path / "month.zip")

    assert bureau.asked[0].headers["User-Agent"].startswith("delaywatch/")


def test_progress_grows_to_the_whole_file(bureau: Bureau, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []

    with closing(Client(QUICK)) as client:
        client.download(bureau.url + PATH, tmp_path / "month.zip", accept, lambda *step: seen.append(step))

    assert seen[-1] == ("month.zip", 300_000, 300_000)
    assert [here for _, here, _ in seen] == sorted({here for _, here, _ in seen})


def test_a_file_that_is_not_there_is_none(bureau: Bureau, tmp_path: Path) -> None:
    bureau.files.clear()

    assert download(bureau, tmp_path / "month.zip") is None
    assert len(bureau.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again(bureau: Bureau, tmp_path: Path) -> None:
    bureau.order(PATH, Answer(503), Answer(429, headers={"Retry-After": "0"}), Answer(500))

    assert download(bureau, tmp_path / "month.zip") is not None
    assert len(bureau.asked) == 4


def test_a_server_that_stays_busy_is_left_alone_after_some_tries(bureau: Bureau, tmp_path: Path) -> None:
    bureau.always[PATH] = Answer(503)

    error = refusal(bureau, tmp_path / "month.zip")

    assert "is busy or at fault (503 SERVICE UNAVAILABLE) in 4 tries; fetch again" in str(error)
    assert isinstance(error, Unavailable)
    assert len(bureau.asked) == 4


def test_a_long_wait_that_a_server_asks_for_is_not_endless(bureau: Bureau, tmp_path: Path) -> None:
    bureau.order(PATH, Answer(503, headers={"Retry-After": "86400"}))

    assert download(bureau, tmp_path / "month.zip") is not None


@pytest.mark.parametrize("fault", [Answer(cut_after=100_000), Answer(silent_after=100_000)], ids=["cut", "silent"])
def test_a_file_that_breaks_off_is_fetched_again_as_a_whole(bureau: Bureau, tmp_path: Path, fault: Answer) -> None:
    bureau.order(PATH, fault, fault)

    found = download(bureau, tmp_path / "month.zip", dataclasses.replace(QUICK, read_timeout_s=0.5))

    assert found is not None
    assert (tmp_path / "month.zip").read_bytes() == FILE
    assert len(bureau.asked) == 3


def test_a_file_that_always_breaks_off_is_given_up_and_nothing_of_it_stays(bureau: Bureau, tmp_path: Path) -> None:
    bureau.always[PATH] = Answer(cut_after=1000)

    error = refusal(bureau, tmp_path / "month.zip")

    assert isinstance(error, Unavailable)
    assert f"{PATH} broke off in each of 4 tries" in str(error)
    assert len(bureau.asked) == 4
    assert list(tmp_path.iterdir()) == []


def test_a_kept_file_is_not_sent_again(bureau: Bureau, tmp_path: Path) -> None:
    first = download(bureau, tmp_path / "month.zip")
    bureau.always[PATH] = Answer(cut_after=0)  # the body is not to be asked for

    assert download(bureau, tmp_path / "month.zip") == first


def test_a_kept_file_that_the_server_has_changed_is_fetched(bureau: Bureau, tmp_path: Path) -> None:
    download(bureau, tmp_path / "month.zip")
    bureau.files[PATH] = FILE[::-1]

    found = download(bureau, tmp_path / "month.zip")

    assert found is not None
    assert (tmp_path / "month.zip").read_bytes() == FILE[::-1]
    assert found.sha256 == hashlib.sha256(FILE[::-1]).hexdigest()


def test_a_kept_file_that_the_disk_has_damaged_is_fetched_again(bureau: Bureau, tmp_path: Path) -> None:
    download(bureau, tmp_path / "month.zip")
    (tmp_path / "month.zip").write_bytes(FILE[:-1] + b"?")

    download(bureau, tmp_path / "month.zip")

    assert (tmp_path / "month.zip").read_bytes() == FILE


@pytest.mark.parametrize("note", ["", "{", '{"url": 1}', "[]"])
def test_a_record_that_a_killed_run_left_unfinished_is_no_obstacle(bureau: Bureau, tmp_path: Path, note: str) -> None:
    for name in ("month.zip", "month.zip.part"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "month.zip.json").write_text(note)

    download(bureau, tmp_path / "month.zip")

    assert (tmp_path / "month.zip").read_bytes() == FILE


def test_a_file_that_fails_its_check_is_not_kept(bureau: Bureau, tmp_path: Path) -> None:
    def refuse(_: Path) -> None:
        raise InvalidInput("It is wrong; mend it.")

    with closing(Client(QUICK)) as client, pytest.raises(DelaywatchError, match="It is wrong"):
        client.download(bureau.url + PATH, tmp_path / "month.zip", refuse)

    assert list(tmp_path.iterdir()) == []


def test_a_checksum_that_the_server_tells_is_checked(bureau: Bureau, tmp_path: Path) -> None:
    right, wrong = (
        base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode() for data in (FILE, FILE[::-1])
    )
    bureau.order(PATH, Answer(headers={"x-goog-hash": f"crc32c=AAAAAA==, md5={wrong}"}))

    assert "arrived damaged (MD5); fetch again" in str(refusal(bureau, tmp_path / "month.zip"))
    bureau.order(PATH, Answer(headers={"x-goog-hash": f"crc32c=AAAAAA==, md5={right}"}))
    assert download(bureau, tmp_path / "month.zip") is not None


@pytest.mark.parametrize("status", [401, 403, 418])
def test_a_refusal_is_final_and_speaks_of_no_token_when_none_was_sent(
    bureau: Bureau, tmp_path: Path, status: int
) -> None:
    bureau.always[PATH] = Answer(status)

    with pytest.raises(DelaywatchError, match=rf"\({status} |answers {status} ") as caught:
        download(bureau, tmp_path / "month.zip")

    assert "token" not in str(caught.value)
    assert isinstance(caught.value, InvalidInput)
    assert len(bureau.asked) == 1


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with serving(Bureau()) as bureau:
        pass

    error = refusal(bureau, tmp_path / "month.zip", dataclasses.replace(QUICK, tries=2))

    assert "127.0.0.1" in str(error)
    assert "does not answer" in str(error)
    assert "Connection refused" in str(error)
    assert isinstance(error, Unavailable)


def test_a_server_that_speaks_no_tls_is_told_so_without_more_tries(bureau: Bureau, tmp_path: Path) -> None:
    url = bureau.url.replace("http:", "https:") + PATH

    with closing(Client(QUICK)) as client, pytest.raises(InvalidInput, match="No trusted connection to 127"):
        client.download(url, tmp_path / "month.zip", accept)


@pytest.mark.parametrize("url", ["transtats.bts.gov/x.zip", "ftp://127.0.0.1/x.zip", "http://"])
def test_an_address_that_is_none_is_told(tmp_path: Path, url: str) -> None:
    with closing(Client(QUICK)) as client, pytest.raises(InvalidInput, match="is not a web address"):
        client.download(url, tmp_path / "month.zip", accept)


def test_an_address_with_a_password_is_refused_without_showing_it(tmp_path: Path) -> None:
    with closing(Client(QUICK)) as client, pytest.raises(InvalidInput, match="has a user or a password") as caught:
        client.download("http://amelia:s3cret@127.0.0.1/x.zip", tmp_path / "month.zip", accept)

    assert "s3cret" not in str(caught.value)


def test_a_redirect_in_a_circle_is_told(bureau: Bureau, tmp_path: Path) -> None:
    bureau.always[PATH] = Answer(302, headers={"Location": PATH})

    assert "leads round in a circle" in str(refusal(bureau, tmp_path / "month.zip"))


def test_the_version_is_told_without_the_file(bureau: Bureau, tmp_path: Path) -> None:
    found = download(bureau, tmp_path / "month.zip")
    bureau.always[PATH] = Answer(cut_after=0)

    with closing(Client(QUICK)) as client:
        assert found is not None
        assert client.version(bureau.url + PATH) == found.version
        assert client.version(bureau.url + "/none.zip") is None
    assert [one.method for one in bureau.asked] == ["GET", "HEAD", "HEAD"]


@pytest.mark.parametrize(
    "to_head",
    [Answer(405), Answer(403), Answer(501), Answer(200)],
    ids=["not allowed", "address signed for GET", "not implemented", "without a length"],
)
def test_a_server_that_does_not_answer_head_in_full_is_asked_by_get(tmp_path: Path, to_head: Answer) -> None:
    with serving(Bureau(to_head=to_head)) as bureau, closing(Client(QUICK)) as client:
        bureau.files[PATH] = FILE
        found = download(bureau, tmp_path / "month.zip")

        assert found is not None
        assert client.version(bureau.url + PATH) == found.version
        assert client.version(bureau.url + "/none.zip") is None
        assert [one.method for one in bureau.asked] == ["GET", "HEAD", "GET", "HEAD", "GET"]


def test_a_server_that_is_busy_is_not_asked_by_get_as_well(bureau: Bureau) -> None:
    bureau.always[PATH] = Answer(503)

    with closing(Client(QUICK)) as client, pytest.raises(Unavailable, match=r"is busy or at fault .* in 4 tries"):
        client.version(bureau.url + PATH)

    assert [one.method for one in bureau.asked] == ["HEAD"] * 4
