"""The lake on a folder and on S3: partitions appear at once, versions are pinned, and every fault has its sentence."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer

from utils.errors import Busy, DelaywatchError, InvalidInput, Missing, Unavailable
from utils.settings import Settings
from utils.storage import bucket, keys
from utils.storage.bucket import BucketStore
from utils.storage.folder import FolderStore, folder_errors
from utils.storage.lake import Lake
from utils.storage.parquet import encode, write_parquet
from utils.storage.stores import Source


def sentence(call: object, *given: object) -> str:
    with pytest.raises(DelaywatchError) as error:
        call(*given)  # type: ignore[operator]
    return str(error.value)


@pytest.fixture
def lake(lake_settings: Settings) -> Lake:
    return Lake(lake_settings)


def test_what_is_put_is_got_and_listed_and_gone_when_deleted(lake: Lake) -> None:
    lake.store.put("01_bronze/2015.csv", b"text")

    assert lake.store.get("01_bronze/2015.csv") == b"text"
    assert lake.store.list("01_bronze/") == ["01_bronze/2015.csv"]
    lake.store.delete(["01_bronze/2015.csv"])
    assert (lake.store.get("01_bronze/2015.csv"), lake.store.list(""), lake.has("01_bronze/2015.csv")) == (
        None,
        [],
        False,
    )


def test_a_missing_year_names_the_years_that_are_there(lake: Lake) -> None:
    for name in ("2013.csv", "2014.csv.gz", "notes.txt", "20155.csv"):
        lake.store.put(f"01_bronze/{name}", b"x")

    assert sentence(lake.bronze_key, 2015) == (
        f"There is no 01_bronze/2015.csv (or .csv.gz) in {lake.uri}; "
        "put it there, or choose a year that is there: 2013, 2014."
    )


def test_two_files_for_one_year_are_refused(lake: Lake) -> None:
    for key in keys.bronze_keys(2015):
        lake.store.put(key, b"x")

    assert "Both 01_bronze/2015.csv and 01_bronze/2015.csv.gz" in sentence(lake.bronze_key, 2015)


def test_a_source_reads_ranges_of_the_version_that_it_opened(lake: Lake) -> None:
    lake.store.put("01_bronze/2015.csv", b"0123456789")
    source = lake.open_bronze(2015)

    assert (source.read(2, 5), source.read(8, 99), source.size) == (b"234", b"89", 10)
    assert source.is_unchanged()
    lake.store.put("01_bronze/2015.csv", b"abcdefghijk")
    assert not source.is_unchanged()
    source.close()


def test_an_s3_object_replaced_during_a_read_is_refused_by_the_server(bucket_settings: Settings) -> None:
    lake = Lake(bucket_settings)
    lake.store.put("01_bronze/2015.csv", b"0123456789")
    source = lake.open_bronze(2015)
    lake.store.put("01_bronze/2015.csv", b"abcdefghij")

    assert "changed while reading 01_bronze/2015.csv" in sentence(source.read, 0, 5)


def test_an_object_that_is_gone_is_told_so(lake: Lake) -> None:
    with pytest.raises(Missing, match=r"01_bronze/2015\.csv"):
        lake.store.open("01_bronze/2015.csv")


@pytest.mark.parametrize("size", [0, 1, 3 << 10, (10 << 10) + 1])
def test_a_large_object_is_read_in_ranges(
    bucket_settings: Settings, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """One GET of a whole large object is slow at SeaweedFS."""
    monkeypatch.setattr(bucket, "RANGE_BYTES", 1 << 10)
    store = Lake(bucket_settings).store
    data = os.urandom(size)
    store.put("a", data)

    assert store.get("a") == data
    with closing(store.open("a")) as source:
        assert source.read(0, size) == data


def staged(folder: Path, *texts: str) -> list[tuple[Path, str]]:
    files = []
    for number, text in enumerate(texts):
        path = folder / f"{number}"
        path.write_bytes(encode(pa.table({"text": [text]})))
        files.append((path, f"part-{number:05d}-{text}.parquet"))
    return files


def commit(lake: Lake, *texts: str) -> None:
    with lake.staging(2015) as folder:
        files = staged(folder, *texts)
        lake.commit_silver(2015, files, {"parts": [{"name": name} for _, name in files]})


def texts(lake: Lake) -> list[str]:
    return [str(table["text"][0]) for table in lake.read_silver(2015)]


def test_silver_is_what_the_manifest_names_and_old_parts_go_when_the_new_manifest_is_there(lake: Lake) -> None:
    commit(lake, "a", "b")
    commit(lake, "a", "c")

    assert texts(lake) == ["a", "c"]
    assert len(lake.store.list(keys.silver_folder(2015))) == 3


def test_parts_without_a_manifest_are_not_read(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(lake, "a")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(lake.store), "put", die)
    with pytest.raises(KeyboardInterrupt):
        commit(lake, "b")
    monkeypatch.undo()

    assert texts(lake) == ["a"]
    commit(lake, "b")
    assert (texts(lake), len(lake.store.list(keys.silver_folder(2015)))) == (["b"], 2)


def test_staging_is_empty_gone_afterwards_and_held_by_one_run_at_a_time(lake: Lake) -> None:
    with lake.staging(2015) as folder:
        (folder / "left over").write_text("x")
        with pytest.raises(Busy, match="2015"):
            lake.staging(2015).__enter__()
        lake.clear_staging(2015)
        assert (folder / "left over").exists()

    assert not folder.exists()
    with lake.staging(2015) as again:
        assert list(again.iterdir()) == []


def test_plots_of_airports_that_are_gone_are_removed(lake: Lake) -> None:
    lake.replace_plots(2015, [("JFK", "daily_flights", b"1"), ("ACK", "daily_flights", b"2")])
    lake.replace_plots(2015, [("JFK", "daily_flights", b"3")])

    assert list(lake.read_plots(2015)) == [("JFK", "daily_flights", b"3")]


@pytest.mark.parametrize("origin", ["../../etc", "A/B", "", "A" * 17, "J K"])
def test_an_origin_that_is_no_code_never_becomes_part_of_a_key(origin: str) -> None:
    assert "cannot be part of a key" in sentence(keys.plot_key, 2015, origin, "daily_flights")


def test_a_key_cannot_lead_out_of_the_folder(folder_settings: Settings) -> None:
    assert "leads out of the lake" in sentence(Lake(folder_settings).store.get, "01_bronze/../../secret")


def test_writing_equal_bytes_again_does_not_touch_the_file(folder_settings: Settings) -> None:
    store = Lake(folder_settings).store
    store.put("a", b"x")
    path = Path(folder_settings.lake.removeprefix("file://")) / "a"
    os.utime(path, (1, 1))
    store.put("a", b"x")

    assert path.stat().st_mtime == 1


def test_a_step_on_a_lake_in_a_folder_loads_no_library_of_others(folder_settings: Settings) -> None:
    """boto3 alone takes 30 MB and 0.15 s of every task."""
    heavy = {"alembic", "boto3", "pandas", "psycopg2", "requests", "scipy", "sqlalchemy"}
    script = f"""
