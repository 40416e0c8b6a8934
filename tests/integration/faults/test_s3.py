"""S3 fails, is slow, refuses, or its object changes during a run: the old year stays and the next run completes.

A proxy in front of moto causes the faults. Its error answers have the format of AWS.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.integration.faults.conftest import without_xmin
from tests.servers.keys import KEYS
from tests.servers.proxy import ALWAYS, Proxy
from tests.steps import BRONZE, BRONZE_KEY, OTHER_BRONZE, STEPS, YEAR, files, rows
from utils.errors import DelaywatchError, InvalidInput, Unavailable
from utils.settings import Settings
from utils.storage import bucket, keys
from utils.storage.bucket import BucketStore
from utils.storage.lake import Lake

# In total too slow for `make test`; `make test-faults` runs them, or pytest with the name of this file.
pytestmark = [pytest.mark.slow, pytest.mark.faults]

GOLD, MANIFEST, PART = keys.airport_days_key(YEAR), keys.manifest_key(YEAR), keys.silver_folder(YEAR) + "part-"
Files = dict[str, bytes | None]
Strike = Callable[[Proxy, bytes], object]  # sets a fault for requests that contain the bytes

# Requests: the method, and a key or its beginning.
LIST, READ, LOOK = "GET ", f"GET {BRONZE_KEY}", f"HEAD {PART}"
WRITE_PART, WRITE_MANIFEST, WRITE_GOLD = f"PUT {PART}", f"PUT {MANIFEST}", f"PUT {GOLD}"


def sent(settings: Settings, request: str) -> bytes:
    """Return the beginning of the request in HTTP."""
    method, _, key = request.partition(" ")
    name, _, prefix = settings.lake.removeprefix("s3://").partition("/")
    return f"{method} /{name}{f'/{prefix}/{quote(key)}' if key else '?list-type=2'}".encode()


def reply(status: int, code: str) -> bytes:
    """Return an error answer of AWS."""
    body = f"<Error><Code>{code}</Code><Message>m</Message></Error>"
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n{body}".encode()


def fill(settings: Settings, year: Path) -> Settings:
    """Copy the year from a folder to the bucket, and put the new file into bronze."""
    store = Lake(settings).store
    for path in year.rglob("*"):
        if path.is_file() and path.suffix != ".lock":
            store.put(path.relative_to(year).as_posix(), path.read_bytes())
    store.put(BRONZE_KEY, BRONZE)
    return settings


def run_steps(settings: Settings) -> None:
    """Run the steps in which S3 differs from a folder."""
    STEPS["silver"](settings)
    STEPS["gold"](settings)


@pytest.fixture
def direct(bucket_settings: Settings, old_year: Path) -> Settings:
    """A bucket with the old year and a new bronze file, without the proxy."""
    return fill(bucket_settings, old_year)


@pytest.fixture
def proxy(s3_proxy: Proxy) -> Proxy:
    """The proxy in front of S3, in place of the proxy in front of Postgres."""
    return s3_proxy


@pytest.fixture
def settings(direct: Settings, proxy: Proxy, without_pauses: None, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The same bucket through the proxy, with short timeouts and without pauses between tries."""
    monkeypatch.setattr(bucket, "READ_TIMEOUT_S", 1)
    return direct.replace(aws_endpoint_url=f"http://127.0.0.1:{proxy.port}")


