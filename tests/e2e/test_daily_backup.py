"""The daily backup on a stack of Postgres and object store: its copies, their number, and failed copies.

A second object store on the network `lake` plays a bucket elsewhere. A slow test in test_stack.py restores a backup to
a whole stack.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.installation import INSIDE, Installation, docker
from tests.servers.startup import wait_until

pytestmark = pytest.mark.e2e

RETENTION = 7  # daily backups that are kept in each place
DAILY = re.compile(r"daily-\d{8}T\d{6}Z\.tar")
CONTENTS = {
    "SHA256SUMS",
    "airflow.dump",
    "lake",
    "lake.tar",
    "roles.sql",
    "secrets.tar",
    "superset.dump",
    "warehouse.dump",
}
EARLIER = [f"daily-202001{day:02}T033000Z.tar" for day in range(1, 9)]
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAOFANOTHERSTORE", "AWS_SECRET_ACCESS_KEY": "of$another/store+0123"}
OBJECT_STORE = "chrislusf/seaweedfs:4.47"
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
        clone.psql("warehouse", "CREATE TABLE precious AS SELECT 'of a person' AS note")
        yield clone
    finally:
        clone.remove()


@pytest.fixture
def place(stack: Installation, tmp_path: Path) -> Path:
    """The folder for copies that .env names. Backups of earlier tests are deleted."""
    subprocess.run(["rm", "-rf", str(stack.folder / "backups")], check=True)
    folder = tmp_path / "another disk"
    folder.mkdir()
    write_env(stack, DELAYWATCH_BACKUP=str(folder))
    return folder


@pytest.fixture
def other_store(stack: Installation) -> Iterator[str]:
    """The address of a second object store, which has the bucket `backups`."""
    name = f"{stack.project}-other-store"
    variables = [f"--env={key}={value}" for key, value in {**KEYS, "S3_BUCKET": "backups"}.items()]
    network = [f"--network={stack.project}_lake", "--network-alias=other-store", f"--name={name}"]
    weed = ["--entrypoint=weed", OBJECT_STORE, "mini", "-dir=/data", "-master.telemetry=false"]
    docker("run", "--detach", *network, *variables, "--user=1000:1000", *weed)
    try:
        yield "http://other-store:8333"
    finally:
        docker("rm", "--force", name)


def write_env(stack: Installation, **variables: str) -> None:
    (stack.folder / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in variables.items()))
    stack.compose("run", "--rm", "--no-deps", "-T", "setup")


def daily(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if DAILY.fullmatch(path.name))


def health(stack: Installation) -> dict[str, Any]:
    """Return the finding of `make health` about the backup."""
    command = ["docker", "compose", "run", "--rm", "--no-deps", "-T", "health", "python", "-m", "utils", "health"]
    findings = json.loads(stack.run([*command, "--json"]).stdout)["findings"]
    (finding,) = (finding for finding in findings if finding["what"] == "backup")
    return dict(finding)


def bucket_sizes(stack: Installation) -> dict[str, int]:
    command = ["run", "--rm", "--no-deps", "-T", "backup", "python", "-"]
    return dict(json.loads(stack.compose(*command, stdin=LIST.encode())))


def lake_objects(stack: Installation) -> dict[str, Any]:
    program = (INSIDE / "objects.py").read_bytes()
    command = ["run", "--rm", "--no-deps", "-T", "airflow-scheduler", "python", "-"]
    return dict(json.loads(stack.compose(*command, stdin=program)))


def test_a_backup_is_copied_for_its_owner_only_and_the_newest_seven_stay_in_both_places(
    stack: Installation, place: Path
) -> None:
    other_files = ("delaywatch-20200101T000000Z.tar", "daily-of-a-person.tar")
    (stack.folder / "backups").mkdir()
    for folder in (stack.folder / "backups", place):
        for name in (*EARLIER, *other_files):
            (folder / name).write_text("earlier")

    stack.made("backup-daily")

    for folder in (stack.folder / "backups", place):
        assert len(daily(folder)) == RETENTION
        assert daily(folder)[:-1] == EARLIER[-RETENTION + 1 :]
        assert all((folder / name).exists() for name in other_files)
    copy = place / daily(place)[-1]
    assert copy.read_bytes() == (stack.folder / "backups" / copy.name).read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o600
    with tarfile.open(copy) as tar:
        assert {Path(member.name).name for member in tar if member.isfile()} == CONTENTS
    finding = health(stack)
    assert finding["is_well"]
    assert copy.name in finding["sentence"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_failed_copy_leaves_no_partial_file_and_health_reports_it(stack: Installation, place: Path) -> None:
    stack.made("backup-daily")
    (earlier,) = daily(place)
    size = (place / earlier).stat().st_size
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size // 2}", "tmpfs", str(place)], check=True)
    try:
        code, _, message = stack.make("backup-daily")
        left = list(place.iterdir())
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert code != 0
    assert str(place) in message
    assert left == []

    place.rename(place.with_name("elsewhere"))
    code, _, message = stack.make("backup-daily")
    assert code != 0
    assert str(place) in message
    assert not place.exists()

    finding = health(stack)
    assert daily(place.with_name("elsewhere")) == [earlier]
    assert not finding["is_well"]
    assert earlier in finding["sentence"]


def test_the_hourly_call_does_nothing_within_a_day_and_retries_a_failed_copy(stack: Installation, place: Path) -> None:
    place.rmdir()
    assert stack.run(["stack/backup-daily.sh"]).returncode != 0
    first = daily(stack.folder / "backups")
    place.mkdir()

    second = stack.run(["stack/backup-daily.sh"])
    third = stack.run(["stack/backup-daily.sh"])

    assert second.returncode == third.returncode == 0
    assert first[0].encode() in second.stdout, "the retry copies the backup that exists"
    assert third.stdout + third.stderr == b""
    assert daily(place) == daily(stack.folder / "backups") == first


def test_a_bucket_gets_the_copy_and_keeps_seven(stack: Installation, place: Path, other_store: str) -> None:
    bucket = {"DELAYWATCH_BACKUP": "s3://backups/of/delaywatch", "AWS_ENDPOINT_URL": other_store, **KEYS}
    write_env(stack, **bucket)
    put = "import boto3, sys; [boto3.client('s3').put_object(Bucket='backups', Key=key) for key in sys.argv[1:]]"
    others = {f"of/delaywatch/daily/{EARLIER[0]}", f"of/{EARLIER[0]}", "of/delaywatch/delaywatch-20200101T000000Z.tar"}
    keys = [f"of/delaywatch/{name}" for name in EARLIER]
    command = ["run", "--rm", "--no-deps", "-T", "backup", "python", "-c", put, *keys, *others]
    wait_until(lambda: stack.run(["docker", "compose", *command]).returncode == 0, "the other store answers")

    stack.made("backup-daily")

    (name,) = daily(stack.folder / "backups")
    sizes = bucket_sizes(stack)
    assert sizes[f"of/delaywatch/{name}"] == (stack.folder / "backups" / name).stat().st_size
    assert sizes.keys() == {*others, *keys[-RETENTION + 1 :], f"of/delaywatch/{name}"}
    assert health(stack)["is_well"]

    write_env(stack, **{**bucket, "AWS_SECRET_ACCESS_KEY": "wrong"})
    code, _, message = stack.make("backup-daily")

    assert code != 0
    assert "s3://backups/of/delaywatch" in message
    finding = health(stack)
    assert name in finding["sentence"]
    assert not finding["is_well"]
    stack.compose("up", "--no-deps", "--force-recreate", "setup")
    inspected = docker("inspect", stack.containers()["setup"].id)
    assert other_store in inspected, "settings are visible in `docker inspect`"
    assert KEYS["AWS_ACCESS_KEY_ID"] not in inspected


def test_cron_calls_it_if_a_place_is_set_and_other_lines_of_the_crontab_stay(
    stack: Installation, place: Path, tmp_path: Path
) -> None:
    """A script named `crontab` plays cron's, so that the table of the caller does not change."""
    (tmp_path / "crontab").write_text(CRONTAB)
    (tmp_path / "crontab").chmod(0o755)
    table = tmp_path / "crontab.table"
    other_line = "5 4 * * * own --at 100\\%"
    table.write_text(f"{other_line}\n")
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    for _ in range(2):
        assert stack.run(["stack/backup-timer.sh"], path).returncode == 0

    first_line, line = table.read_text().splitlines()
    assert first_line == other_line
    assert len(daily(place)) == 1, "the first copy is made at once"
    command = line.split(maxsplit=5)[5].replace("\\%", "%")
    (stack.folder / "backups" / ".copied").unlink()
    cron = {"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin"}
    subprocess.run(["sh", "-c", command], env=cron, cwd="/", check=True)
    assert daily(place)[0] in (stack.folder / "backups" / "daily.log").read_text()

    write_env(stack)
    assert stack.run(["stack/backup-timer.sh"], path).returncode == 0
    assert table.read_text() == f"{other_line}\n"


def test_a_daily_backup_restores_rows_objects_and_secrets_after_all_volumes_are_gone(
    stack: Installation, place: Path
) -> None:
    """Without the last step of `make restore`, the start of Airflow and Superset."""
    put = (
        "import boto3; boto3.client('s3').put_object(Bucket='delaywatch', Key='01_bronze/of a person', Body=b'flights')"
    )
    stack.compose("run", "--rm", "--no-deps", "-T", "airflow-scheduler", "python", "-c", put)
    before = {"secrets": stack.fingerprints(), "objects": lake_objects(stack)}
    stack.made("backup-daily")
    (name,) = daily(place)
    stack.compose("--profile", "*", "down", "--volumes")
    assert stack.volumes() == set()
    (stack.folder / "stack" / "up.sh").write_text("#!/bin/sh\n")

    stack.made("restore", f"FROM={place / name}")

    assert {"secrets": stack.fingerprints(), "objects": lake_objects(stack)} == before
    assert "01_bronze/of a person" in before["objects"]
    assert stack.psql("warehouse", "SELECT note FROM precious") == [{"note": "of a person"}]
    write_env(stack)
    stack.made("backup")  # without a place for copies
    assert health(stack)["is_well"]