import sys
import utils.layers.ingest, utils.layers.quality, utils.storage.freshness, utils.storage.lake
from utils.settings import Settings
utils.storage.lake.Lake(Settings(lake={folder_settings.lake!r}, warehouse='')).years()
sys.exit(", ".join({heavy} & set(sys.modules)) or None)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("uri", ["/data", "file://", "s3:bucket", "http://x/y", "file://host/x", ""])
def test_a_root_that_is_no_lake_is_refused(uri: str) -> None:
    assert "neither file:///folder nor s3://bucket" in sentence(Lake, Settings(lake=uri, warehouse=""))


@pytest.mark.parametrize(
    "uri",
    [
        *("s3://bucket/team#1", "s3://bucket/team?1", "file:///srv/team#1", "file:///srv/team?1"),
        *("file:///srv/100%", "file:///srv/team%FF", "file:///srv/team%00", "file:///srv/te\tam", "s3://bucket/te\nam"),
    ],
)
def test_a_name_that_would_be_cut_or_changed_is_refused(uri: str) -> None:
    refused = sentence(lambda: Lake(Settings.from_environment({}, lake=uri, warehouse=None)))

    assert refused.startswith("DELAYWATCH_LAKE is ")


@pytest.mark.parametrize("name", ["team#1", "team?1", "team 1", "100%", "a%20b", "täm"])
def test_a_folder_of_any_name_is_a_lake_once_its_url_is_percent_encoded(tmp_path: Path, name: str) -> None:
    lake = Lake(Settings(lake=(tmp_path / name).as_uri(), warehouse=""))

    lake.store.put("05_alerts/2015.json", b"{}")

    assert (tmp_path / name / "05_alerts/2015.json").is_file()


