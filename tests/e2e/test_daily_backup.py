"""The daily backup on a stack of Postgres and object store alone: what is copied, what is kept, what a failure leaves.

A second object store on the network `lake` stands for a bucket elsewhere. test_stack.py restores such a file to a whole
stack, and this one to Postgres and the object store.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.installation import INSIDE, Installation, docker, wait_until

pytestmark = pytest.mark.e2e

KEPT = 7
DAILY = re.compile(r"daily-\d{8}T\d{6}Z\.tar")
HOLDS = {
    "SHA256SUMS",
    "airflow.dump",
    "lake",
    "lake.tar",
    "roles.sql",
    "secrets.tar",
    "superset.dump",
    "warehouse.dump",
}
FORMER = [f"daily-202001{day:02}T033000Z.tar" for day in range(1, 9)]
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAOFANOTHERSTORE", "AWS_SECRET_ACCESS_KEY": "of$another/store+0123"}
CRONTAB = """#!/bin/sh
if [ "$1" = -l ]; then cat "$0.table"; else cat >"$0.table"; fi
"""
LIST = """
import boto3, json
objects = boto3.client("s3").list_objects_v2(Bucket="backups").get("Contents", [])
print(json.dumps({one["Key"]: one["Size"] for one in objects}))
"""


@pytest.fixture(scope="module")
def stack(project: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    clone = Installation.fresh(tmp_path_factory.mktemp("backup") / "clone", f"{project}-backup")
    try:
        clone.compose("build", "--quiet", "setup")
        clone.compose("up", "--detach", "--wait", "postgres", "s3")
        clone.psql("warehouse", "CREATE TABLE precious AS SELECT 'of a person' AS said")
        yield clone
    finally:
        clone.remove()


@pytest.fixture
def place(stack: Installation, tmp_path: Path) -> Path:
    """The folder that .env names. What earlier tests have made is gone."""
    subprocess.run(["rm", "-rf", str(stack.folder / "backups")], check=True)
    folder = tmp_path / "of another disk"
    folder.mkdir()
    write_env(stack, DELAYWATCH_BACKUP=str(folder))
    return folder


@pytest.fixture
def other_store(stack: Installation) -> Iterator[str]:
    """The address of an object store elsewhere, which has the bucket `backups`."""
    name = f"{stack.project}-other-store"
    variables = [f"--env={key}={value}" for key, value in {**KEYS, "S3_BUCKET": "backups"}.items()]
    network = [f"--network={stack.project}_lake", "--network-alias=other-store", f"--name={name}"]
    weed = ["--entrypoint=weed", STORE, "mini", "-dir=/data", "-master.telemetry=false"]
    docker("run", "--detach", *network, *variables, "--user=1000:1000", *weed)
    try:
        yield "http://other-store:8333"
    finally:
        docker("rm", "--force", name)


STORE = "chrislusf/seaweedfs:4.47"


def write_env(stack: Installation, **variables: str) -> None:
    (stack.folder / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in variables.items()))
    stack.compose("run", "--rm", "--no-deps", "-T", "setup")


def daily(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if DAILY.fullmatch(path.name))


def health(stack: Installation) -> dict[str, Any]:
    """What `make health` finds of the backup; of the rest there is nothing in this stack."""
    done = stack.run(
        ["docker", "compose", "run", "--rm", "--no-deps", "-T", "health", "python", "-m", "utils", "health", "--json"]
    )
    (found,) = (one for one in json.loads(done.stdout)["findings"] if one["what"] == "backup")
    return dict(found)


def in_bucket(stack: Installation) -> dict[str, int]:
    command = ["run", "--rm", "--no-deps", "-T", "backup", "python", "-"]
    return dict(json.loads(stack.compose(*command, given=LIST.encode())))


def test_a_backup_is_copied_whole_for_its_owner_alone_and_health_knows_its_age(
    stack: Installation, place: Path
) -> None:
    stack.made("backup-daily")

    (name,) = daily(place)
    copy = place / name
    assert copy.read_bytes() == (stack.folder / "backups" / name).read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o600
    with tarfile.open(copy) as tar:
        assert {Path(member.name).name for member in tar if member.isfile()} == HOLDS
        dump = tar.extractfile("./warehouse.dump")
        assert dump
        listed = stack.compose("exec", "-T", "postgres", "pg_restore", "--list", given=dump.read())
    assert b"TABLE DATA public precious" in listed
    found = health(stack)
    assert found["is_well"]
    assert name in found["sentence"]


def test_the_newest_seven_stay_in_both_places_and_backups_by_hand_stay_too(stack: Installation, place: Path) -> None:
    (stack.folder / "backups").mkdir()
    for folder in (stack.folder / "backups", place):
        for name in (*FORMER, "delaywatch-20200101T000000Z.tar", "daily-of-somebody.tar"):
            (folder / name).write_text("former")

    stack.made("backup-daily")

    for folder in (stack.folder / "backups", place):
        assert len(daily(folder)) == KEPT
        assert daily(folder)[:-1] == FORMER[-KEPT + 1 :]
        assert (folder / "delaywatch-20200101T000000Z.tar").exists()
        assert (folder / "daily-of-somebody.tar").exists()


def test_a_place_that_is_gone_is_told_and_costs_no_earlier_backup(stack: Installation, place: Path) -> None:
    stack.made("backup-daily")
    (former,) = daily(place)
    place.rename(place.with_name("elsewhere"))

    code, _, complaint = stack.make("backup-daily")

    assert code != 0
    assert str(place) in complaint
    assert not place.exists()
    assert daily(place.with_name("elsewhere")) == [former]
    found = health(stack)
    assert not found["is_well"]
    assert former in found["sentence"]
    assert str(place) in found["sentence"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_copy_that_does_not_fit_leaves_no_half_file_and_is_not_the_newest(stack: Installation, place: Path) -> None:
    stack.made("backup-daily")
    (former,) = daily(place)
    size = (place / former).stat().st_size
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size // 2}", "tmpfs", str(place)], check=True)
    try:
        code, _, complaint = stack.make("backup-daily")
        left = list(place.iterdir())
    finally:
        subprocess.run(["umount", str(place)], check=True)

    assert code != 0
    assert "could not be copied" in complaint
    assert left == []
    assert former in health(stack)["sentence"]
    assert not health(stack)["is_well"]


def test_the_hourly_call_does_nothing_within_a_day_and_tries_a_failed_copy_again(
    stack: Installation, place: Path
) -> None:
    place.rmdir()
    assert stack.run(["stack/backup-daily.sh"]).returncode != 0
    first = daily(stack.folder / "backups")
    place.mkdir()
    second = stack.run(["stack/backup-daily.sh"])
    third = stack.run(["stack/backup-daily.sh"])

    assert second.returncode == third.returncode == 0
    assert first[0].encode() in second.stdout, "the backup that was made is copied, no other one is made"
    assert third.stdout + third.stderr == b""
    assert daily(place) == daily(stack.folder / "backups") == first


def test_a_bucket_elsewhere_gets_the_copy_and_keeps_seven(stack: Installation, place: Path, other_store: str) -> None:
    bucket = {"DELAYWATCH_BACKUP": "s3://backups/of/delaywatch", "AWS_ENDPOINT_URL": other_store, **KEYS}
    write_env(stack, **bucket)
    put = "import boto3, sys; [boto3.client('s3').put_object(Bucket='backups', Key=key) for key in sys.argv[1:]]"
    others = [f"of/delaywatch/daily/{FORMER[0]}", f"of/{FORMER[0]}", "of/delaywatch/delaywatch-20200101T000000Z.tar"]
    keys = [f"of/delaywatch/{name}" for name in FORMER] + others
    command = ["run", "--rm", "--no-deps", "-T", "backup", "python", "-c", put, *keys]
    wait_until(lambda: stack.run(["docker", "compose", *command]).returncode == 0, "the other store answers")

    stack.made("backup-daily")

    (name,) = daily(stack.folder / "backups")
    found = in_bucket(stack)
    assert found[f"of/delaywatch/{name}"] == (stack.folder / "backups" / name).stat().st_size
    copies = [key for key in found if key not in others]
    assert sorted(copies) == [f"of/delaywatch/{one}" for one in [*FORMER[-KEPT + 1 :], name]]
    assert found.keys() >= set(others)
    assert health(stack)["is_well"]

    write_env(stack, **{**bucket, "AWS_SECRET_ACCESS_KEY": "wrong"})
    code, _, complaint = stack.make("backup-daily")

    assert code != 0
    assert "s3://backups/of/delaywatch" in complaint
    assert name in health(stack)["sentence"]
    assert not health(stack)["is_well"]


def test_docker_inspect_shows_no_secret_of_env(stack: Installation, place: Path) -> None:
    write_env(stack, DELAYWATCH_BACKUP="s3://backups", AWS_ENDPOINT_URL="http://elsewhere:8333", **KEYS)
    stack.compose("up", "--no-deps", "--force-recreate", "setup")

    inspected = docker("inspect", stack.containers()["setup"].id)

    assert "http://elsewhere:8333" in inspected, "a setting is shown, so the test can see"
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in inspected
    assert KEYS["AWS_ACCESS_KEY_ID"] not in inspected


def test_cron_calls_it_while_a_place_is_named_and_leaves_lines_of_others(
    stack: Installation, place: Path, tmp_path: Path
) -> None:
    """A script of the name `crontab` stands for cron's, so that the table of whoever runs the tests stays as it is."""
    (tmp_path / "crontab").write_text(CRONTAB)
    (tmp_path / "crontab").chmod(0o755)
    table = tmp_path / "crontab.table"
    table.write_text("5 4 * * * own --at 100\\%\n")
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    assert stack.run(["stack/backup-timer.sh"], path).returncode == 0
    assert stack.run(["stack/backup-timer.sh"], path).returncode == 0

    own, line = table.read_text().splitlines()
    assert own == "5 4 * * * own --at 100\\%"
    assert len(daily(place)) == 1, "the first copy is made at once"
    called = line.split(maxsplit=5)[5].replace("\\%", "%")
    (stack.folder / "backups" / ".copied").unlink()
    cron = {"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin"}
    subprocess.run(["sh", "-c", called], env=cron, cwd="/", check=True)
    assert daily(place)[0] in (stack.folder / "backups" / "daily.log").read_text()

    write_env(stack)
    assert stack.run(["stack/backup-timer.sh"], path).returncode == 0
    assert table.read_text() == "5 4 * * * own --at 100\\%\n"


