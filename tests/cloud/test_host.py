"""host.sh as far as it goes without a host: the real AWS CLI against moto, stand-ins for docker and the stack.

Each call of the AWS CLI takes a second, so most of it is slow. Packages, systemd and the CloudWatch agent need Ubuntu
on EC2 and were not run.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from stack.settings import Settings
from tests.cloud.conftest import REGION, Client

pytestmark = pytest.mark.skipif(
    not (shutil.which("aws") and shutil.which("jq")), reason="there is no AWS CLI or no jq on this machine"
)

SCRIPT = Path(__file__).parents[2] / "infra-notes/cloudformation/host.sh"
# What RDS makes of the secret once it is attached to a database; characters that a URL must not hold as they are.
WAREHOUSE = {
    "username": "delaywatch",
    "password": "p@ss:w/o?r#d%'$HOME",
    "engine": "postgres",
    "host": "db.example.internal",
    "port": 5432,
    "dbname": "warehouse",
    "dbInstanceIdentifier": "delaywatch",
}
BUCKET = "host-lake"
Host = Callable[..., subprocess.CompletedProcess[str]]


def _put_secret(aws: Client, name: str, content: Any) -> None:
    client, text = aws("secretsmanager"), content if isinstance(content, str) else json.dumps(content)
    try:
        client.create_secret(Name=name, SecretString=text)
    except client.exceptions.ResourceExistsException:
        client.put_secret_value(SecretId=name, SecretString=text)


def _machine(folder: Path, aws: Client, aws_url: str) -> Host:
    """Call host.sh on a machine that is a folder.

    It has opt/ for /opt/delaywatch, units/ for systemd's, and bin/ with stand-ins for systemctl and docker.
    """
    aws("s3").create_bucket(Bucket=BUCKET)
    _put_secret(aws, "host/connections/warehouse", WAREHOUSE)
    _put_secret(aws, "host/host/settings", {})
    for name in ("opt", "bin", "units"):
        (folder / name).mkdir()
    lines = {
        "BUCKET": BUCKET,
        "REGION": REGION,
        "DOMAIN": "delays.example.com",
        "SECRETS_PREFIX": "host",
        "WAREHOUSE_SECRET": "host/connections/warehouse",
        "SETTINGS_SECRET": "host/host/settings",
    }
    (folder / "host.conf").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    for name in ("systemctl", "docker"):
        _program(folder / f"bin/{name}", f'echo "{name} $*"')
    own = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "DELAYWATCH_HOME": str(folder / "opt"),
        "DELAYWATCH_CONF": str(folder / "host.conf"),
        "DELAYWATCH_UNITS": str(folder / "units"),
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    return lambda *arguments: subprocess.run(
        [str(SCRIPT), *arguments], env=own, capture_output=True, text=True, check=False
    )


@pytest.fixture
def host(tmp_path: Path, aws: Client, aws_url: str) -> Host:
    return _machine(tmp_path, aws, aws_url)


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory, aws: Client, aws_url: str) -> dict[str, str]:
    """The .env of a host whose secrets nobody has touched."""
    done = _machine(tmp_path_factory.mktemp("host"), aws, aws_url)("settings")
    assert done.returncode == 0, done.stderr
    return _read(done.stdout)


def _read(env: str) -> dict[str, str]:
    """The variables of a .env, as Compose reads it: what stands in single quotes counts as it is."""
    lines = [line for line in env.splitlines() if line and not line.startswith("#")]
    pairs = [line.partition("=")[::2] for line in lines]
    return {name: value.removeprefix("'").removesuffix("'") for name, value in pairs}


def _program(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/usr/bin/env bash", *lines, "")))
    path.chmod(0o755)


def _archive(aws: Client, name: str, up: str, upgrade: str = "exit 1") -> None:
    """Put a release into the bucket whose stack/up.sh and stack/upgrade.sh are these lines."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(SCRIPT, "infra-notes/cloudformation/host.sh")
        for script, line in {"stack/up.sh": up, "stack/upgrade.sh": upgrade}.items():
            content = f'#!/usr/bin/env bash\ncd "$(dirname "$0")/.."\n{line}\n'.encode()
            entry = tarfile.TarInfo(script)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    aws("s3").put_object(Bucket=BUCKET, Key=f"releases/{name}.tar.gz", Body=packed.getvalue())


def _current(tmp_path: Path) -> str:
    return (tmp_path / "opt/current").resolve().name.rpartition("-")[0]


# --- .env -------------------------------------------------------------------------------------------------------------


def test_the_settings_are_those_of_a_stack_whose_lake_and_warehouse_are_elsewhere(env: dict[str, str]) -> None:
    found = Settings.from_environment(env)

    assert not found.is_lake_local
    assert (found.host, found.region, found.endpoint) == ("delays.example.com", REGION, None)
    assert found.logs == f"s3://{BUCKET}/logs"
    assert found.access_key is None  # the role decides