@given(st.text(st.sampled_from("ab/ #?%2035~\t"), min_size=1))
def test_a_prefix_is_taken_literally_or_refused(prefix: str) -> None:
    try:
        store = Lake(Settings.from_environment({}, lake=f"s3://bucket/{prefix}", warehouse=None)).store
    except DelaywatchError as refused:
        assert "DELAYWATCH_LAKE" in str(refused)
    else:
        assert isinstance(store, BucketStore)
        assert (store.bucket, store.prefix) == ("bucket", prefix.strip("/"))


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1))
def test_a_folder_is_the_one_that_its_url_encodes(name: str) -> None:
    store = Lake(Settings(lake=(Path("/srv") / name).as_uri(), warehouse="")).store

    assert isinstance(store, FolderStore)
    assert store.root == Path("/srv") / name


def test_a_damaged_parquet_file_is_named(lake: Lake) -> None:
    lake.store.put(keys.airport_days_key(2015), b"not parquet")

    assert "airport_days.parquet in" in sentence(lake.read_airport_days, 2015)
    assert "is damaged" in sentence(lake.read_airport_days, 2015)


def commit_groups(lake: Lake) -> str:
    """A part of three row groups and two columns, of which the second is by far the larger; its key."""
    noise = np.random.default_rng(0).bytes(300_000)
    table = pa.table({"text": list("abc"), "noise": [noise[:100_000], noise[100_000:200_000], noise[200_000:]]})
    with lake.staging(2015) as folder:
        path = folder / "part"
        write_parquet(table, str(path), row_group_rows=1)
        lake.commit_silver(2015, [(path, "part-00000-a.parquet")], {"parts": [{"name": "part-00000-a.parquet"}]})
    return keys.silver_folder(2015) + "part-00000-a.parquet"


def test_silver_is_read_by_row_groups_and_only_the_bytes_of_the_columns_asked_for(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = commit_groups(lake)
    with closing(lake.store.open(key)) as source:
        size, kind = source.size, type(source)
    read = kind.read
    asked: list[int] = []

    def counted(self: Source, start: int, end: int) -> bytes:
        data = read(self, start, end)
        asked.append(len(data))
        return data

    monkeypatch.setattr(kind, "read", counted)

    groups = [table.to_pydict() for table in lake.read_silver(2015, ["text"])]

    assert groups == [{"text": ["a"]}, {"text": ["b"]}, {"text": ["c"]}]
    assert sum(asked) < size / 2


def test_a_damaged_silver_part_is_named(lake: Lake) -> None:
    key = commit_groups(lake)
    lake.store.put(key, b"not parquet at all")

    assert f"{key} in" in sentence(lambda: list(lake.read_silver(2015)))


def test_a_silver_part_that_is_replaced_on_s3_while_it_is_read_is_told_so(bucket_settings: Settings) -> None:
    lake = Lake(bucket_settings)
    key = commit_groups(lake)
    groups = lake.read_silver(2015)
    next(groups)
    lake.store.put(key, b"another")

    assert f"changed while reading {key}" in sentence(lambda: list(groups))


def test_an_absent_layer_names_the_step_that_writes_it(lake: Lake) -> None:
    assert "run the silver step of 2015 first" in sentence(lake.manifest, 2015)
    assert "run the steps before this one for the year" in sentence(lake.read_airport_days, 2015)


# --- faults of a folder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, Unavailable),  # another process was faster
        (errno.EACCES, InvalidInput),
        (errno.EROFS, InvalidInput),
        (errno.ENOTDIR, InvalidInput),
        (errno.ENOSPC, Unavailable),
        (errno.EIO, Unavailable),
    ],
)
def test_a_fault_of_a_folder_is_an_error_of_the_kind_of_its_number(
    tmp_path: Path, number: int, kind: type[DelaywatchError]
) -> None:
    with pytest.raises(kind, match=str(tmp_path)), folder_errors(tmp_path, "writing a"):
        raise OSError(number, os.strerror(number))