@pytest.fixture(scope="module")
def new_files(moto_url: str, old_year: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """All objects after a run without a fault."""
    settings = Settings(
        lake="s3://without-faults/delaywatch",
        warehouse="",
        scratch=tmp_path_factory.mktemp("scratch"),
        threads=2,
        aws_endpoint_url=moto_url,
        aws_region="us-east-1",
        **KEYS,
    )
    Lake(settings).prepare()
    run_steps(fill(settings, old_year))
    return files(settings)


def check_survived(direct: Settings, before: Files, new_files: Files) -> None:
    """Assert that every object is old or new, gold is old, and the next run completes."""
    now = files(direct)
    assert [key for key, data in now.items() if data not in (before.get(key), new_files.get(key))] == []
    assert now[GOLD] == before[GOLD]
    assert set(Lake(direct).silver_parts(YEAR)) <= set(now)
    run_steps(direct)
    assert files(direct) == new_files


def answer(status: int, code: str, times: int = ALWAYS) -> Strike:
    return lambda proxy, request: proxy.answer(request, reply(status, code), times)


def cut(after: int | None, times: int = ALWAYS) -> Strike:
    return lambda proxy, request: proxy.cut(request, after, times)


def refuse_from_now_on(status: int, code: str) -> Strike:
    def strike(proxy: Proxy, request: bytes) -> None:
        proxy.before(request, lambda: proxy.answer(b" HTTP/1.1\r\n", reply(status, code)))
        proxy.answer(request, reply(status, code))

    return strike


@pytest.mark.parametrize(
    ("s3_request", "strike"),
    [
        *((request, answer(500, "InternalError", 3)) for request in (LIST, READ, LOOK, WRITE_PART, WRITE_MANIFEST)),
        (WRITE_GOLD, answer(503, "SlowDown", 3)),
        *((request, cut(400, 3)) for request in (READ, f"GET {MANIFEST}")),
        # The write succeeds, but its answer is lost after moto's two lines `HTTP/1.1 100 Continue` of 25 bytes.
        *((request, cut(51, 1)) for request in (WRITE_MANIFEST, WRITE_GOLD)),
        (READ, lambda proxy, request: proxy.trickle(request, len(BRONZE) // 2)),  # longer than the timeout in total
    ],
)
def test_a_temporary_fault_changes_nothing(
    settings: Settings, direct: Settings, proxy: Proxy, new_files: Files, s3_request: str, strike: Strike
) -> None:
    strike(proxy, sent(settings, s3_request))

    run_steps(settings)

    assert proxy.struck
    assert files(direct) == new_files


@pytest.mark.parametrize(
    ("s3_request", "strike", "error", "named"),
    [
        *(
            (request, answer(503, "ServiceUnavailable"), Unavailable, "ServiceUnavailable|503")
            for request in (LIST, READ, LOOK, WRITE_PART, WRITE_MANIFEST, WRITE_GOLD)
        ),
        (READ, cut(100_000), Unavailable, BRONZE_KEY),
        (WRITE_GOLD, cut(None), Unavailable, GOLD),
        (WRITE_PART, lambda proxy, request: proxy.before(request, proxy.refuse), Unavailable, PART),
        *((request, Proxy.hang, Unavailable, "127.0.0.1") for request in (LIST, WRITE_PART)),
        *(
            (request, refuse_from_now_on(status, code), InvalidInput, named)
            for request in (LIST, LOOK, WRITE_PART)
            for status, code, named in (
                (400, "ExpiredToken", "token"),
                (403, "RequestTimeTooSkewed", "clock"),
                (403, "AccessDenied", "No permission on s3://"),
            )
        ),
    ],
)
def test_a_lasting_fault_stops_the_run_and_loses_nothing(
    settings: Settings,
    direct: Settings,
    proxy: Proxy,
    new_files: Files,
    s3_request: str,
    strike: Strike,
    error: type[DelaywatchError],
    named: str,
) -> None:
    before = files(direct)
    strike(proxy, sent(settings, s3_request))

    with pytest.raises(error, match=named):
        run_steps(settings)

    check_survived(direct, before, new_files)


def test_a_file_that_is_replaced_during_a_read_stops_the_run(
    settings: Settings, direct: Settings, proxy: Proxy, new_files: Files
) -> None:
    store = Lake(direct).store
    store.put(BRONZE_KEY, OTHER_BRONZE)
    before = files(direct)

    def replace_at_the_second_read() -> None:
        if len(proxy.struck) == 2:
            store.put(BRONZE_KEY, BRONZE)

    proxy.before(sent(settings, READ), replace_at_the_second_read, times=2)

    with pytest.raises(Unavailable, match=BRONZE_KEY):
        run_steps(settings)

    check_survived(direct, before, new_files)


def test_a_large_upload_that_is_cut_leaves_the_old_file_and_no_parts(
    settings: Settings, direct: Settings, proxy: Proxy, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(BRONZE * 12)
    proxy.cut(b"partNumber=2")

    with pytest.raises(Unavailable, match=BRONZE_KEY):
        Lake(settings).store.upload(tmp_path / "large", BRONZE_KEY)

    store = Lake(direct).store
    assert isinstance(store, BucketStore)
    assert store.get(BRONZE_KEY) == BRONZE
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket=store.bucket)
    store.upload(tmp_path / "large", BRONZE_KEY)
    assert store.get(BRONZE_KEY) == BRONZE * 12


@pytest.mark.parametrize("key", [keys.anomalies_key(YEAR, "three_sigma"), keys.quality_key(YEAR)])
def test_an_upsert_without_its_input_changes_no_row(
    settings: Settings,
    direct: Settings,
    new_lake: Path,
    database: str,
    expected_rows: dict[str, object],
    proxy: Proxy,
    key: str,
) -> None:
    settings, direct = settings.replace(warehouse=database), direct.replace(warehouse=database)
    fill(direct, new_lake)
    before = rows(direct)
    proxy.cut(sent(settings, f"GET {key}"), after=300)

    with pytest.raises(Unavailable, match=key):
        STEPS["upsert"](settings)

    assert rows(direct) == before
    STEPS["upsert"](direct)
    STEPS["publish"](direct)
    assert without_xmin(rows(direct)) == expected_rows