def test_a_password_of_any_characters_arrives_at_postgres_as_it_is(env: dict[str, str]) -> None:
    url = make_url(env["DELAYWATCH_WAREHOUSE"])

    assert url.password == WAREHOUSE["password"]
    assert (url.username, url.host, url.port, url.database) == ("delaywatch", "db.example.internal", 5432, "warehouse")
    assert url.query["sslmode"] == "require"


def test_airflow_finds_the_connection_warehouse_in_the_secret_of_rds(
    env: dict[str, str], aws: Client, aws_url: str
) -> None:
    from airflow.providers.amazon.aws.secrets.secrets_manager import SecretsManagerBackend

    _put_secret(aws, "host/connections/warehouse", WAREHOUSE)
    keys = {"endpoint_url": aws_url, "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    backend = SecretsManagerBackend(**json.loads(env["AIRFLOW_SECRETS_BACKEND_KWARGS"]), **keys)

    found = json.loads(str(backend.get_conn_value("warehouse")))

    assert found["conn_type"] == "postgres"
    assert (found["login"], found["password"]) == ("delaywatch", WAREHOUSE["password"])
    assert (found["host"], found["port"], found["schema"]) == ("db.example.internal", 5432, "warehouse")
    assert backend.get_conn_value("aws_default") is None


@pytest.mark.slow
def test_what_the_settings_secret_adds_stands_in_env(host: Host, aws: Client) -> None:
    _put_secret(aws, "host/host/settings", {"DELAYWATCH_ADMIN_PASSWORD": "a long $password", "DELAYWATCH_THREADS": 2})

    found = _read(host("settings").stdout)

    assert found["DELAYWATCH_ADMIN_PASSWORD"] == "a long $password"
    assert found["DELAYWATCH_THREADS"] == "2"


@pytest.mark.slow
@pytest.mark.parametrize("content", ["no JSON", {"NAME": "it's"}, {"NAME": "two\nlines"}])
def test_a_settings_secret_that_cannot_be_used_is_refused_without_showing_it(
    host: Host, aws: Client, content: Any
) -> None:
    _put_secret(aws, "host/host/settings", content)

    done = host("settings")

    assert done.returncode == 1
    assert 'the secret host/host/settings is not {"NAME": "value", ...}' in done.stderr
    assert "it's" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_a_warehouse_secret_that_rds_has_not_completed_is_refused(host: Host, aws: Client) -> None:
    _put_secret(aws, "host/connections/warehouse", {"username": "delaywatch", "password": "p"})

    done = host("settings")

    assert done.returncode == 1
    assert "has no username, password, host, port and dbname" in done.stderr


# --- releases ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_first_release_is_started_with_its_env_and_becomes_current(host: Host, aws: Client, tmp_path: Path) -> None:
    _archive(aws, "v1", up="grep -q DELAYWATCH_LOCAL=0 .env && echo started")

    done = host("release", "releases/v1.tar.gz")

    assert done.returncode == 0, done.stderr
    assert "started" in done.stdout
    assert _current(tmp_path) == "v1"
    boot = (tmp_path / "units/delaywatch.service").read_text()
    assert f"ExecStart={tmp_path}/opt/current/infra-notes/cloudformation/host.sh start" in boot
    assert "systemctl enable delaywatch.service" in done.stdout
    assert (tmp_path / "opt/current/.env").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_the_next_release_is_an_upgrade_and_shares_the_backups(host: Host, aws: Client, tmp_path: Path) -> None:
    _archive(aws, "v1", up="true")
    _archive(aws, "v2", up="exit 1", upgrade="echo upgraded; touch backups/delaywatch-1.tar")
    host("release", "releases/v1.tar.gz")

    done = host("release", "releases/v2.tar.gz")

    assert done.returncode == 0, done.stderr
    assert "upgraded" in done.stdout
    assert _current(tmp_path) == "v2"
    assert (tmp_path / "opt/backups/delaywatch-1.tar").exists()


@pytest.mark.slow
def test_a_release_that_does_not_start_is_not_what_a_reboot_starts(host: Host, aws: Client, tmp_path: Path) -> None:
    _archive(aws, "v1", up="true")
    _archive(aws, "v2", up="true", upgrade="exit 1")
    host("release", "releases/v1.tar.gz")

    done = host("release", "releases/v2.tar.gz")

    assert done.returncode == 1
    assert "v2 did not start. A reboot starts v1" in done.stderr
    assert _current(tmp_path) == "v1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("release", "sentence"),
    [
        ("releases/absent.tar.gz", "could not be fetched"),
        ("v1", "is no release"),
        ("releases/../v1.zip", "is no release"),
    ],
)
def test_a_release_that_is_not_there_changes_nothing(
    host: Host, aws: Client, tmp_path: Path, release: str, sentence: str
) -> None:
    _archive(aws, "v1", up="true")
    host("release", "releases/v1.tar.gz")

    done = host("release", release)

    assert done.returncode == 1
    assert sentence in done.stderr
    assert [path.name.rpartition("-")[0] for path in (tmp_path / "opt/releases").iterdir()] == ["v1"]