def test_a_backup_by_hand_is_known_to_health_and_needs_no_place(stack: Installation, place: Path) -> None:
    write_env(stack)

    printed = stack.made("backup")

    assert daily(stack.folder / "backups") == []
    found = health(stack)
    assert found["is_well"]
    assert re.search(r"delaywatch-\d{8}T\d{6}Z\.tar", printed)
    with tarfile.open(fileobj=io.BytesIO(next((stack.folder / "backups").glob("*.tar")).read_bytes())) as tar:
        assert {Path(member.name).name for member in tar if member.isfile()} == HOLDS


def test_a_daily_backup_brings_back_rows_objects_and_secrets_where_nothing_is_left(
    stack: Installation, place: Path
) -> None:
    """All of `make restore` but its last step, the start of the programs, which this stack does not have."""
    put = (
        "import boto3; boto3.client('s3').put_object(Bucket='delaywatch', Key='01_bronze/of a person', Body=b'flights')"
    )
    stack.compose("run", "--rm", "--no-deps", "-T", "airflow-scheduler", "python", "-c", put)
    before = {"secrets": stack.fingerprints(), "objects": objects(stack)}
    stack.made("backup-daily")
    (name,) = daily(place)
    stack.compose("--profile", "*", "down", "--volumes")
    assert stack.volumes() == set()
    (stack.folder / "stack" / "up.sh").write_text("#!/bin/sh\n")

    stack.made("restore", f"FROM={place / name}")

    assert {"secrets": stack.fingerprints(), "objects": objects(stack)} == before
    assert "01_bronze/of a person" in before["objects"]
    assert stack.psql("warehouse", "SELECT said FROM precious") == [{"said": "of a person"}]


def objects(stack: Installation) -> dict[str, Any]:
    program = (INSIDE / "objects.py").read_bytes()
    return dict(
        json.loads(stack.compose("run", "--rm", "--no-deps", "-T", "airflow-scheduler", "python", "-", given=program))
    )
