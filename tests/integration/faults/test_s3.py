"""An S3 that is at fault, slow, cut off or closed, or a file replaced on it: the old year stays, the next run is done.

moto is the S3, and a proxy before it is the fault. moto never fails by itself and looks at no clock, so answers that it
does not give are the proxy's, in the words of AWS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import boto3
import pytest
import requests

from tests.integration.faults.conftest import fault, without_xmin
from tests.servers.proxy import Proxy
from tests.steps import BRONZE, BRONZE_KEY, OTHER_BRONZE, STEPS, YEAR, files, rows
from utils.settings import Settings
from utils.storage import bucket, keys
from utils.storage.bucket import BucketStore
from utils.storage.lake import Lake

ROOT = Path(__file__).parents[3]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
]  # in sum: `make test-faults` runs them, or pytest with the file's name
BUCKET, PREFIX = "lake", "delaywatch"
GOLD = keys.airport_days_key(YEAR)
MANIFEST = keys.manifest_key(YEAR)
Check = Callable[[], None]


def asks(method: str, key: str = "") -> bytes:
    """How a request for the key, or for all that begin with it, looks on the wire."""
    return f"{method} /{BUCKET}/{PREFIX}/{quote(key)}".encode()


def reply(status: int, code: str) -> bytes:
    """An error as AWS writes it."""
    body = f"<Error><Code>{code}</Code><Message>m</Message></Error>"
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n{body}".encode()


@pytest.fixture(scope="session")
def moto() -> Iterator[tuple[str, int]]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def s3(moto: tuple[str, int]) -> Iterator[Proxy]:
    """What stands between a test and moto."""
    with Proxy(moto) as proxy:
        yield proxy


def settings_of(address: tuple[str, int], scratch: Path, prefix: str = PREFIX) -> Settings:
    return Settings(
        lake=f"s3://{BUCKET}/{prefix}",
        warehouse="",
        scratch=scratch,
        threads=2,
        aws_endpoint_url=f"http://{address[0]}:{address[1]}",
        aws_region="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@pytest.fixture
def past_proxy(moto: tuple[str, int], old_year: Path, tmp_path: Path) -> Settings:
    """The whole old year and the new file in bronze, on moto itself."""
    settings = settings_of(moto, tmp_path)
    lake = Lake(settings)
    lake.prepare()
    lake.store.delete(lake.store.list(""))  # of the test before
    fill(lake, old_year)
    return settings


def fill(lake: Lake, year: Path) -> None:
    """Put the year of a folder there, and the new file into bronze."""
    for path in year.rglob("*"):
        if path.is_file() and path.suffix != ".lock":
            lake.store.put(path.relative_to(year).as_posix(), path.read_bytes())
    lake.store.put(BRONZE_KEY, BRONZE)


@pytest.fixture
def settings(past_proxy: Settings, s3: Proxy) -> Settings:
    return past_proxy.replace(aws_endpoint_url=f"http://127.0.0.1:{s3.port}")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 waits up to seven seconds between tries; not here."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 may be silent for a second instead of a minute."""
    monkeypatch.setattr(bucket, "READ_TIMEOUT_S", 1)


@pytest.fixture(scope="session")
def wanted(moto: tuple[str, int], old_year: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | None]:
    """Every object of the new year, as a run without a fault brings them."""
    settings = settings_of(moto, tmp_path_factory.mktemp("wanted"), "wanted")
    lake = Lake(settings)
    lake.prepare()
    fill(lake, old_year)
    one_run(settings)
    return files(settings)


@pytest.fixture
def survived(wanted: dict[str, bytes | None], past_proxy: Settings, settings: Settings, s3: Proxy) -> Check:
    """What holds after a fault before the new manifest is there: silver, gold and what was made of them are as they
    were, and the next run brings the new.
    """
    before = kept(past_proxy)

    def check() -> None:
        s3.heal()
        assert kept(past_proxy) == before
        next_run(settings, wanted)

    return check


def kept(settings: Settings) -> dict[str, bytes | None]:
    """What the next steps read: the silver that the manifest names, gold and plots."""
    named = [MANIFEST, *Lake(settings).silver_parts(YEAR)]
    return {key: data for key, data in files(settings).items() if key in named or key.startswith(("03_", "04_"))}


def one_run(settings: Settings) -> None:
    """Of the steps that read and write everything in which S3 differs from a folder."""
    STEPS["silver"](settings)
    STEPS["gold"](settings)


def next_run(settings: Settings, wanted: dict[str, bytes | None]) -> None:
    one_run(settings)
    assert files(settings) == wanted


# --- at fault ---------------------------------------------------------------------------------------------------------

