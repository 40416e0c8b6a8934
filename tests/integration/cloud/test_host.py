"""Run host.sh and UserData on a machine that is a folder, with stand-ins for aws, docker, packages and systemctl.

One slow test uses the real AWS CLI against moto. Packages, agent and units on a real Ubuntu are not tested.
"""

from __future__ import annotations

import io
import ipaddress
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from stack.settings import StackSettings
from tests.integration.cloud import templates
from tests.integration.cloud.conftest import PATH, Client, cli_environment
from tests.integration.cloud.templates import FOLDER, REGION

pytestmark = [
    pytest.mark.skipif(not shutil.which("jq"), reason="this machine has no jq, which host.sh needs"),
    pytest.mark.cloud,
]

ROOT = FOLDER.parents[1]
SCRIPT = FOLDER / "host.sh"
BUCKET = "host-lake"
# What RDS writes into the secret when it is attached to a database; a URL must escape some of these characters.
WAREHOUSE = {
    "username": "delaywatch",
    "password": "p@ss:w/o?r#d%'$HOME",
    "engine": "postgres",
    "host": "db.example.internal",
    "port": 5432,
    "dbname": "warehouse",
}
SECRETS: dict[str, Any] = {"host/connections/warehouse": WAREHOUSE, "host/host/settings": {}}
BACKUP = "delaywatch-20260101T000000Z.tar"
Done = subprocess.CompletedProcess[str]


class Machine:
    """The folder has opt/ for /opt/delaywatch, units/ for systemd, bin/, bucket/, secrets/ and log of the stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.opt, self.bucket = folder, folder / "opt", folder / "bucket"
        for name in ("opt", "units", "bin", "bucket/releases", "secrets"):
            (folder / name).mkdir(parents=True)
        (agent_key,) = re.findall(r"^AGENT_KEY=(\w+)", SCRIPT.read_text(), re.MULTILINE)
        for name in ("systemctl", "docker", "apt-get", "snap"):
            self.program(name, f'echo "{name} $*" >>"{folder}/log"')
        self.program(
            "aws",
            f"""case "$1 $2" in
    "secretsmanager get-secret-value") cat "{folder}/secrets/${{4//\\//-}}" ;;
    "s3 cp")
        [ "$5" != - ] || exec cat "{folder}/bucket/${{4#s3://*/}}"
        mkdir -p "$(dirname "{folder}/bucket/${{5#s3://*/}}")" && cp "$4" "{folder}/bucket/${{5#s3://*/}}" ;;
    "cloudwatch put-metric-data" | "cloudformation signal-resource") echo "aws $*" >>"{folder}/log" ;;
    *) exit 252 ;;
esac""",
        )
        self.program(
            "curl",
            f"""echo i-1
for word in "$@"; do [ "${{before:-}}" != -o ] || echo "{folder}" >"$word"; before=$word; done""",
        )
        self.program("gpg", f'case "$*" in *--verify*) echo "[GNUPG:] VALIDSIG 1 2 3 {agent_key}" ;; esac')
        self.program(
            "dpkg",
            f"""echo "dpkg $*" >>"{folder}/log"