@pytest.fixture
def as_somebody_else() -> Iterator[None]:
    """As root nothing is forbidden, so these tests put root's rights down for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_folder_is_told_so(as_somebody_else: None) -> None:
    store = FolderStore(Path("/usr/share"))

    assert "No permission for writing a in the folder /usr/share" in sentence(store.put, "a", b"x")


@pytest.fixture
def closed_bronze(folder_settings: Settings, request: pytest.FixtureRequest) -> Iterator[Lake]:
    """A lake with a year in bronze, which this user may not look into."""
    lake = Lake(folder_settings)
    lake.store.put("01_bronze/2015.csv", b"x")
    folder = Path(folder_settings.lake.removeprefix("file://"))
    for place in folder.parents[:3]:  # pytest closes its own folders to others
        place.chmod(0o755)
    (folder / "01_bronze").chmod(0)
    request.getfixturevalue("as_somebody_else")
    yield lake
    if os.getuid() == 0:
        os.seteuid(0)
    (folder / "01_bronze").chmod(0o755)


def test_a_folder_that_is_closed_to_this_user_is_not_taken_for_an_empty_one(closed_bronze: Lake) -> None:
    assert "No permission for listing 01_bronze/" in sentence(closed_bronze.bronze_years)
    assert "No permission for looking for 01_bronze/2015.csv" in sentence(closed_bronze.has, "01_bronze/2015.csv")


def test_a_lake_that_is_a_file_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("x")
    store = FolderStore(tmp_path / "lake")
    told = f"{tmp_path / 'lake'} is a file where a folder must be"

    assert told in sentence(store.list, "")
    assert told in sentence(store.list, "01_bronze/")
    assert told in sentence(store.has, "01_bronze/2015.csv")
    assert told in sentence(store.get, "01_bronze/2015.csv")
    assert told in sentence(store.put, "01_bronze/2015.csv", b"x")


def test_a_folder_that_is_not_there_yet_is_an_empty_lake(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "lake")

    assert (store.list(""), store.list("01_bronze/"), store.has("01_bronze/2015.csv")) == ([], [], False)


def test_a_file_swept_before_its_lock_is_there_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, flock = FolderStore(tmp_path), fcntl.flock

    def sweep_first(file: object, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        store.sweep()
        flock(file, how)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    store.put("a", b"x")

    assert store.get("a") == b"x"


def test_sweeping_all_the_time_costs_no_file_that_is_being_written(tmp_path: Path) -> None:
    store, stop = FolderStore(tmp_path), threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            store.sweep()

    with ThreadPoolExecutor(1) as pool:
        sweeper = pool.submit(sweep)
        try:
            for number in range(150):
                store.put("a", f"{number}".encode())
        finally:
            stop.set()
    sweeper.result()

    assert store.list("") == ["a"]


def test_a_file_of_a_killed_process_is_swept(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("a", b"x")
    (tmp_path / "_staging" / "put" / "left").write_bytes(b"half")
    store.sweep()

    assert store.list("") == ["a"]


# --- before the first year --------------------------------------------------------------------------------------------


def test_a_lake_that_can_be_used_is_as_it_was_afterwards(lake: Lake) -> None:
    lake.store.put("01_bronze/2015.csv", b"x")

    assert lake.prepare() is False
    assert lake.store.list("") == ["01_bronze/2015.csv"]


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_a_bucket_that_is_not_there_is_made_at_a_server_that_is_not_aws(bucket_settings: Settings, region: str) -> None:
    lake = Lake(bucket_settings.replace(lake=f"s3://new-in-{region}/x", aws_region=region))

    assert (lake.prepare(), lake.prepare()) == (True, False)
    assert lake.bronze_years() == []


def test_a_folder_that_is_not_there_is_made(folder_settings: Settings) -> None:
    lake = Lake(folder_settings.replace(lake=f"{folder_settings.lake}/deep/down"))

    assert (lake.prepare(), lake.prepare()) == (True, False)


@pytest.mark.parametrize("endpoint", [None, "https://s3.eu-west-1.amazonaws.com"])
def test_a_bucket_that_aws_played_by_a_stub_does_not_have_is_left_to_the_operator(
    bucket_settings: Settings, endpoint: str | None
) -> None:
    store = Lake(bucket_settings.replace(lake="s3://absent/x", aws_endpoint_url=endpoint)).store
    assert isinstance(store, BucketStore)
    with Stubber(store.client) as aws:  # which answers one listing and refuses any other call
        aws.add_client_error("list_objects_v2", "NoSuchBucket", http_status_code=404)

        told = sentence(store.create)

    assert "correct DELAYWATCH_LAKE, or create it with `aws s3 mb s3://absent`." in told


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"aws_access_key_id": "AKIAUNKNOWN"}, "does not know this access key; correct AWS_ACCESS_KEY_ID"),
        ({"aws_secret_access_key": "hush"}, "refuses the secret key; correct AWS_SECRET_ACCESS_KEY"),
        ({}, "No permission on s3://"),
        ({"aws_endpoint_url": "http://127.0.0.1:9"}, "S3 at http://127.0.0.1:9 does not answer while looking"),
    ],
    ids=["unknown key", "wrong secret", "key that may only read", "no server"],
)
def test_a_lake_that_cannot_be_used_is_told_so(checking_keys: Settings, changed: dict[str, str], told: str) -> None:
    lake = Lake(checking_keys.replace(**changed))

    assert told in sentence(lake.prepare)


def test_an_answer_that_is_not_what_was_written_is_told_so_and_nothing_is_left(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store plays a cache that answers with what it had before."""
    monkeypatch.setattr(lake.store, "get", lambda key: None)

    assert "gives back something else than was written" in sentence(lake.prepare)
    assert lake.store.list("") == []


