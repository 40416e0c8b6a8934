"""host.sh and UserData as far as they go without a host: the real AWS CLI against moto, stand-ins for docker, packages,
systemd, and for what the stack's own scripts do.

Each call of the AWS CLI takes a second, so most of it is slow. That packages, CloudWatch agent and units work on Ubuntu
at EC2 is not shown.
"""

from __future__ import annotations

import io
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from stack.settings import StackSettings
from tests.integration.cloud import stacks, templates
from tests.integration.cloud.conftest import PATH, REGION, ROOT, Client, cli

pytestmark = [
    pytest.mark.skipif(not shutil.which("jq"), reason="there is no jq on this machine; host.sh needs it"),
    pytest.mark.cloud,
]

SCRIPT = ROOT / "infra-notes/cloudformation/host.sh"
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
    for name in ("systemctl", "docker", "apt-get"):
        _program(folder / f"bin/{name}", f'echo "{name} $*"')
    own = cli(aws_url, folder) | {
        "PATH": f"{folder / 'bin'}:{PATH}",
        "DELAYWATCH_HOME": str(folder / "opt"),
        "DELAYWATCH_CONF": str(folder / "host.conf"),
        "DELAYWATCH_UNITS": str(folder / "units"),
        "DELAYWATCH_AGENT": str(folder / "bin/agent"),
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


def _archive(aws: Client, name: str, bucket: str = BUCKET, **lines: str) -> None:
    """Put a release into the bucket whose stack/NAME.sh are these lines; those that are not given fail."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(SCRIPT, "infra-notes/cloudformation/host.sh")
        for script in ("up", "upgrade", "backup"):
            content = f'#!/usr/bin/env bash\ncd "$(dirname "$0")/.."\n{lines.get(script, "exit 1")}\n'.encode()
            entry = tarfile.TarInfo(f"stack/{script}.sh")
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    aws("s3").put_object(Bucket=bucket, Key=f"releases/{name}.tar.gz", Body=packed.getvalue())


def _current(tmp_path: Path) -> str:
    return (tmp_path / "opt/current").resolve().name.rpartition("-")[0]


# --- .env -------------------------------------------------------------------------------------------------------------


def test_the_settings_are_those_of_a_stack_whose_lake_and_warehouse_are_elsewhere(env: dict[str, str]) -> None:
    found = StackSettings.from_environment(env)

    assert not found.is_lake_local
    assert (found.host, found.region, found.endpoint) == ("delays.example.com", REGION, None)
    assert found.logs == f"s3://{BUCKET}/logs"
    assert found.aws_access_key_id is None  # the role decides


def test_nginx_believes_the_load_balancer_about_who_the_client_is(env: dict[str, str]) -> None:
    network = templates.load("network")["Resources"]
    believed = ipaddress.ip_network(env["DELAYWATCH_TRUSTED_PROXY"])

    of_layer = {
        name: ipaddress.ip_network(given["CidrBlock"]) for name, given in templates.of_type(network, "EC2::Subnet")
    }

    assert {name for name, subnet in of_layer.items() if subnet.overlaps(believed)} == {"PublicA", "PublicB"}


def test_every_line_of_env_is_one_of_the_form(env: dict[str, str]) -> None:
    """`setup` refuses a name that the form does not have."""
    form = {line.partition("=")[0] for line in (ROOT / ".env.example").read_text().splitlines() if line[:1] not in "#"}

    assert set(env) <= form


def test_a_password_of_any_characters_arrives_at_postgres_as_it_is(env: dict[str, str]) -> None:
    url = make_url(env["DELAYWATCH_WAREHOUSE"])

    assert url.password == WAREHOUSE["password"]
    assert (url.username, url.host, url.port, url.database) == ("delaywatch", "db.example.internal", 5432, "warehouse")
    assert url.query["sslmode"] == "require"


# In a process of its own: Airflow reads its settings when it is imported, and other tests give it others.
LOOK_UP = """
import json, sys
from airflow.providers.amazon.aws.secrets.secrets_manager import SecretsManagerBackend
kwargs, names = json.loads(sys.argv[1])
backend = SecretsManagerBackend(**kwargs)
found = {name: json.loads(backend.get_conn_value(name) or "null") for name in names}
print(json.dumps(found))
"""


def test_airflow_finds_its_connections_in_secrets_manager(
    env: dict[str, str], aws: Client, aws_url: str, tmp_path: Path
) -> None:
    _put_secret(aws, "host/connections/warehouse", WAREHOUSE)
    _put_secret(aws, "host/connections/alert_webhook", {"conn_type": "http", "host": "https://hooks.example.com"})
    keys = {"endpoint_url": aws_url, "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    given = json.loads(env["AIRFLOW_SECRETS_BACKEND_KWARGS"]) | keys
    asked = json.dumps([given, ["warehouse", "alert_webhook", "aws_default"]])
    environ = {"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path)}

    done = subprocess.run([sys.executable, "-c", LOOK_UP, asked], env=environ, capture_output=True, check=True)

    found = json.loads(done.stdout.splitlines()[-1])
    warehouse = found["warehouse"]
    assert warehouse["conn_type"] == "postgres"
    assert (warehouse["login"], warehouse["password"]) == ("delaywatch", WAREHOUSE["password"])
    assert (warehouse["host"], warehouse["port"], warehouse["schema"]) == ("db.example.internal", 5432, "warehouse")
    assert found["alert_webhook"]["host"] == "https://hooks.example.com"
    assert found["aws_default"] is None


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
    asks = "compose exec -T health python -m utils health"  # of no other service: the rest lack some of its settings
    _program(tmp_path / "bin/docker", f'case "$*" in *psql*) echo 3 ;; "{asks}") exit {exit_code} ;; *) exit 9 ;; esac')

    done = measuring("watch")

    assert done.returncode == 0, done.stderr
    assert _metric(aws, tmp_path, "FailedRuns") == [3.0]
    assert _metric(aws, tmp_path, "Unhealthy") == [unhealthy], done.stderr


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


# --- the machine ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd on this machine")
def test_systemd_understands_every_line_of_the_units(host: Host, tmp_path: Path) -> None:
    script = tmp_path / "opt/current/infra-notes/cloudformation/host.sh"
    _program(script, "exit 0")

    done = host("units")

    units = sorted(map(str, (tmp_path / "units").iterdir()))
    verify = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units]
    said = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(units) == 5
    assert said.stderr == ""
    assert "systemctl enable delaywatch.service" in done.stdout
    assert "systemctl enable --now delaywatch-watch.timer delaywatch-backup.timer" in done.stdout


@pytest.mark.skipif(not shutil.which("gpg"), reason="there is no gpg on this machine")
def test_an_agent_that_somebody_else_than_aws_has_signed_is_not_installed_with_a_stand_in_for_curl(
    host: Host, tmp_path: Path
) -> None:
    """gpg is the real one, and the signature is good."""
    with tempfile.TemporaryDirectory() as home:  # its sockets want a short path
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", ""]
        (tmp_path / "amazon-cloudwatch-agent.deb").write_text("not AWS's")
        for command in (
            [*gpg, "--quick-generate-key", "Somebody", "ed25519", "sign"],
            [*gpg, "--detach-sign", "--output", "amazon-cloudwatch-agent.deb.sig", "amazon-cloudwatch-agent.deb"],
            [*gpg, "--export", "--output", "amazon-cloudwatch-agent.gpg"],
            ["gpgconf", "--homedir", home, "--kill", "all"],
        ):
            subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    _program(tmp_path / "bin/curl", f'cp "{tmp_path}/$(basename "${{@: -1}}")" "$3"')
    _program(tmp_path / "bin/dpkg", f'touch "{tmp_path}/installed"')

    done = host("install", "releases/v1.tar.gz")

    assert done.returncode == 1
    assert "the CloudWatch agent is not signed by AWS; it was not installed." in done.stderr
    assert not (tmp_path / "installed").exists()


Boot = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def boot(tmp_path: Path, host: Host, aws: Client, aws_url: str, image: str, certificate: str) -> Iterator[Boot]:
    """Run a part of the UserData of a stack as cloud-init does; `DOMAIN` is what the stack's parameter was changed to.

    On the machine of `host`: its paths stand where UserData has its own, and packages, agent and metadata service are
    stand-ins that write what they are told into `log`.
    """
    made = stacks.create(aws, "boot", image, certificate)
    _put_secret(aws, "boot/connections/warehouse", WAREHOUSE)
    told = stacks.parts(stacks.user_data(aws, made))
    told["start"] = f'"{tmp_path}/opt/current/infra-notes/cloudformation/host.sh" start'  # what systemd does then
    log, program = tmp_path / "log", shutil.which("aws", path=PATH)
    scripts = {name: f'echo {name} >>"{log}"' for name in ("up", "upgrade")}
    scripts["backup"] = f'echo backup >>"{log}"; touch "backups/delaywatch-$(date +%s).tar"'
    _archive(aws, "v1", made("data", "Lake"), **scripts)
    _program(tmp_path / "bin/snap", "exit 0")
    _program(
        tmp_path / "bin/curl",
        'case "$*" in *token*) echo token ;; *instance-id*) echo i-1 ;; esac',
        'for word in "$@"; do [ "${before:-}" != -o ] || touch "$word"; before=$word; done',
    )
    _program(tmp_path / "bin/gpg", 'case "$*" in *--verify*) echo "[GNUPG:] VALIDSIG 1 2 3 $AGENT_KEY" ;; esac')
    _program(
        tmp_path / "bin/dpkg",
        f'echo dpkg >>"{log}"',
        f'printf "#!/bin/sh\\necho agent" >"{tmp_path}/bin/agent"; chmod 755 "{tmp_path}/bin/agent"',
    )
    # moto does not know this call, which tells CloudFormation whether the host is ready.
    _program(
        tmp_path / "bin/aws",
        f'case "$*" in *signal-resource*) echo "${{@: -1}}" >>"{log}" ;; *) exec "{program}" "$@" ;; esac',
    )
    (key,) = re.findall(r"^AGENT_KEY=(\w+)", SCRIPT.read_text(), re.MULTILINE)
    own = cli(aws_url, tmp_path) | {
        "PATH": f"{tmp_path / 'bin'}:{PATH}",
        "DELAYWATCH_HOME": str(tmp_path / "opt"),
        "DELAYWATCH_CONF": str(tmp_path / "etc/host.conf"),
        "DELAYWATCH_UNITS": str(tmp_path / "units"),
        "DELAYWATCH_AGENT": str(tmp_path / "bin/agent"),
        "AGENT_KEY": key,
    }

    def run(kind: str, domain: str = stacks.DOMAIN) -> subprocess.CompletedProcess[str]:
        script = told[kind].replace("/etc/delaywatch", str(tmp_path / "etc")).replace("=/root ", f"={tmp_path} ")
        script = script.replace(stacks.DOMAIN, domain)
        return subprocess.run(["bash", "-c", script], env=own, capture_output=True, text=True, check=False)

    yield run
    stacks.delete(aws, made)


@pytest.mark.slow
def test_user_data_run_twice_makes_the_same_host_with_stand_ins_for_packages_and_docker(
    boot: Boot, tmp_path: Path
) -> None:
    env, seen = tmp_path / "opt/current/.env", []

    for _ in range(2):
        hook, script = boot("text/cloud-boothook"), boot("text/x-shellscript")
        assert (hook.returncode, script.returncode) == (0, 0), hook.stderr + script.stderr
        seen.append((env.read_text(), sorted(unit.read_text() for unit in (tmp_path / "units").iterdir())))

    assert seen[0] == seen[1]
    assert _current(tmp_path) == "v1"
    log = (tmp_path / "log").read_text().split()
    assert log == ["dpkg", "up", "backup", "SUCCESS", "upgrade", "backup", "SUCCESS"]


@pytest.mark.slow
def test_a_first_release_that_does_not_start_fails_the_stack_with_stand_ins_for_packages_and_docker(
    boot: Boot, aws: Client, tmp_path: Path
) -> None:
    bucket = stacks.Stacks(aws, "boot")("data", "Lake")
    _archive(aws, "v1", bucket, up="exit 1")
    boot("text/cloud-boothook")

    done = boot("text/x-shellscript")

    assert done.returncode == 1
    assert "v1 did not start" in done.stderr
    assert (tmp_path / "log").read_text().split() == ["dpkg", "FAILURE"]


@pytest.mark.slow
def test_a_new_domain_counts_from_the_next_boot_on_with_stand_ins_for_packages_and_docker(
    boot: Boot, tmp_path: Path
) -> None:
    boot("text/cloud-boothook")
    boot("text/x-shellscript")

    hook, start = boot("text/cloud-boothook", domain="flights.example.com"), boot("start")

    assert (hook.returncode, start.returncode) == (0, 0), hook.stderr + start.stderr
    assert _read((tmp_path / "opt/current/.env").read_text())["DELAYWATCH_HOST"] == "flights.example.com"