REQUESTS = {
    "the list of bronze": asks("GET").replace(f"/{PREFIX}/".encode(), b"?list-type=2"),
    "a read of bronze": asks("GET", BRONZE_KEY),
    "a look at a part": asks("HEAD", keys.silver_folder(YEAR) + "part-"),
    "the write of a part": asks("PUT", keys.silver_folder(YEAR) + "part-"),
    "the write of the manifest": asks("PUT", MANIFEST),
    "the write of gold": asks("PUT", GOLD),
    "the removal of an old part": asks("DELETE", keys.silver_folder(YEAR)),
}


@pytest.mark.parametrize("asked", REQUESTS)
@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "SlowDown")])
def test_a_request_that_fails_three_times_is_made_a_fourth_time_and_nobody_notices(
    settings: Settings, s3: Proxy, wanted: dict[str, bytes | None], asked: str, status: int, code: str
) -> None:
    s3.answer(REQUESTS[asked], reply(status, code), times=3)

    one_run(settings)

    assert len(s3.struck) == 3
    assert files(settings) == wanted


@pytest.mark.parametrize("asked", REQUESTS)
def test_a_request_that_always_fails_stops_the_run_and_loses_nothing(
    settings: Settings, s3: Proxy, wanted: dict[str, bytes | None], asked: str, past_proxy: Settings
) -> None:
    before = files(past_proxy)[GOLD]
    s3.answer(REQUESTS[asked], reply(503, "ServiceUnavailable"))

    told = fault(lambda: one_run(settings))

    s3.heal()
    assert told.startswith(f"S3 at http://127.0.0.1:{s3.port} is busy or at fault (")
    assert told.endswith("; wait a while and run the step again.")
    assert files(past_proxy)[GOLD] == before
    next_run(settings, wanted)


def test_an_s3_that_stops_in_the_middle_of_a_step_is_named(settings: Settings, s3: Proxy, survived: Check) -> None:
    s3.before(asks("PUT", keys.silver_folder(YEAR)), s3.refuse)

    told = fault(lambda: one_run(settings))

    assert told.startswith(
        f"S3 at http://127.0.0.1:{s3.port} does not answer while writing 02_silver/flights/year=2015/"
    )
    survived()


# --- cut --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [BRONZE_KEY, MANIFEST])
def test_a_read_that_is_cut_in_the_middle_is_read_again_and_nobody_notices(
    settings: Settings, s3: Proxy, wanted: dict[str, bytes | None], key: str
) -> None:
    s3.cut(asks("GET", key), after=400, times=3)

    one_run(settings)

    assert len(s3.struck) == 3
    assert files(settings) == wanted


def test_a_read_that_is_always_cut_in_the_middle_stops_the_run(settings: Settings, s3: Proxy, survived: Check) -> None:
    s3.cut(asks("GET", BRONZE_KEY), after=100_000)

    told = fault(lambda: one_run(settings))

    assert told == (
        f"S3 at http://127.0.0.1:{s3.port} broke the connection while reading {BRONZE_KEY}; run the step again."
    )
    survived()


def test_a_write_whose_answer_is_lost_is_made_again(
    settings: Settings, s3: Proxy, wanted: dict[str, bytes | None]
) -> None:
    s3.cut(asks("PUT", GOLD), after=0, times=1)

    one_run(settings)

    assert s3.struck
    assert files(settings) == wanted


def test_a_write_that_is_always_cut_stops_the_run_and_leaves_the_old_gold(
    settings: Settings, s3: Proxy, past_proxy: Settings, wanted: dict[str, bytes | None]
) -> None:
    before = files(past_proxy)[GOLD]
    s3.cut(asks("PUT", GOLD))

    told = fault(lambda: one_run(settings))

    assert f"broke the connection while writing {GOLD}; run the step again." in told
    s3.heal()
    assert files(past_proxy)[GOLD] == before
    next_run(settings, wanted)


def test_an_upload_of_many_parts_that_is_cut_leaves_the_old_file_and_no_half_one(
    settings: Settings, past_proxy: Settings, s3: Proxy, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(BRONZE * 12)
    s3.cut(b"partNumber=2")

    told = fault(lambda: Lake(settings).store.upload(tmp_path / "large", BRONZE_KEY))

    assert f"broke the connection while writing {BRONZE_KEY}" in told
    s3.heal()
    store = Lake(past_proxy).store
    assert isinstance(store, BucketStore)
    assert store.get(BRONZE_KEY) == BRONZE
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket=BUCKET)
    Lake(settings).store.upload(tmp_path / "large", BRONZE_KEY)
    assert store.get(BRONZE_KEY) == BRONZE * 12


# --- slow -------------------------------------------------------------------------------------------------------------