def test_a_check_that_fails_on_the_way_leaves_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(key: str) -> bytes:
        raise DelaywatchError("S3 broke the connection.")

    monkeypatch.setattr(lake.store, "get", lost)

    assert sentence(lake.prepare) == "S3 broke the connection."
    assert lake.store.list("") == []


# --- faults of S3 -----------------------------------------------------------------------------------------------------


def test_a_bucket_that_is_not_there_is_named(bucket_settings: Settings) -> None:
    lake = Lake(bucket_settings.replace(lake="s3://no-such-bucket/x"))

    assert "The bucket of the lake s3://no-such-bucket/x does not exist" in sentence(lake.bronze_years)


def test_an_endpoint_that_does_not_answer_is_named(bucket_settings: Settings) -> None:
    lake = Lake(bucket_settings.replace(aws_endpoint_url="http://127.0.0.1:9"))

    assert "S3 at http://127.0.0.1:9 does not answer" in sentence(lake.bronze_years)


@pytest.mark.parametrize("is_aws", [False, True])
def test_missing_credentials_are_named_and_may_still_come_from_the_role_of_a_machine_at_aws(
    bucket_settings: Settings, monkeypatch: pytest.MonkeyPatch, is_aws: bool
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    endpoint = None if is_aws else bucket_settings.aws_endpoint_url
    no_keys = {"aws_access_key_id": None, "aws_secret_access_key": None}

    with pytest.raises(Unavailable if is_aws else InvalidInput, match="No S3 credentials for s3://"):
        Lake(bucket_settings.replace(**no_keys, aws_endpoint_url=endpoint)).bronze_years()


def test_an_unknown_access_key_is_told_so(checking_keys: Settings) -> None:
    lake = Lake(checking_keys.replace(aws_access_key_id="AKIAUNKNOWN"))

    assert "does not know this access key" in sentence(lake.bronze_years)


def test_a_wrong_secret_key_is_told_so_and_not_shown(checking_keys: Settings) -> None:
    lake = Lake(checking_keys.replace(aws_secret_access_key="wrong-and-secret"))
    told = sentence(lake.bronze_years)

    assert "refuses the secret key" in told
    assert "wrong-and-secret" not in told


def test_a_key_that_may_only_read_is_told_so_when_it_writes(checking_keys: Settings) -> None:
    lake = Lake(checking_keys)

    assert lake.bronze_years() == []
    assert "No permission on s3://" in sentence(lake.store.put, "a", b"x")


def test_a_store_shows_no_secret(bucket_settings: Settings) -> None:
    settings = bucket_settings.replace(aws_secret_access_key="hush", warehouse="postgresql://u:hush@h/d")

    assert "hush" not in repr(settings)
    assert "hush" not in repr(Lake(settings).store)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"lake": "s3://UPPER_case!/x"}, "S3 allows no such name of a bucket as in s3://UPPER_case!/x"),
        ({"aws_endpoint_url": "localhost:8333"}, "S3 endpoint at localhost:8333 is no URL; correct AWS_ENDPOINT_URL"),
        ({"aws_endpoint_url": "http://h:port"}, "S3 endpoint at http://h:port is no URL; correct AWS_ENDPOINT_URL"),
        ({"aws_region": "bad region"}, "bad region is no region of S3; correct AWS_DEFAULT_REGION"),
        ({"aws_secret_access_key": None}, "Only half of the S3 credentials for s3://"),
    ],
)
def test_a_setting_that_boto3_refuses_is_named(
    bucket_settings: Settings, changed: dict[str, str | None], told: str
) -> None:
    refused = bucket_settings.model_copy(update=changed)  # past the rules of settings, as AWS_CONFIG_FILE is
    assert told in sentence(Lake(refused).bronze_years)


