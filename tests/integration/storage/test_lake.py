"""The lake in a folder and in a bucket: objects appear whole, versions are pinned, faults have the right class."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from botocore.stub import Stubber
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.servers.proxy import Proxy
from tests.servers.receivers import WebServer
from tests.unprivileged import as_nobody, give
from tests.write_faults import fail_at_each_write
from utils.errors import Busy, DelaywatchError, InvalidInput, Missing, Unavailable
from utils.settings import Settings
from utils.storage import bucket, keys
from utils.storage.bucket import BucketStore
from utils.storage.folder import FolderStore, folder_errors
from utils.storage.lake import Damaged, Lake
from utils.storage.parquet import content_hash, encode

YEAR = 2015
BRONZE = keys.bronze_keys(YEAR)[0]


@pytest.fixture
def lake(lake_settings: Settings) -> Lake:
    return Lake(lake_settings)


# --- objects ----------------------------------------------------------------------------------------------------------


def test_an_object_is_listed_and_read_until_it_is_deleted(lake: Lake) -> None:
    for key, data in {BRONZE: b"old", "01_bronze/2016.csv": b"", "01_bronzed": b"x"}.items():
        lake.store.put(key, data)
    lake.store.put(BRONZE, b"text")

    assert (lake.store.get(BRONZE), lake.store.get("01_bronze/2016.csv")) == (b"text", b"")
    assert lake.store.list("01_bronze/") == [BRONZE, "01_bronze/2016.csv"]
    assert lake.store.list("") == [BRONZE, "01_bronze/2016.csv", "01_bronzed"]

    lake.store.delete([BRONZE, "absent"])
    assert lake.store.get(BRONZE) is None
    assert not lake.has(BRONZE)
    assert lake.store.list("01_bronze/") == ["01_bronze/2016.csv"]
    with pytest.raises(Missing, match=BRONZE):
        lake.store.open(BRONZE)


@pytest.mark.parametrize(
    ("files", "error", "named"),
    [
        ([], Missing, "01_bronze/2015.csv"),
        (["2013.csv", "2014.csv.gz", "notes.txt", "20155.csv"], Missing, "01_bronze/2015.csv.*: 2013, 2014\\.$"),
        (["2015.csv", "2015.csv.gz"], InvalidInput, "01_bronze/2015.csv and 01_bronze/2015.csv.gz"),
    ],
)
def test_a_year_without_exactly_one_file_is_an_error(
    lake: Lake, files: list[str], error: type[DelaywatchError], named: str
) -> None:
    for name in files:
        lake.store.put(f"01_bronze/{name}", b"x")

    with pytest.raises(error, match=named):
        lake.bronze_key(YEAR)


def test_a_source_is_pinned_to_the_version_that_it_opened(lake: Lake) -> None:
    lake.store.put(BRONZE, b"0123456789")
    with closing(lake.open_bronze(YEAR)) as source:
        assert (source.read(2, 5), source.read(8, 99), source.read(5, 5), source.size) == (b"234", b"89", b"", 10)
        assert source.is_unchanged()
        lake.store.put(BRONZE, b"abcdefghij")
        assert not source.is_unchanged()
        if isinstance(lake.store, BucketStore):  # a folder keeps the old file open
            with pytest.raises(Unavailable, match=BRONZE):
                source.read(0, 5)


@pytest.mark.parametrize("size", [0, 1, 3 << 10, (10 << 10) + 1])
def test_a_large_s3_object_is_read_in_ranges(
    bucket_settings: Settings, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(bucket, "RANGE_BYTES", 1 << 10)
    store = Lake(bucket_settings).store
    data = os.urandom(size)
    store.put("a", data)

    assert store.get("a") == data
    with closing(store.open("a")) as source:
        assert source.read(0, size) == data


def test_equal_bytes_do_not_touch_the_file(folder_settings: Settings, tmp_path: Path) -> None:
    store = Lake(folder_settings).store
    store.put("a", b"x")
    os.utime(tmp_path / "lake/a", (1, 1))
    store.put("a", b"x")

    assert (tmp_path / "lake/a").stat().st_mtime == 1


def test_a_conditional_write_succeeds_only_on_the_version_that_it_names(bucket_settings: Settings) -> None:
    store = Lake(bucket_settings).store
    outcomes = [store.put_if("a", b"1", None), store.put_if("a", b"2", None)]
    first = store.version("a")
    outcomes += [store.put_if("a", b"2", first), store.put_if("a", b"3", first)]
    second = store.version("a")
    store.delete(["a"])
    outcomes += [store.put_if("a", b"4", second)]

    assert outcomes == [True, False, True, False, False]
    assert store.version("a") is None


def behind(proxy: Proxy, settings: Settings) -> Lake:
    return Lake(settings.replace(aws_endpoint_url=f"http://127.0.0.1:{proxy.port}"))


@pytest.mark.parametrize(
    ("status", "code", "is_overtaken"),
    [
        (412, "PreconditionFailed", True),
        (404, "NoSuchKey", True),
        (409, "ConditionalRequestConflict", True),
        (404, "NoSuchBucket", False),
    ],
)
def test_each_answer_to_an_overtaken_write_is_known(
    bucket_settings: Settings, s3_proxy: Proxy, status: int, code: str, is_overtaken: bool
) -> None:
    store = behind(s3_proxy, bucket_settings).store
    store.put("a", b"theirs")
    body = f"<Error><Code>{code}</Code></Error>"
    head = f"HTTP/1.1 {status} {code}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    s3_proxy.answer(b"PUT /", (head + body).encode())

    if is_overtaken:
        assert store.put_if("a", b"mine", '"old"') is False
    else:
        with pytest.raises(Missing):
            store.put_if("a", b"mine", '"old"')
    assert store.get("a") == b"theirs"


def test_a_repeated_write_whose_first_answer_was_lost_has_won(
    bucket_settings: Settings, s3_proxy: Proxy, without_pauses: None
) -> None:
    store = behind(s3_proxy, bucket_settings).store
    store.put("a", b"old")
    version = store.version("a")
    s3_proxy.cut(b"mine", after=0, times=1)  # the body, which follows the answer 100 Continue

    assert store.put_if("a", b"mine", version) is True
    assert s3_proxy.struck
    assert store.get("a") == b"mine"


# --- tables -----------------------------------------------------------------------------------------------------------


def commit(lake: Lake, *texts: str) -> None:
    with lake.staging(YEAR) as folder:
        staged = []
        for number, text in enumerate(texts):
            path = folder / str(number)
            path.write_bytes(encode(pa.table({"text": [text]})))
            staged.append((path, f"part-{number:05d}-{text}.parquet"))
        manifest = {"parts": [{"name": name} for _, name in staged]}
        lake.commit_silver(YEAR, staged, manifest, {"sums": texts[-1].encode()}, version=lake.silver_version(YEAR))


def texts_of(lake: Lake) -> list[str]:
    return [str(table["text"][0]) for table in lake.read_silver(YEAR)]


def test_a_commit_that_fails_at_any_change_leaves_the_old_or_the_new_silver(lake: Lake) -> None:
    commit(lake, "a", "b")

    for _ in fail_at_each_write(lambda: commit(lake, "a", "c"), type(lake.store), KeyboardInterrupt):
        assert texts_of(lake) in (["a", "b"], ["a", "c"])
        if texts_of(lake) == ["a", "b"]:
            assert lake.store.get("sums") == b"b"
        commit(lake, "a", "b")

    assert (texts_of(lake), lake.store.get("sums")) == (["a", "c"], b"c")
    assert len(lake.store.list(keys.silver_folder(YEAR))) == (4 if lake.store.is_shared else 3)


def commit_of(lake: Lake, text: str, version: str | None) -> None:
    """Commit one part and sums of this text, for a run that has read `version` at its start."""
    with lake.staging(YEAR) as folder:
        (folder / "part").write_bytes(encode(pa.table({"text": [text]})))
        manifest = {"parts": [{"name": f"part-00000-{text}.parquet"}]}
        lake.commit_silver(
            YEAR, [(folder / "part", f"part-00000-{text}.parquet")], manifest, {"sums": text.encode()}, version=version
        )


def test_a_run_that_another_host_overtakes_overwrites_nothing(bucket_settings: Settings, tmp_path: Path) -> None:
    lake, other = Lake(bucket_settings), Lake(bucket_settings.replace(scratch=tmp_path / "other"))
    for old in ("none", "a"):
        version = lake.silver_version(YEAR)
        commit_of(other, f"other {old}", version)
        with pytest.raises(
            Busy, match=rf"run committed 2015 to {lake.uri} at \d\d:\d\d UTC; nothing was overwritten.*again only if"
        ):
            commit_of(lake, "mine", version)

        assert (texts_of(lake), lake.store.get("sums")) == ([f"other {old}"], f"other {old}".encode())
        commit_of(lake, "a", lake.silver_version(YEAR))
        assert (texts_of(lake), lake.store.get("sums")) == (["a"], b"a")


def test_two_hosts_that_commit_the_same_silver_both_succeed(bucket_settings: Settings) -> None:
    lake = Lake(bucket_settings)
    commit_of(lake, "a", None)
    written = lake.store.modified("")
    commit_of(lake, "a", None)

    assert lake.store.modified("") == written
    assert texts_of(lake) == ["a"]


def test_a_run_whose_manifest_is_deleted_must_run_again(bucket_settings: Settings) -> None:
    lake = Lake(bucket_settings)
    commit_of(lake, "a", None)
    version = lake.silver_version(YEAR)
    lake.store.delete([keys.manifest_key(YEAR)])

    with pytest.raises(Busy, match=f"{keys.manifest_key(YEAR)} was deleted .*run the silver step of 2015 again"):
        commit_of(lake, "b", version)


def overtake(lake: Lake) -> None:
    commit_of(lake, "other", lake.silver_version(YEAR))


def delete_part(lake: Lake) -> None:
    lake.store.delete(lake.silver_parts(YEAR))


@pytest.mark.parametrize("event", [overtake, delete_part])
def test_a_change_of_the_year_between_manifest_and_sums_is_noticed(
    bucket_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: Callable[[Lake], None]
) -> None:
    lake, other = Lake(bucket_settings), Lake(bucket_settings.replace(scratch=tmp_path / "other"))
    put = lake.store.put

    def put_late(key: str, data: bytes) -> None:
        if key == "sums":
            event(other)
        put(key, data)

    with monkeypatch.context() as patch, pytest.raises(Busy, match=r"[Rr]un the silver step of 2015 again"):
        patch.setattr(lake.store, "put", put_late)
        commit_of(lake, "mine", None)

    commit_of(lake, "mine", lake.silver_version(YEAR))
    assert (texts_of(lake), lake.store.get("sums")) == (["mine"], b"mine")


def test_a_part_may_be_in_the_lake_before_the_commit(lake: Lake) -> None:
    name = "part-00000-early.parquet"
    with pytest.raises(Unavailable, match=name):
        lake.commit_silver(YEAR, [(None, name)], {"parts": [{"name": name}]}, version=None)
    assert not lake.has(keys.manifest_key(YEAR))

    lake.store.put(keys.silver_folder(YEAR) + name, encode(pa.table({"text": ["early"]})))
    lake.commit_silver(YEAR, [(None, name)], {"parts": [{"name": name}]}, version=None)

    assert texts_of(lake) == ["early"]


def test_sums_and_quality_report_of_another_silver_are_refused(lake: Lake) -> None:
    sums, quality = encode(pa.table({"n": [1]})), b'{"rows": 1}\n'
    manifest = {"parts": [], "sums": content_hash(sums), "quality": content_hash(quality)}
    companions = {keys.sums_key(YEAR): sums, keys.quality_key(YEAR): quality}
    lake.commit_silver(YEAR, [], manifest, companions, version=None)
    assert lake.read_sums(YEAR).to_pydict() == {"n": [1]}
    assert lake.read_quality(YEAR) == {"rows": 1}

    lake.store.put(keys.sums_key(YEAR), encode(pa.table({"n": [2]})))
    lake.store.put(keys.quality_key(YEAR), b'{"rows": 2}\n')

    with pytest.raises(Missing, match=keys.sums_key(YEAR)):
        lake.read_sums(YEAR)
    with pytest.raises(Missing, match=keys.quality_key(YEAR)):
        lake.read_quality(YEAR)


def test_staging_is_empty_and_used_by_one_run_at_a_time(lake: Lake) -> None:
    with lake.staging(YEAR) as folder:
        (folder / "left over").touch()
        with pytest.raises(Busy, match="2015"):
            lake.staging(YEAR).__enter__()
        lake.clear_staging(YEAR)
        assert (folder / "left over").exists()

    assert not folder.exists()
    with lake.staging(YEAR) as again:
        assert list(again.iterdir()) == []


def test_plots_of_airports_without_flights_are_deleted(lake: Lake) -> None:
    lake.replace_plots(YEAR, [("JFK", "daily_flights", b"1"), ("ACK", "daily_flights", b"2")])
    lake.replace_plots(YEAR, [("JFK", "daily_flights", b"3")])

    assert list(lake.read_plots(YEAR)) == [("JFK", "daily_flights", b"3")]


def test_damaged_files_are_named(lake: Lake) -> None:
    commit(lake, "a")
    (key,) = lake.silver_parts(YEAR)
    readers: dict[str, Callable[[], object]] = {
        key: lambda: list(lake.read_silver(YEAR)),
        keys.manifest_key(YEAR): lambda: lake.manifest(YEAR),
        keys.airport_days_key(YEAR): lambda: lake.read_airport_days(YEAR),
    }
    for damaged, read in readers.items():
        lake.store.put(damaged, b"not parquet and not JSON")
        with pytest.raises(Damaged, match=damaged):
            read()


def test_a_missing_layer_names_the_step_to_run(lake: Lake) -> None:
    with pytest.raises(Missing, match="silver step of 2015"):
        lake.manifest(YEAR)
    with pytest.raises(Missing, match=keys.airport_days_key(YEAR)):
        lake.read_airport_days(YEAR)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["../../etc", "A/B", "", "A" * 17, "J K"])
def test_an_unsafe_origin_is_refused_as_part_of_a_key(origin: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(repr(origin))):
        keys.plot_key(YEAR, origin, "daily_flights")


@pytest.mark.parametrize("key", ["01_bronze/../../secret", "/etc/passwd"])
def test_a_key_cannot_lead_out_of_the_folder(folder_settings: Settings, key: str) -> None:
    with pytest.raises(InvalidInput, match=key):
        Lake(folder_settings).store.get(key)


@pytest.mark.parametrize(
    "uri",
    [
        *("/data", "file://", "s3:bucket", "http://x/y", "file://host/x"),
        *("s3://bucket/team#1", "s3://bucket/team?1", "file:///srv/team#1", "file:///srv/team?1"),
        *("file:///srv/100%", "file:///srv/team%FF", "file:///srv/team%00", "file:///srv/te\tam", "s3://bucket/te\nam"),
    ],
)
def test_a_url_that_is_not_exactly_one_lake_is_refused(uri: str) -> None:
    with pytest.raises(InvalidInput, match="DELAYWATCH_LAKE"):
        Lake(Settings.from_environment({}, lake=uri, warehouse=None))


@settings(max_examples=50)
@given(st.text(st.sampled_from("ab/ #?%2035~\t"), min_size=1))
def test_a_prefix_is_taken_literally_or_refused(prefix: str) -> None:
    try:
        store = Lake(Settings.from_environment({}, lake=f"s3://bucket/{prefix}", warehouse=None)).store
    except InvalidInput as error:
        assert "DELAYWATCH_LAKE" in str(error)
    else:
        assert isinstance(store, BucketStore)
        assert (store.bucket, store.prefix) == ("bucket", prefix.strip("/"))


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1))
def test_a_percent_encoded_folder_has_the_decoded_path(name: str) -> None:
    store = Lake(Settings(lake=(Path("/srv") / name).as_uri(), warehouse="")).store

    assert isinstance(store, FolderStore)
    assert store.root == Path("/srv") / name


# --- a new lake -------------------------------------------------------------------------------------------------------


def test_a_check_leaves_a_lake_unchanged(lake: Lake) -> None:
    lake.store.put(BRONZE, b"x")

    assert lake.prepare() is False
    assert lake.store.list("") == [BRONZE]


@pytest.mark.parametrize("ignored", [None, "If-None-Match", "If-Match"])
def test_a_check_warns_of_a_store_that_ignores_a_condition_of_a_write(
    bucket_settings: Settings, s3_proxy: Proxy, caplog: pytest.LogCaptureFixture, ignored: str | None
) -> None:
    if ignored:
        s3_proxy.replace(f"\r\n{ignored}:".encode(), b"\r\nX-Ignored:")

    behind(s3_proxy, bucket_settings).prepare()

    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    named = [header for header in ("If-None-Match", "If-Match") for warning in warnings if header in warning]
    assert named == ([ignored] if ignored else [])


@pytest.mark.parametrize(
    ("lake", "region"),
    [("file:{scratch}/deep/down", None), ("s3://new-in-us/x", "us-east-1"), ("s3://new-in-eu/x", "eu-west-1")],
)
def test_a_missing_lake_is_empty_and_prepare_creates_it(
    bucket_settings: Settings, lake: str, region: str | None
) -> None:
    new = Lake(bucket_settings.replace(lake=lake.format(scratch=f"//{bucket_settings.scratch}"), aws_region=region))

    assert (new.prepare(), new.prepare(), new.years()) == (True, False, [])


@pytest.mark.parametrize("endpoint", [None, "https://s3.eu-west-1.amazonaws.com"])
def test_a_missing_bucket_at_aws_is_an_error(bucket_settings: Settings, endpoint: str | None) -> None:
    store = Lake(bucket_settings.replace(lake="s3://absent/x", aws_endpoint_url=endpoint)).store
    assert isinstance(store, BucketStore)
    with Stubber(store.client) as aws:  # answers one listing and refuses any other call
        aws.add_client_error("list_objects_v2", "NoSuchBucket", http_status_code=404)

        with pytest.raises(Missing, match="aws s3 mb s3://absent"):
            store.create()


def broken(_: str) -> bytes:
    raise Unavailable("S3 broke the connection.")


@pytest.mark.parametrize(("get", "error"), [(lambda _: None, InvalidInput), (broken, Unavailable)])
def test_a_failed_check_leaves_no_object(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, get: Callable[[str], bytes | None], error: type[DelaywatchError]
) -> None:
    monkeypatch.setattr(lake.store, "get", get)

    with pytest.raises(error):
        lake.prepare()

    assert lake.store.list("") == []


# --- faults of a folder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOENT, Unavailable),  # another process was faster
        (errno.EACCES, InvalidInput),
        (errno.ENOSPC, Unavailable),
        (errno.EIO, Unavailable),
    ],
)
def test_the_class_of_a_folder_fault_says_whether_a_retry_helps(
    tmp_path: Path, number: int, error: type[DelaywatchError]
) -> None:
    with pytest.raises(error, match=str(tmp_path)), folder_errors(tmp_path, "writing a"):
        raise OSError(number, os.strerror(number))


def test_a_folder_without_permission_is_an_error_and_not_an_empty_lake(public_folder: Path) -> None:
    lake = Lake(Settings(lake=public_folder.as_uri(), warehouse="", scratch=public_folder))
    lake.store.put(BRONZE, b"x")
    give(public_folder)
    (public_folder / "01_bronze").chmod(0)

    def messages() -> list[str]:
        errors = []
        for use in (lake.bronze_years, lambda: lake.has(BRONZE), lambda: lake.store.put(BRONZE, b"y")):
            with pytest.raises(InvalidInput) as caught:
                use()
            errors.append(str(caught.value))
        return errors

    for message in as_nobody(messages):
        assert str(public_folder) in message


def test_sweeping_deletes_only_the_files_of_killed_processes(tmp_path: Path) -> None:
    store, folder = FolderStore(tmp_path), tmp_path / "_staging/put"
    store.put("a", b"x")
    (folder / "left").write_bytes(b"half")

    with (folder / "being written").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        store.sweep()

    assert [path.name for path in folder.iterdir()] == ["being written"]


# --- faults of S3 -----------------------------------------------------------------------------------------------------


NO_KEYS = {"aws_access_key_id": None, "aws_secret_access_key": None}


@pytest.mark.parametrize(
    ("changed", "error", "named"),
    [
        ({"aws_access_key_id": "AKIAUNKNOWN"}, InvalidInput, "AWS_ACCESS_KEY_ID"),
        ({"aws_secret_access_key": "hush"}, InvalidInput, "AWS_SECRET_ACCESS_KEY"),
        ({}, InvalidInput, "No permission on s3://"),  # this key may only read
        ({"aws_endpoint_url": "http://127.0.0.1:9"}, Unavailable, "http://127.0.0.1:9"),
        ({"aws_endpoint_url": "localhost:8333"}, InvalidInput, "localhost:8333"),
        ({"lake": "s3://UPPER_case!/x"}, InvalidInput, "s3://UPPER_case!/x"),
        (NO_KEYS, InvalidInput, "AWS_ACCESS_KEY_ID"),
        # The role of a machine at AWS may provide keys later.
        ({**NO_KEYS, "aws_endpoint_url": None}, Unavailable, "role"),
    ],
)
def test_a_lake_that_cannot_be_used_names_the_setting(
    checking_keys: Settings,
    without_pauses: None,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, str | None],
    error: type[DelaywatchError],
    named: str,
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    lake = Lake(checking_keys.model_copy(update=changed))  # without validation, like AWS_CONFIG_FILE

    with pytest.raises(error, match=named) as caught:
        lake.prepare()

    assert "hush" not in f"{caught.value} {lake.store!r}"


@pytest.mark.parametrize(
    ("trigger", "answered_bytes"), [(b"PUT ", None), (b"the body", 0)], ids=["request lost", "answer lost"]
)
def test_a_lost_connection_to_s3_is_opened_again(
    bucket_settings: Settings, s3_proxy: Proxy, without_pauses: None, trigger: bytes, answered_bytes: int | None
) -> None:
    s3_proxy.cut(trigger, answered_bytes, times=1)

    behind(s3_proxy, bucket_settings).store.put("a", b"the body")

    assert s3_proxy.struck
    assert Lake(bucket_settings).store.get("a") == b"the body"


def test_a_silent_s3_is_unavailable(
    bucket_settings: Settings, s3_proxy: Proxy, without_pauses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "READ_TIMEOUT_S", 0.2)
    s3_proxy.hang(b"GET ")

    with pytest.raises(Unavailable, match=f"127.0.0.1:{s3_proxy.port}"):
        behind(s3_proxy, bucket_settings).bronze_years()


@contextmanager
def s3_that_answers(status: int, code: str, settings: Settings) -> Iterator[Lake]:
    """A lake at a server that answers every request with this error; moto cannot."""
    headers = {"x-amz-bucket-region": "eu-west-1"} if code == "PermanentRedirect" else {}
    with WebServer("127.0.0.1", threaded=True) as server:
        body = f"<Error><Code>{code}</Code><Message>m</Message></Error>"
        server.expect_request(re.compile("")).respond_with_data(body, status, headers)
        yield Lake(settings.replace(aws_endpoint_url=server.url_for("").rstrip("/")))


@pytest.mark.parametrize(
    ("status", "code", "error", "named"),
    [
        (503, "SlowDown", Unavailable, "SlowDown"),
        (500, "InternalError", Unavailable, "InternalError"),
        (404, "NoSuchBucket", Missing, "DELAYWATCH_LAKE"),
        (400, "ExpiredToken", InvalidInput, "token"),
        (403, "InvalidAccessKeyId", InvalidInput, "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", InvalidInput, "AWS_SECRET_ACCESS_KEY"),
        (403, "AccessDenied", InvalidInput, "No permission on s3://"),
        (301, "PermanentRedirect", InvalidInput, "AWS_DEFAULT_REGION"),
        (403, "RequestTimeTooSkewed", InvalidInput, "clock"),
        (507, "InsufficientStorage", Unavailable, "No space left"),
        (501, "NotImplemented", InvalidInput, "conditional writes"),
        (418, "Unheard", InvalidInput, "Unheard"),
        (599, "Unheard", Unavailable, "Unheard"),
    ],
)
def test_the_class_of_an_s3_error_says_whether_a_retry_helps(
    bucket_settings: Settings, without_pauses: None, status: int, code: str, error: type[DelaywatchError], named: str
) -> None:
    with s3_that_answers(status, code, bucket_settings) as lake:
        with pytest.raises(error, match=named):
            lake.bronze_years()
        if code in ("AccessDenied", "SlowDown", "InsufficientStorage"):  # an answer to HEAD has only the status
            with pytest.raises(error):
                lake.has(BRONZE)