def test_a_slow_s3_is_waited_for(
    settings: Settings, s3: Proxy, wanted: dict[str, bytes | None], impatient: None
) -> None:
    """The file takes longer than a silence may last."""
    s3.trickle(asks("GET", BRONZE_KEY), bytes_per_s=len(BRONZE) // 2)

    one_run(settings)

    assert s3.struck
    assert files(settings) == wanted


@pytest.mark.parametrize("asked", ["the list of bronze", "a read of bronze", "the write of a part"])
def test_an_s3_that_never_answers_is_named_after_four_tries(
    settings: Settings, s3: Proxy, survived: Check, impatient: None, asked: str
) -> None:
    s3.hang(REQUESTS[asked])

    told = fault(lambda: one_run(settings))

    assert told.startswith(f"S3 at http://127.0.0.1:{s3.port} does not answer while ")
    assert len(s3.struck) == 4
    survived()


# --- replaced ---------------------------------------------------------------------------------------------------------


def test_a_file_replaced_while_it_is_read_stops_the_run_and_the_next_one_takes_the_new_file(
    settings: Settings, past_proxy: Settings, s3: Proxy, wanted: dict[str, bytes | None]
) -> None:
    lake = Lake(past_proxy)
    lake.store.put(BRONZE_KEY, OTHER_BRONZE)
    before = kept(past_proxy)

    def replace_it() -> None:
        if len(s3.struck) == 2:
            lake.store.put(BRONZE_KEY, BRONZE)

    s3.before(asks("GET", BRONZE_KEY), replace_it, times=2)

    told = fault(lambda: one_run(settings))

    assert told == f"The object changed while reading {BRONZE_KEY}; run the step again when its upload has ended."
    assert kept(past_proxy) == before
    next_run(settings, wanted)


# --- closed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["the list of bronze", "a look at a part", "the write of a part"])
@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (400, "ExpiredToken", "The S3 session token is not valid, or no longer; renew the credentials of s3://lake/"),
        (403, "RequestTimeTooSkewed", "This machine's clock is wrong for S3; set the time (for example with chrony)."),
        (403, "AccessDenied", "No permission on s3://lake/delaywatch while "),
    ],
    ids=["expired", "clock", "denied"],
)
def test_credentials_that_end_in_the_middle_and_a_wrong_clock_are_told_whatever_request_meets_them_first(
    settings: Settings, s3: Proxy, survived: Check, asked: str, status: int, code: str, told: str
) -> None:
    """From the request on every one is refused, which the proxy plays."""
    s3.before(REQUESTS[asked], lambda: s3.answer(b" HTTP/1.1\r\n", reply(status, code)))
    s3.answer(REQUESTS[asked], reply(status, code))

    assert fault(lambda: one_run(settings)).startswith(told)
    survived()


@contextmanager
def key_that_only_reads(address: tuple[str, int]) -> Iterator[dict[str, str]]:
    """Meanwhile moto checks keys and rights."""
    how = {"endpoint_url": f"http://{address[0]}:{address[1]}", "region_name": "us-east-1"}
    iam = boto3.client("iam", **how, aws_access_key_id="test", aws_secret_access_key="test")
    iam.create_user(UserName="reader")
    may_read = {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [may_read]})
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    requests.post(f"{how['endpoint_url']}/moto-api/reset-auth", data="0", timeout=10)
    try:
        yield {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    finally:
        requests.post(f"{how['endpoint_url']}/moto-api/reset-auth", data="inf", timeout=10)


def test_a_key_that_may_only_read_stops_the_run_at_the_first_write(
    settings: Settings, moto: tuple[str, int], survived: Check
) -> None:
    with key_that_only_reads(moto) as key:
        told = fault(lambda: one_run(settings.replace(**key)))

    assert told.startswith("No permission on s3://lake/delaywatch while writing 02_silver/flights/year=2015/part-")
    assert told.endswith("; allow this key to list, read, write and delete there.")
    survived()


# --- the steps behind silver and gold ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [keys.anomalies_key(YEAR, "three_sigma"), keys.quality_key(YEAR)])
def test_an_s3_that_fails_in_the_upsert_changes_no_row(
    settings: Settings, new_lake: Path, database: str, s3: Proxy, key: str
) -> None:
    with_warehouse = settings.replace(warehouse=database)
    fill(Lake(settings), new_lake)
    before = rows(with_warehouse)
    s3.cut(asks("GET", key), after=300)

    told = fault(lambda: STEPS["upsert"](with_warehouse))

    assert f"broke the connection while reading {key}; run the step again." in told
    assert rows(with_warehouse) == before
    s3.heal()
    STEPS["upsert"](with_warehouse)
    STEPS["publish"](with_warehouse)
    assert without_xmin(rows(with_warehouse)) != without_xmin(before)


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_ends_with_one_line(settings: Settings, s3: Proxy, survived: Check) -> None:
    s3.answer(asks("GET", BRONZE_KEY), reply(400, "ExpiredToken"))

    done = subprocess.run(
        [sys.executable, "-m", "utils", "silver", "--year", str(YEAR), "--lake", settings.lake],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "dags"),
            "AWS_ENDPOINT_URL": str(settings.aws_endpoint_url),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(
        "Error: The S3 session token is not valid, or no longer; renew the credentials of s3://lake/"
    )
    survived()