def test_a_profile_that_is_not_there_is_told_so(bucket_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    assert "correct AWS_PROFILE" in sentence(Lake(bucket_settings).bronze_years)


def test_https_to_a_server_that_speaks_plain_http_is_told_so(
    bucket_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    https = str(bucket_settings.aws_endpoint_url).replace("http:", "https:")
    lake = Lake(bucket_settings.replace(aws_endpoint_url=https))

    assert f"No encrypted connection to S3 at {https} while listing 01_bronze/" in sentence(lake.bronze_years)


def test_an_upload_to_a_bucket_that_is_not_there_names_it(bucket_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "2015.csv").write_bytes(b"x")
    store = Lake(bucket_settings.replace(lake="s3://no-such-bucket/x")).store

    with pytest.raises(Missing, match="The bucket of the lake s3://no-such-bucket/x does not exist"):
        store.upload(tmp_path / "2015.csv", "01_bronze/2015.csv")


def test_an_upload_with_a_key_that_may_only_read_is_told_so(checking_keys: Settings, tmp_path: Path) -> None:
    (tmp_path / "2015.csv").write_bytes(b"x")

    assert "No permission on s3://" in sentence(
        Lake(checking_keys).store.upload, tmp_path / "2015.csv", "01_bronze/2015.csv"
    )


def test_an_upload_of_a_file_that_is_not_there_names_the_file(lake: Lake, tmp_path: Path) -> None:
    told = sentence(lake.store.upload, tmp_path / "absent.csv", "01_bronze/2015.csv")

    assert told.startswith(f"{tmp_path / 'absent.csv'} cannot be read (No such file or directory)")


@pytest.fixture
def refusing(bucket_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, str], Settings]]:
    """Settings of a server that answers every request with one error of S3, which moto cannot be made to give."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    with HTTPServer("127.0.0.1", threaded=True) as server:

        def answer(status: int, code: str) -> Settings:
            headers = {"x-amz-bucket-region": "eu-west-1"} if code == "PermanentRedirect" else {}
            body = f"<Error><Code>{code}</Code><Message>m</Message></Error>"
            server.expect_request(re.compile("")).respond_with_data(body, status, headers)
            return bucket_settings.replace(aws_endpoint_url=server.url_for("").rstrip("/"))

        yield answer


@pytest.mark.parametrize(
    ("status", "code", "kind", "told"),
    [
        (503, "SlowDown", Unavailable, "is busy or at fault (SlowDown) in 4 tries of listing 01_bronze/; wait a while"),
        (503, "ServiceUnavailable", Unavailable, "is busy or at fault (ServiceUnavailable)"),
        (500, "InternalError", Unavailable, "is busy or at fault (InternalError)"),
        (404, "NoSuchBucket", Missing, "does not exist at http"),
        (400, "InvalidToken", InvalidInput, "session token is not valid, or no longer; renew the credentials"),
        (400, "ExpiredToken", InvalidInput, "session token is not valid, or no longer; renew the credentials"),
        (403, "InvalidAccessKeyId", InvalidInput, "does not know this access key"),
        (403, "SignatureDoesNotMatch", InvalidInput, "refuses the secret key"),
        (403, "AccessDenied", InvalidInput, "No permission on s3://"),
        (400, "AuthorizationHeaderMalformed", InvalidInput, "is in another region"),
        (301, "PermanentRedirect", InvalidInput, "is in another region"),
        (403, "AllAccessDisabled", InvalidInput, "has closed the bucket or the account"),
        (403, "RequestTimeTooSkewed", InvalidInput, "clock is wrong"),
        (507, "InsufficientStorage", Unavailable, "No space left on S3"),
        (403, "InvalidObjectState", InvalidInput, "is in an archive of S3"),
        (
            418,
            "Unheard",
            InvalidInput,
            "refuses the request while listing 01_bronze/ (Unheard); look that up in its manual",
        ),
        (599, "Unheard", Unavailable, "failed while listing 01_bronze/ (Unheard); look that up in its manual"),
    ],
)
def test_a_stand_in_server_shows_the_error_of_every_code_of_s3(
    refusing: Callable[[int, str], Settings], status: int, code: str, kind: type[DelaywatchError], told: str
) -> None:
    with pytest.raises(kind) as error:
        Lake(refusing(status, code)).bronze_years()

    assert told in str(error.value)


def test_a_stand_in_server_that_redirects_every_request_as_a_proxy_does_is_told_so(
    refusing: Callable[[int, str], Settings],
) -> None:
    assert "correct AWS_DEFAULT_REGION and AWS_ENDPOINT_URL" in sentence(Lake(refusing(301, "Moved")).bronze_years)


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (403, InvalidInput, "No permission on s3://"),
        (503, Unavailable, "is busy or at fault (503)"),
        (507, Unavailable, "No space left on S3"),
    ],
)
def test_a_stand_in_server_shows_the_error_of_an_answer_without_a_body(
    refusing: Callable[[int, str], Settings], status: int, kind: type[DelaywatchError], told: str
) -> None:
    with pytest.raises(kind) as error:
        Lake(refusing(status, "not shown")).has("01_bronze/2015.csv")

    assert told in str(error.value)
