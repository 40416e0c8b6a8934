"""Run host.sh and UserData on a machine that is a folder, with stand-ins for aws, docker, packages and systemctl.

Packages, agent and units on a real Ubuntu are not tested.
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
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from stack.settings import StackSettings
from tests.integration.cloud import templates
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
        script = templates.user_data(Domain=domain, **values)[kind]
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


# --- .env -------------------------------------------------------------------------------------------------------------


def test_env_names_lake_warehouse_logs_and_the_trusted_layer_at_aws(machine: Machine) -> None:
    machine.secret("host/host/settings", {"DELAYWATCH_ADMIN_PASSWORD": "a long $password"})
    form = {line.partition("=")[0] for line in (ROOT / ".env.example").read_text().splitlines() if line[:1] not in "#"}
    subnets = templates.of_type(templates.load("network")["Resources"], "EC2::Subnet")

    env = read_env(machine.run("settings").stdout)

    settings = StackSettings.from_environment(env)
    assert set(env) <= form, "`setup` refuses other names"
    assert not settings.is_lake_local
    assert (settings.host, settings.region, settings.endpoint) == ("delays.example.com", REGION, None)
    assert settings.logs == f"s3://{BUCKET}/logs"
    assert settings.aws_access_key_id is None, "the role decides"
    assert env["DELAYWATCH_ADMIN_PASSWORD"] == "a long $password"
    url = make_url(env["DELAYWATCH_WAREHOUSE"])
    assert (url.password, url.host, url.query["sslmode"]) == (WAREHOUSE["password"], WAREHOUSE["host"], "require")
    trusted = ipaddress.ip_network(env["DELAYWATCH_TRUSTED_PROXY"])
    names = {name for name, given in subnets if trusted.overlaps(ipaddress.ip_network(given["CidrBlock"]))}
    assert names == {"PublicA", "PublicB"}
    kwargs = json.loads(env["AIRFLOW_SECRETS_BACKEND_KWARGS"])
    assert kwargs["connections_prefix"] == "host/connections"
    assert all(re.match(kwargs["connections_lookup_pattern"], name) for name in ("warehouse", "smtp_default"))
    assert kwargs["extra_conn_words"] == {"schema": ["dbname"]}, "the key that RDS writes"


@pytest.mark.parametrize(
    ("secret", "content"),
    [
        ("host/host/settings", "no JSON, hunter2"),
        ("host/host/settings", {"NAME": "hunter2\nhunter2"}),
        ("host/connections/warehouse", {"username": "delaywatch", "password": "hunter2"}),  # before RDS completes it
    ],
)
def test_an_unusable_secret_is_refused_by_name_without_its_content(machine: Machine, secret: str, content: Any) -> None:
    machine.secret(secret, content)

    done = machine.run("settings")

    assert (done.returncode, done.stdout) == (1, "")
    assert f"the secret {secret} " in done.stderr
    assert "hunter2" not in done.stderr


# --- Releases ---------------------------------------------------------------------------------------------------------


def test_later_releases_upgrade_share_the_backups_and_three_are_kept(machine: Machine) -> None:
    machine.run("release", machine.archive("v1", up=f"touch backups/{BACKUP}"))

    for name in ("v2", "v3", "v4"):
        assert machine.run("release", machine.archive(name, up="exit 1")).returncode == 0

    assert machine.current == "v4"
    assert machine.log.count("upgrade") == 3
    assert (machine.opt / "current/backups" / BACKUP).exists()
    kept = {path.name.rpartition("-")[0] for path in (machine.opt / "releases").iterdir()}
    assert kept == {"v2", "v3", "v4"}


@pytest.mark.parametrize("name", ["v2", "absent"])
def test_the_old_release_stays_if_the_new_one_is_absent_or_does_not_start(machine: Machine, name: str) -> None:
    machine.run("release", machine.archive("v1"))
    machine.archive("v2", upgrade="exit 1")

    done = machine.run("release", f"releases/{name}.tar.gz")

    assert done.returncode == 1
    assert name in done.stderr
    assert machine.current == "v1"


def test_a_boot_reads_secrets_and_domain_again(machine: Machine) -> None:
    machine.run("release", machine.archive("v1"))
    machine.secret("host/connections/warehouse", WAREHOUSE | {"password": "rotated"})
    machine.boot_script("text/cloud-boothook", domain="flights.example.com")

    done = machine.run("start")

    assert done.returncode == 0, done.stderr
    assert machine.log.count("up") == 2
    assert ":rotated@" in machine.env["DELAYWATCH_WAREHOUSE"]
    assert machine.env["DELAYWATCH_HOST"] == "flights.example.com"


# --- CloudWatch and backups -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("database", "health", "metrics"),
    [
        ("echo 3", "exit 0", {"FailedRuns": "3", "Unhealthy": "0"}),
        ("echo 3", "exit 1", {"FailedRuns": "3", "Unhealthy": "1"}),
        ("exit 1", "exit 1", {}),  # the alarm notices the missing metric
    ],
)
def test_failed_runs_and_health_reach_cloudwatch_if_the_database_answers(
    machine: Machine, database: str, health: str, metrics: dict[str, str]
) -> None:
    machine.run("release", machine.archive("v1"))
    command = "compose exec -T health python -m utils health"  # only this service has all settings that health needs
    machine.program("docker", f'case "$*" in *psql*) {database} ;; "{command}") {health} ;; *) exit 9 ;; esac')

    done = machine.run("watch")

    assert done.returncode == (0 if metrics else 1), done.stderr
    assert machine.metrics == metrics


def test_a_backup_is_counted_when_it_is_in_the_bucket(machine: Machine) -> None:
    machine.run("release", machine.archive("v1", backup=f"echo all >backups/{BACKUP}"))
    (machine.bucket / "backups").write_text("a file in place of the folder")

    assert machine.run("backup").returncode != 0
    assert machine.metrics == {}

    (machine.bucket / "backups").unlink()
    assert machine.run("backup").returncode == 0
    assert (machine.bucket / "backups" / BACKUP).read_text() == "all\n"
    assert machine.metrics == {"Backups": "1"}


# --- The machine ------------------------------------------------------------------------------------------------------


def test_an_agent_with_a_good_signature_of_somebody_else_is_not_installed(machine: Machine) -> None:
    machine.program("gpg", f'case "$*" in *--verify*) echo "[GNUPG:] VALIDSIG {"0" * 40} 2 3 {"0" * 40}" ;; esac')

    done = machine.run("install", machine.archive("v1"))

    assert done.returncode == 1
    assert "CloudWatch agent" in done.stderr
    assert not [line for line in machine.log if line.startswith("dpkg")]


def _steps(machine: Machine) -> list[str]:
    """What happened on the machine, in order."""
    words = {"dpkg": "agent", "up": "up", "upgrade": "upgrade", "backup": "backup"}
    signals = [line for line in machine.log if line.split()[0] in words or "signal-resource" in line]
    return [words.get(line.split()[0], line.split()[-1]) for line in signals]


def test_user_data_run_twice_makes_the_same_host(machine: Machine) -> None:
    machine.archive("v1")
    seen = []

    for _ in range(2):
        hook, script = machine.boot_script("text/cloud-boothook"), machine.boot_script("text/x-shellscript")
        assert (hook.returncode, script.returncode) == (0, 0), hook.stderr + script.stderr
        seen.append((machine.env, sorted(unit.read_text() for unit in (machine.folder / "units").iterdir())))

    assert seen[0] == seen[1]
    assert machine.current == "v1"
    assert (machine.opt / "current/.env").stat().st_mode & 0o777 == 0o600
    assert "systemctl enable delaywatch.service" in machine.log
    assert _steps(machine) == ["agent", "up", "backup", "SUCCESS", "upgrade", "backup", "SUCCESS"]
    assert "systemctl enable --now delaywatch-watch.timer delaywatch-backup.timer" in machine.log


def test_a_first_release_that_does_not_start_fails_the_stack(machine: Machine) -> None:
    machine.archive("v1", up="exit 1")

    done = machine.boot_script("text/x-shellscript")

    assert done.returncode == 1
    assert "v1" in done.stderr
    assert _steps(machine) == ["agent", "up", "FAILURE"]
