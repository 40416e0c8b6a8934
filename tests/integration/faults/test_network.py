"""S3 or Postgres fails, hangs or refuses in the middle of a step: the old year stays and the next run completes.

A proxy in front of moto or Postgres causes the faults. Its error answers have the format of AWS. A connection that ends
before any statement is in tests/integration/warehouse/test_db_handler.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import make_url

from tests.conftest import at
from tests.integration.faults.conftest import State, state_of
from tests.servers.proxy import Proxy
from tests.steps import BRONZE, BRONZE_KEY, OTHER_BRONZE, STEPS, YEAR, files, rows
from utils.db_handler import DBHandler
from utils.errors import DelaywatchError, InvalidInput, Unavailable
from utils.settings import Settings
from utils.storage import bucket, keys
from utils.storage.bucket import BucketStore
from utils.storage.lake import Lake

# In total too slow for `make test`; `make test-faults` runs them, or pytest with the name of this file.
pytestmark = [pytest.mark.slow, pytest.mark.faults]


# --- Postgres ---------------------------------------------------------------------------------------------------------

FIRST_BATCH, LAST_MERGE, COMMIT = (
    b"CREATE TEMPORARY TABLE batch",  # earlier transactions commit too
    b'"missing_months" = "batch"."missing_months"',
    b"COMMIT",
)


@pytest.fixture
def warehouse_proxy(settings: Settings) -> Iterator[Proxy]:
    """A proxy in front of the warehouse of a lake in which only the upsert is left."""
    for step in ("silver", "gold", "detect", "explain"):
        STEPS[step](settings)
    with Proxy(f"{make_url(settings.warehouse).query['host']}/.s.PGSQL.5432") as proxy:
        yield proxy


def upsert_through(proxy: Proxy, settings: Settings) -> None:
    warehouse = at(settings.warehouse, host="127.0.0.1", port=proxy.port, query={})
    STEPS["upsert"](settings.replace(warehouse=warehouse))


@pytest.mark.parametrize(
    ("fail", "named"),
    [
        (lambda proxy: proxy.before(FIRST_BATCH, lambda: proxy.cut(LAST_MERGE)), "was lost while writing"),
        (lambda proxy: proxy.before(FIRST_BATCH, lambda: proxy.cut(COMMIT)), "was lost while writing"),
        (lambda proxy: proxy.hang(b"application_name\0delaywatch"), "127.0.0.1:"),
    ],
    ids=["last table", "commit", "silent server"],
)
def test_a_fault_in_the_upsert_changes_no_row_of_any_table(
    settings: Settings,
    warehouse_proxy: Proxy,
    expected: State,
    monkeypatch: pytest.MonkeyPatch,
    fail: Callable[[Proxy], None],
    named: str,
) -> None:
    monkeypatch.setitem(DBHandler.__init__.__kwdefaults__ or {}, "connect_timeout_s", 2)
    before = rows(settings)
    fail(warehouse_proxy)

    with pytest.raises(Unavailable, match=named):
        upsert_through(warehouse_proxy, settings)

    assert rows(settings) == before
    for step in ("upsert", "plots", "publish"):
        STEPS[step](settings)
    assert state_of(settings) == expected


def test_a_commit_without_an_answer_is_not_repeated(
    settings: Settings, warehouse_proxy: Proxy, expected: State
) -> None:
    warehouse_proxy.before(FIRST_BATCH, lambda: warehouse_proxy.cut(COMMIT, after=0))

    with pytest.raises(Unavailable, match="tables of 2015"):
        upsert_through(warehouse_proxy, settings)

    written = rows(settings)
    assert state_of(settings)[1] == expected[1]
    STEPS["upsert"](settings)
    assert rows(settings) == written


# --- S3 ---------------------------------------------------------------------------------------------------------------

GOLD, PART = keys.airport_days_key(YEAR), keys.silver_folder(YEAR) + "part-"
Files = dict[str, bytes | None]
Strike = Callable[[Proxy, bytes], object]  # sets a fault for requests that contain the bytes

# Requests: the method, and a key or its beginning.
LIST, READ, WRITE_PART, WRITE_GOLD = "GET ", f"GET {BRONZE_KEY}", f"PUT {PART}", f"PUT {GOLD}"


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


def run_steps(settings: Settings) -> None:
    """Run the steps in which S3 differs from a folder."""
    STEPS["silver"](settings)
    STEPS["gold"](settings)


def fill(settings: Settings, year: Path) -> Settings:
    """Copy the old year from a folder to the bucket, and put a new file into bronze."""
    store = Lake(settings).store
    for path in year.rglob("*"):
        if path.is_file() and path.suffix != ".lock":
            store.put(path.relative_to(year).as_posix(), path.read_bytes())
    store.put(BRONZE_KEY, OTHER_BRONZE)
    return settings


@pytest.fixture
def direct(bucket_settings: Settings, finished_year: tuple[Path, str]) -> Settings:
    """A bucket with the old year and a new bronze file, without the proxy."""
    return fill(bucket_settings, finished_year[0])


@pytest.fixture
def new_files(direct: Settings, finished_year: tuple[Path, str]) -> Files:
    """All objects after a run without a fault, in another folder of the bucket."""
    settings = fill(direct.replace(lake=f"{direct.lake}-without-faults"), finished_year[0])
    run_steps(settings)
    return files(settings)


@pytest.fixture
def proxy(direct: Settings) -> Iterator[Proxy]:
    host, port = str(direct.aws_endpoint_url).removeprefix("http://").split(":")
    with Proxy((host, int(port))) as proxy:
        yield proxy


@pytest.fixture
def behind(direct: Settings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The same bucket through the proxy, with short timeouts and without pauses between tries."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    monkeypatch.setattr(bucket, "READ_TIMEOUT_S", 1)
    return direct.replace(aws_endpoint_url=f"http://127.0.0.1:{proxy.port}")


def check_survived(direct: Settings, before: Files, new_files: Files) -> None:
    """Assert that every object is old or new, gold is old, and the next run completes."""
    now = files(direct)
    assert [key for key, data in now.items() if data not in (before.get(key), new_files.get(key))] == []
    assert now[GOLD] == before[GOLD]
    assert set(Lake(direct).silver_parts(YEAR)) <= set(now)
    run_steps(direct)
    assert files(direct) == new_files


def answer(status: int, code: str, times: int = 1 << 30) -> Strike:
    return lambda proxy, request: proxy.answer(request, reply(status, code), times)


def cut(after: int | None, times: int = 1 << 30) -> Strike:
    return lambda proxy, request: proxy.cut(request, after, times)


def refuse_from_now_on(status: int, code: str) -> Strike:
    def strike(proxy: Proxy, request: bytes) -> None:
        proxy.before(request, lambda: proxy.answer(b" HTTP/1.1\r\n", reply(status, code)))
        proxy.answer(request, reply(status, code))

    return strike


@pytest.mark.parametrize(
    ("s3_request", "strike"),
    [
        (LIST, answer(500, "InternalError", 3)),
        (WRITE_PART, answer(503, "SlowDown", 3)),
        (READ, cut(400, 3)),
        (WRITE_GOLD, cut(0, 1)),  # the write succeeds, but its answer is lost
    ],
)
def test_a_temporary_fault_changes_nothing(
    behind: Settings, direct: Settings, proxy: Proxy, new_files: Files, s3_request: str, strike: Strike
) -> None:
    strike(proxy, sent(behind, s3_request))

    run_steps(behind)

    assert proxy.struck
    assert files(direct) == new_files


@pytest.mark.parametrize(
    ("s3_request", "strike", "error", "named"),
    [
        (READ, answer(503, "ServiceUnavailable"), Unavailable, "ServiceUnavailable|503"),
        (f"PUT {keys.manifest_key(YEAR)}", answer(503, "ServiceUnavailable"), Unavailable, "ServiceUnavailable|503"),
        (f"DELETE {keys.silver_folder(YEAR)}", answer(503, "SlowDown"), Unavailable, "SlowDown|503"),
        (READ, cut(10_000), Unavailable, BRONZE_KEY),
        (WRITE_GOLD, cut(None), Unavailable, GOLD),
        (WRITE_PART, Proxy.hang, Unavailable, "127.0.0.1"),
        (WRITE_PART, refuse_from_now_on(400, "ExpiredToken"), InvalidInput, "token"),
    ],
)
def test_a_lasting_fault_stops_the_run_and_loses_nothing(
    behind: Settings,
    direct: Settings,
    proxy: Proxy,
    new_files: Files,
    s3_request: str,
    strike: Strike,
    error: type[DelaywatchError],
    named: str,
) -> None:
    before = files(direct)
    strike(proxy, sent(behind, s3_request))

    with pytest.raises(error, match=named):
        run_steps(behind)

    check_survived(direct, before, new_files)


def test_a_file_that_is_replaced_during_a_read_stops_the_run(
    behind: Settings, direct: Settings, proxy: Proxy, new_files: Files
) -> None:
    store = Lake(direct).store
    store.put(BRONZE_KEY, BRONZE)
    before = files(direct)

    def replace_at_the_second_read() -> None:
        if len(proxy.struck) == 2:
            store.put(BRONZE_KEY, OTHER_BRONZE)

    proxy.before(sent(behind, READ), replace_at_the_second_read, times=2)

    with pytest.raises(Unavailable, match=BRONZE_KEY):
        run_steps(behind)

    check_survived(direct, before, new_files)


def test_a_large_upload_that_is_cut_leaves_the_old_file_and_no_parts(
    behind: Settings, direct: Settings, proxy: Proxy, tmp_path: Path
) -> None:
    large = BRONZE * 12
    (tmp_path / "large").write_bytes(large)
    proxy.cut(b"partNumber=2")

    with pytest.raises(Unavailable, match=BRONZE_KEY):
        Lake(behind).store.upload(tmp_path / "large", BRONZE_KEY)

    store = Lake(direct).store
    assert isinstance(store, BucketStore)
    assert store.get(BRONZE_KEY) == OTHER_BRONZE
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket=store.bucket)
    store.upload(tmp_path / "large", BRONZE_KEY)
    assert store.get(BRONZE_KEY) == large