@pytest.mark.slow
def test_a_boot_reads_the_secrets_anew(host: Host, aws: Client, tmp_path: Path) -> None:
    _archive(aws, "v1", up="echo started")
    host("release", "releases/v1.tar.gz")
    _put_secret(aws, "host/connections/warehouse", WAREHOUSE | {"password": "rotated"})

    done = host("start")

    assert done.returncode == 0, done.stderr
    assert "started" in done.stdout
    assert ":rotated@" in (tmp_path / "opt/current/.env").read_text()


@pytest.mark.slow
def test_a_boot_before_any_release_says_what_to_do(host: Host) -> None:
    done = host("start")

    assert done.returncode == 1
    assert "there is no release yet" in done.stderr


# --- CloudWatch and backups -------------------------------------------------------------------------------------------


@pytest.fixture
def measuring(host: Host, aws: Client, tmp_path: Path) -> Host:
    """A host with a release, whose metadata service is a stand-in: curl answers the ID of the instance."""
    _archive(aws, "v1", up="true")
    host("release", "releases/v1.tar.gz")
    _program(tmp_path / "bin/curl", f"echo i-{tmp_path.name.replace('_', '-')}")
    return host


def _metric(aws: Client, tmp_path: Path, name: str) -> list[float]:
    found = aws("cloudwatch").get_paginator("list_metrics").paginate(Namespace="Delaywatch", MetricName=name)
    mine = {"Name": "InstanceId", "Value": f"i-{tmp_path.name.replace('_', '-')}"}
    if not any(mine in metric["Dimensions"] for page in found for metric in page["Metrics"]):
        return []
    data = aws("cloudwatch").get_metric_statistics(
        Namespace="Delaywatch",
        MetricName=name,
        Dimensions=[mine],
        StartTime="2020-01-01T00:00:00Z",
        EndTime="2099-01-01T00:00:00Z",
        Period=86400 * 365 * 100,
        Statistics=["Maximum"],
    )
    return [point["Maximum"] for point in data["Datapoints"]]


@pytest.mark.slow
@pytest.mark.parametrize(("exit_code", "unhealthy"), [(0, 0.0), (1, 1.0)])
def test_failed_runs_and_health_reach_cloudwatch_from_a_stand_in_for_docker(
    measuring: Host, aws: Client, tmp_path: Path, exit_code: int, unhealthy: float
) -> None:
    _program(tmp_path / "bin/docker", f'case "$*" in *psql*) echo 3 ;; *"utils health"*) exit {exit_code} ;; esac')

    done = measuring("watch")

    assert done.returncode == 0, done.stderr
    assert _metric(aws, tmp_path, "FailedRuns") == [3.0]
    assert _metric(aws, tmp_path, "Unhealthy") == [unhealthy]


@pytest.mark.slow
def test_a_number_that_cannot_be_had_from_a_stand_in_for_docker_is_not_sent(
    measuring: Host, aws: Client, tmp_path: Path
) -> None:
    _program(tmp_path / "bin/docker", "exit 1")

    done = measuring("watch")

    assert done.returncode == 1
    assert "does not say how many runs failed" in done.stderr
    assert _metric(aws, tmp_path, "FailedRuns") == []


@pytest.mark.slow
def test_a_backup_of_a_stand_in_for_the_stack_reaches_the_bucket(measuring: Host, aws: Client, tmp_path: Path) -> None:
    script = tmp_path / "opt/current/stack/backup.sh"
    _program(script, 'echo all >"$(dirname "$0")/../backups/delaywatch-20260101T000000Z.tar"')

    done = measuring("backup")

    assert done.returncode == 0, done.stderr
    kept = aws("s3").get_object(Bucket=BUCKET, Key="backups/delaywatch-20260101T000000Z.tar")["Body"].read()
    assert kept == b"all\n"
    assert _metric(aws, tmp_path, "Backups") == [1.0]


@pytest.mark.slow
def test_a_backup_that_fails_is_not_counted(measuring: Host, aws: Client, tmp_path: Path) -> None:
    _program(tmp_path / "opt/current/stack/backup.sh", "exit 1")

    done = measuring("backup")

    assert done.returncode == 1
    assert _metric(aws, tmp_path, "Backups") == []