printf "#!/bin/sh\\n" >"{folder}/bin/agent"; chmod 755 "{folder}/bin/agent" """,
        )
        self.environment = {
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "HOME": str(folder),
            "DELAYWATCH_HOME": str(self.opt),
            "DELAYWATCH_CONF": f"{folder}/etc/host.conf",
            "DELAYWATCH_UNITS": f"{folder}/units",
            "DELAYWATCH_AGENT": f"{folder}/bin/agent",
        }
        for name, content in SECRETS.items():
            self.secret(name, content)
        self.boot_script("text/cloud-boothook")  # it writes host.conf

    def program(self, name: str, body: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)

    def secret(self, name: str, content: Any) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        (self.folder / "secrets" / name.replace("/", "-")).write_text(text)

    def archive(self, name: str, **scripts: str) -> str:
        """Put a release into the bucket and return its key; its scripts log their name unless they are given."""
        scripts = {"backup": f"touch backups/{BACKUP}", **scripts}
        with tarfile.open(self.bucket / f"releases/{name}.tar.gz", "w:gz") as archive:
            archive.add(SCRIPT, "infra-notes/cloudformation/host.sh")
            for script in ("up", "upgrade", "backup"):
                body = f'cd "$(dirname "$0")/.."\necho {script} >>"{self.folder}/log"\n{scripts.get(script, "true")}\n'
                content = f"#!/usr/bin/env bash\n{body}".encode()
                entry = tarfile.TarInfo(f"stack/{script}.sh")
                entry.size, entry.mode = len(content), 0o755
                archive.addfile(entry, io.BytesIO(content))
        return f"releases/{name}.tar.gz"

    def run(self, *arguments: str) -> Done:
        return self._run(str(SCRIPT), *arguments)

    def boot_script(self, kind: str, domain: str = "delays.example.com") -> Done:
        """Run a part of UserData as cloud-init does, with the paths of this machine."""
        exports = {"Lake": BUCKET, "SecretsPrefix": "host"}
        exports |= {"WarehouseSecret": "host/connections/warehouse", "SettingsSecret": "host/host/settings"}
        values = {f"delaywatch-data-{name}": value for name, value in exports.items()}
        script = templates.scripts(templates.user_data(Domain=domain, **values))[kind]
        script = script.replace("/etc/delaywatch", f"{self.folder}/etc").replace("=/root ", f"={self.folder} ")
        return self._run("bash", "-c", script)

    def _run(self, *command: str) -> Done:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    @property
    def env(self) -> dict[str, str]:
        return read_env((self.opt / "current/.env").read_text())

    @property
    def current(self) -> str:
        return (self.opt / "current").resolve().name.rpartition("-")[0]

    @property
    def log(self) -> list[str]:
        return (self.folder / "log").read_text().splitlines()

    @property
    def metrics(self) -> dict[str, str]:
        sent = r"MetricName=(\w+),Value=(\d+),Dimensions=\[{Name=InstanceId,Value=i-1}\]"
        lines = [line for line in self.log if "put-metric-data --namespace Delaywatch" in line]
        return dict(re.findall(sent, "\n".join(lines)))


def read_env(text: str) -> dict[str, str]:
    """Read a .env as Compose does, which takes single-quoted text as it is."""
    pairs = [line.partition("=")[::2] for line in text.splitlines() if line and not line.startswith("#")]
    return {name: value.removeprefix("'").removesuffix("'") for name, value in pairs}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    done = Machine(tmp_path_factory.mktemp("host")).run("settings")
    assert done.returncode == 0, done.stderr
    return read_env(done.stdout)


# --- .env -------------------------------------------------------------------------------------------------------------


def test_the_stack_reads_lake_warehouse_and_logs_at_aws_from_env(env: dict[str, str]) -> None:
    settings = StackSettings.from_environment(env)
    form = {line.partition("=")[0] for line in (ROOT / ".env.example").read_text().splitlines() if line[:1] not in "#"}

    assert set(env) <= form  # `setup` refuses other names
    assert not settings.is_lake_local
    assert (settings.host, settings.region, settings.endpoint) == ("delays.example.com", REGION, None)
    assert settings.logs == f"s3://{BUCKET}/logs"
    assert settings.aws_access_key_id is None  # the role decides


def test_nginx_trusts_the_public_layer_only(env: dict[str, str]) -> None:
    subnets = templates.of_type(templates.load("network")["Resources"], "EC2::Subnet")
    trusted = ipaddress.ip_network(env["DELAYWATCH_TRUSTED_PROXY"])

    names = {name for name, given in subnets if trusted.overlaps(ipaddress.ip_network(given["CidrBlock"]))}

    assert names == {"PublicA", "PublicB"}


def test_a_password_of_any_characters_reaches_postgres_unchanged(env: dict[str, str]) -> None:
    url = make_url(env["DELAYWATCH_WAREHOUSE"])

    assert url.password == WAREHOUSE["password"]
    assert (url.username, url.host, url.port, url.database) == ("delaywatch", "db.example.internal", 5432, "warehouse")
    assert url.query["sslmode"] == "require"


def test_airflow_looks_up_its_own_connections_and_the_database_name_of_rds(env: dict[str, str]) -> None:
    """tests/dag/test_secrets_manager.py reads a connection with such a backend."""
    kwargs = json.loads(env["AIRFLOW_SECRETS_BACKEND_KWARGS"])
    connections = ("warehouse", "smtp_default", "alert_webhook", "aws_default")

    looked_up = [name for name in connections if re.match(kwargs["connections_lookup_pattern"], name)]

    assert looked_up == ["warehouse", "smtp_default", "alert_webhook"]  # each other one would cost a request
    assert kwargs["connections_prefix"] == "host/connections"
    assert kwargs["variables_prefix"] == "host/variables"
    assert kwargs["extra_conn_words"] == {"schema": ["dbname"]}


def test_the_settings_secret_adds_variables_to_env(machine: Machine) -> None:
    machine.secret("host/host/settings", {"DELAYWATCH_ADMIN_PASSWORD": "a long $password", "DELAYWATCH_THREADS": 2})

    env = read_env(machine.run("settings").stdout)

    assert env["DELAYWATCH_ADMIN_PASSWORD"] == "a long $password"
    assert env["DELAYWATCH_THREADS"] == "2"


@pytest.mark.parametrize(
    ("secret", "content"),
    [
        ("host/host/settings", "no JSON, hunter2"),
        ("host/host/settings", {"NAME": "hunter2'"}),
        ("host/host/settings", {"NAME": "hunter2\nhunter2"}),
        ("host/connections/warehouse", {"username": "delaywatch", "password": "hunter2"}),  # before RDS completes it
    ],
)
def test_an_unusable_secret_is_refused_by_name_without_its_content(machine: Machine, secret: str, content: Any) -> None:
    machine.secret(secret, content)

    done = machine.run("settings")

    assert done.returncode == 1
    assert f"the secret {secret} " in done.stderr
    assert "hunter2" not in done.stderr
    assert done.stdout == ""


# --- Releases ---------------------------------------------------------------------------------------------------------


def test_the_first_release_starts_with_its_env_and_becomes_current(machine: Machine) -> None:
    release = machine.archive("v1", up="grep -q DELAYWATCH_LOCAL=0 .env")

    done = machine.run("release", release)

    assert done.returncode == 0, done.stderr
    assert machine.current == "v1"
    assert "systemctl enable delaywatch.service" in machine.log
    unit = (machine.folder / "units/delaywatch.service").read_text()
    assert f"ExecStart={machine.opt}/current/infra-notes/cloudformation/host.sh start" in unit
    assert (machine.opt / "current/.env").stat().st_mode & 0o777 == 0o600


def test_later_releases_upgrade_share_the_backups_and_three_are_kept(machine: Machine) -> None:
    machine.run("release", machine.archive("v1", up=f"touch backups/{BACKUP}"))

    for name in ("v2", "v3", "v4"):
        assert machine.run("release", machine.archive(name, up="exit 1")).returncode == 0

    assert machine.current == "v4"
    assert machine.log.count("upgrade") == 3
    assert (machine.opt / "current/backups" / BACKUP).exists()
    kept = {path.name.rpartition("-")[0] for path in (machine.opt / "releases").iterdir()}
    assert kept == {"v2", "v3", "v4"}


def test_a_reboot_starts_the_old_release_if_the_new_one_did_not_start(machine: Machine) -> None:
    machine.run("release", machine.archive("v1"))

    done = machine.run("release", machine.archive("v2", upgrade="exit 1"))

    assert done.returncode == 1
    assert re.search("v2 .*v1", done.stderr)
    assert machine.current == "v1"


@pytest.mark.parametrize("release", ["releases/absent.tar.gz", "v1", "releases/../v1.zip"])
def test_a_release_that_cannot_be_fetched_changes_nothing(machine: Machine, release: str) -> None:
    machine.run("release", machine.archive("v1"))

    done = machine.run("release", release)

    assert done.returncode == 1
    assert f"Delaywatch: {release} " in done.stderr
    assert [path.name.rpartition("-")[0] for path in (machine.opt / "releases").iterdir()] == ["v1"]


def test_a_boot_reads_the_secrets_again(machine: Machine) -> None:
    machine.run("release", machine.archive("v1"))
    machine.secret("host/connections/warehouse", WAREHOUSE | {"password": "rotated"})

    done = machine.run("start")

    assert done.returncode == 0, done.stderr
    assert machine.log.count("up") == 2
    assert ":rotated@" in machine.env["DELAYWATCH_WAREHOUSE"]


def test_a_boot_before_any_release_names_the_command(machine: Machine) -> None:
    done = machine.run("start")

    assert done.returncode == 1
    assert "host.sh release" in done.stderr


# --- CloudWatch and backups -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exit_code", ["0", "1"])
def test_failed_runs_and_health_reach_cloudwatch(machine: Machine, exit_code: str) -> None:
    machine.run("release", machine.archive("v1"))
    health = "compose exec -T health python -m utils health"  # only this service has all settings that health needs
    machine.program("docker", f'case "$*" in *psql*) echo 3 ;; "{health}") exit {exit_code} ;; *) exit 9 ;; esac')

    done = machine.run("watch")

    assert done.returncode == 0, done.stderr
    assert machine.metrics == {"FailedRuns": "3", "Unhealthy": exit_code}


def test_no_metric_is_sent_without_an_answer_of_the_database(machine: Machine) -> None:
    machine.run("release", machine.archive("v1"))
    machine.program("docker", "exit 1")

    done = machine.run("watch")

    assert done.returncode == 1
    assert done.stderr
    assert machine.metrics == {}  # the alarm notices the missing metric


def test_a_backup_reaches_the_bucket_and_is_counted(machine: Machine) -> None:
    machine.run("release", machine.archive("v1", backup=f"echo all >backups/{BACKUP}"))

    done = machine.run("backup")

    assert done.returncode == 0, done.stderr
    assert (machine.bucket / "backups" / BACKUP).read_text() == "all\n"
    assert machine.metrics == {"Backups": "1"}


@pytest.mark.parametrize("broken", ["stack", "upload"])
def test_a_failed_backup_is_not_counted(machine: Machine, broken: str) -> None:
    machine.run("release", machine.archive("v1", backup="exit 1" if broken == "stack" else f"touch backups/{BACKUP}"))
    if broken == "upload":
        (machine.bucket / "backups").write_text("a file in place of the folder")

    done = machine.run("backup")

    assert done.returncode != 0
    assert machine.metrics == {}


# --- The machine ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this machine has no systemd")
def test_systemd_accepts_the_units(machine: Machine) -> None:
    machine.run("release", machine.archive("v1"))
    units = sorted(map(str, (machine.folder / "units").iterdir()))

    verify = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert len(units) == 5
    assert "systemctl enable --now delaywatch-watch.timer delaywatch-backup.timer" in machine.log


@pytest.mark.skipif(not shutil.which("gpg"), reason="this machine has no gpg")
def test_an_agent_with_a_valid_signature_of_another_key_is_not_installed(machine: Machine) -> None:
    (machine.folder / "bin/gpg").unlink()
    with tempfile.TemporaryDirectory() as home:  # the sockets of gpg need a short path
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", ""]
        (machine.folder / "amazon-cloudwatch-agent.deb").write_text("not of AWS")
        for command in (
            [*gpg, "--quick-generate-key", "Another person", "ed25519", "sign"],
            [*gpg, "--detach-sign", "--output", "amazon-cloudwatch-agent.deb.sig", "amazon-cloudwatch-agent.deb"],
            [*gpg, "--export", "--output", "amazon-cloudwatch-agent.gpg"],
            ["gpgconf", "--homedir", home, "--kill", "all"],
        ):
            subprocess.run(command, cwd=machine.folder, capture_output=True, check=True)
    machine.program("curl", f'cp "{machine.folder}/$(basename "${{@: -1}}")" "$3"')

    done = machine.run("install", machine.archive("v1"))

    assert done.returncode == 1
    assert "CloudWatch agent" in done.stderr
    assert not [line for line in machine.log if line.startswith("dpkg")]


def _steps(machine: Machine) -> list[str]:
    """What happened on the machine, in order."""
    words = {"dpkg": "agent", "up": "up", "upgrade": "upgrade", "backup": "backup"}
    signals = [line for line in machine.log if line.split()[0] in words or "signal-resource" in line]
    return [words.get(line.split()[0], line.split()[-1]) for line in signals]


@pytest.mark.parametrize("cli", ["stand-in", pytest.param("real", marks=pytest.mark.slow)])
def test_user_data_run_twice_makes_the_same_host(machine: Machine, request: pytest.FixtureRequest, cli: str) -> None:
    machine.archive("v1")
    if cli == "real":
        _use_the_real_aws_cli(machine, request.getfixturevalue("aws"), request.getfixturevalue("moto_url"))
    seen = []

    for _ in range(2):
        hook, script = machine.boot_script("text/cloud-boothook"), machine.boot_script("text/x-shellscript")
        assert (hook.returncode, script.returncode) == (0, 0), hook.stderr + script.stderr
        seen.append((machine.env, sorted(unit.read_text() for unit in (machine.folder / "units").iterdir())))

    assert seen[0] == seen[1]
    assert machine.current == "v1"
    assert _steps(machine) == ["agent", "up", "backup", "SUCCESS", "upgrade", "backup", "SUCCESS"]
    if cli == "real":
        metrics = request.getfixturevalue("aws")("cloudwatch").list_metrics(Namespace="Delaywatch")["Metrics"]
        assert {metric["MetricName"] for metric in metrics} == {"Backups"}
        request.getfixturevalue("aws")("s3").head_object(Bucket=BUCKET, Key=f"backups/{BACKUP}")


def _use_the_real_aws_cli(machine: Machine, aws: Client, moto_url: str) -> None:
    """Copy bucket and secrets to moto, which lacks only the call that signals CloudFormation."""
    aws("s3").create_bucket(Bucket=BUCKET)
    aws("s3").upload_file(str(machine.bucket / "releases/v1.tar.gz"), BUCKET, "releases/v1.tar.gz")
    existing = {secret["Name"] for secret in aws("secretsmanager").list_secrets()["SecretList"]}
    for name, content in SECRETS.items():
        if name not in existing:
            aws("secretsmanager").create_secret(Name=name, SecretString=json.dumps(content))
    program = shutil.which("aws", path=PATH)
    machine.program(
        "aws",
        f"""case "$*" in
    *signal-resource*) echo "aws $*" >>"{machine.folder}/log" ;;
    *) exec "{program}" "$@" ;;
esac""",
    )
    machine.environment = cli_environment(moto_url, machine.folder) | machine.environment


def test_a_first_release_that_does_not_start_fails_the_stack(machine: Machine) -> None:
    machine.archive("v1", up="exit 1")

    done = machine.boot_script("text/x-shellscript")

    assert done.returncode == 1
    assert "v1" in done.stderr
    assert _steps(machine) == ["agent", "up", "FAILURE"]


def test_a_new_domain_counts_from_the_next_boot(machine: Machine) -> None:
    machine.run("release", machine.archive("v1"))

    machine.boot_script("text/cloud-boothook", domain="flights.example.com")
    done = machine.run("start")

    assert done.returncode == 0, done.stderr
    assert machine.env["DELAYWATCH_HOST"] == "flights.example.com"
