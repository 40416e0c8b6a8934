"""Check what .github promises: rights of jobs, no stored secret, and what the scripts of the workflows do.

zizmor and the schema of GitHub check pins and form in `make check`; the roles at AWS are in test_templates.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.cloud.conftest import Client, cli_environment

pytestmark = pytest.mark.cloud

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".github/workflows"
TEXTS = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.yaml"))}
WORKFLOWS: dict[str, dict[Any, Any]] = {name: yaml.safe_load(text) for name, text in TEXTS.items()}
JOBS = {(workflow, name): job for workflow, content in WORKFLOWS.items() for name, job in content["jobs"].items()}
RUNS = {
    f"{workflow}/{step.get('name', f'{name} {number}')}": step["run"]
    for (workflow, name), job in JOBS.items()
    for number, step in enumerate(job.get("steps", []))
    if "run" in step
}
# The rights of a job beside reading the code. Each belongs to an environment, which a role at AWS trusts.
RIGHTS = {
    ("images", "publish"): ("images", {"id-token": "write", "packages": "write"}),
    ("deploy", "deploy"): ("production", {"id-token": "write"}),
    ("dags", "sync"): ("dags", {"id-token": "write"}),
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
Done = subprocess.CompletedProcess[str]


def run(step: str, folder: Path, **environment: str) -> Done:
    """Run a step as GitHub does, in `folder`; programs in its bin/ come before all others."""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", RUNS[step]],
        cwd=folder,
        env={"PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


# --- All workflows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job", JOBS, ids="/".join)
def test_a_job_has_only_the_rights_of_the_table(job: tuple[str, str]) -> None:
    environment, rights = RIGHTS.get(job, (None, {}))

    assert JOBS[job]["permissions"] == {"contents": "read"} | rights
    assert JOBS[job].get("environment") == environment
    assert WORKFLOWS[job[0]]["permissions"] == {}


@pytest.mark.parametrize(("workflow", "name"), RIGHTS)
def test_a_job_with_rights_waits_for_the_tests_and_never_runs_for_a_pull_request(workflow: str, name: str) -> None:
    triggers = set(WORKFLOWS[workflow][True])  # YAML 1.1 reads the key `on` as True

    assert JOBS[workflow, name]["needs"] == "test"
    assert JOBS[workflow, "test"]["uses"] == "./.github/workflows/test.yaml"
    assert triggers <= {"push", "workflow_dispatch"}


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_no_workflow_reads_a_stored_secret(workflow: str) -> None:
    assert "secrets" not in TEXTS[workflow]


@pytest.mark.parametrize("step", RUNS)
def test_shellcheck_accepts_every_step(step: str) -> None:
    command = [str(Path(sys.executable).with_name("shellcheck")), "--shell=bash", "-"]

    done = subprocess.run(command, input=RUNS[step], capture_output=True, text=True, check=False)

    assert done.stdout + done.stderr == ""


def test_the_readme_explains_every_variable() -> None:
    used = set(re.findall(r"\bvars\.(\w+)", "".join(TEXTS.values())))
    section = (FOLDER / "README.md").read_text().partition("## Variables")[2].partition("\n## ")[0]

    assert used == set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE))


# --- test.yaml --------------------------------------------------------------------------------------------------------


def make_targets(text: str) -> set[str]:
    commands = re.findall(r"^\s*make (.+)$", text, re.MULTILINE)
    return {word for command in commands for word in command.partition(" #")[0].split() if "=" not in word}


def test_the_workflow_runs_every_target_of_ci_run() -> None:
    demanded = make_targets((ROOT / ".ci/run").read_text())
    existing = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    started = make_targets("\n".join(script for step, script in RUNS.items() if step.startswith("test/")))

    assert demanded
    assert demanded <= started <= existing


def test_the_tests_run_on_every_supported_python() -> None:
    ((lowest, below),) = re.findall(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text())

    versions = JOBS["test", "test"]["strategy"]["matrix"]["python"]

    assert versions == [f"3.{minor}" for minor in range(int(lowest), int(below))]


# --- images.yaml ------------------------------------------------------------------------------------------------------


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that say how images are built."""
    for name in ("docker-compose.yaml", "superset/Dockerfile", "stack/airflow/Dockerfile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def target(clone: Path, registry: str, kind: str, name: str) -> tuple[Done, dict[str, str]]:
    """Return the result of the step and the variables that it sets for later steps."""
    variables = clone / "env"
    variables.touch()
    github = {"REF_TYPE": kind, "REF_NAME": name, "SHA": COMMIT, "ENV": str(variables), "REPOSITORY_OWNER": "Octo-Cat"}
    environment = {f"GITHUB_{key}": value for key, value in github.items()}
    done = run("images/Choose the registry and the version", clone, CHOSEN=registry, **environment)
    return done, dict(line.split("=", 1) for line in variables.read_text().splitlines())


VERSION = re.findall("delaywatch-airflow:(.+)", (ROOT / "docker-compose.yaml").read_text())[0]
ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team"


@pytest.mark.parametrize(
    ("registry", "kind", "name", "variables"),
    [
        ("", "branch", "main", {"REGISTRY": "ghcr.io/octo-cat", "VERSION": COMMIT[:12]}),
        (ECR, "tag", f"v{VERSION}", {"REGISTRY": ECR, "VERSION": VERSION}),
    ],
)
def test_a_branch_is_published_by_its_commit_and_a_tag_by_its_version(
    clone: Path, registry: str, kind: str, name: str, variables: dict[str, str]
) -> None:
    done, found = target(clone, registry, kind, name)

    assert done.returncode == 0, done.stderr
    assert found == variables


@pytest.mark.parametrize(
    ("registry", "kind", "name", "named"),
    [
        ("", "tag", "v99.1", "v99.1"),
        ("docker.io/octocat", "branch", "main", "REGISTRY"),
        ("evil.example/x.dkr.ecr.eu.amazonaws.com.evil.example", "branch", "main", "REGISTRY"),
    ],
)
def test_a_wrong_version_or_registry_is_refused(clone: Path, registry: str, kind: str, name: str, named: str) -> None:
    done, found = target(clone, registry, kind, name)

    assert done.returncode == 1
    assert done.stdout.startswith("::error::")
    assert named in done.stdout
    assert found == {}


def has_buildx() -> bool:
    docker = shutil.which("docker")
    command = [str(docker), "buildx", "version"]
    return bool(docker) and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not has_buildx() or not shutil.which("jq"), reason="this machine has no docker buildx or no jq")
def test_every_image_of_compose_is_pushed_with_provenance_and_sbom(clone: Path, tmp_path: Path) -> None:
    """buildx only plans here."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(f"""#!/bin/sh
case "$*" in
    *" --push "*) exec {shutil.which("docker")} "$@" --print >{tmp_path}/pushed-plan.json ;;
    "buildx bake "*) exec {shutil.which("docker")} "$@" ;;
esac
""")
    (tmp_path / "bin/docker").chmod(0o755)
    services = yaml.safe_load((clone / "docker-compose.yaml").read_text())["services"].values()
    names = {service["image"].split(":")[0] for service in services if "build" in service}
    github = {
        "GITHUB_SHA": COMMIT,
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "octocat/delaywatch",
    }

    done = run("images/Build and push", clone, REGISTRY="ghcr.io/octocat", VERSION="1.2.3", **github)

    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "pushed-plan.json").read_text())["target"].values()
    assert {tag for image in plan for tag in image["tags"]} == {f"ghcr.io/octocat/{name}:1.2.3" for name in names}
    for image in plan:
        assert image["output"] == ["type=image,push=true"]
        assert "type=provenance,mode=max" in image["attest"]
        assert any(entry.startswith("type=sbom") and "disabled=true" not in entry for entry in image["attest"])
        assert image["labels"]["org.opencontainers.image.revision"] == COMMIT


def test_the_login_reads_the_token_from_stdin(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/arguments; cat >{tmp_path}/password\n')
    (tmp_path / "bin/docker").chmod(0o755)

    run("images/Log in", tmp_path, REGISTRY="ghcr.io/octocat", GITHUB_ACTOR="octocat", TOKEN="s3cret")

    assert (tmp_path / "arguments").read_text() == "login ghcr.io --username octocat --password-stdin\n"
    assert (tmp_path / "password").read_text() == "s3cret\n"


# --- deploy.yaml ------------------------------------------------------------------------------------------------------


def test_a_deployment_names_the_missing_variable(tmp_path: Path) -> None:
    role = "arn:aws:iam::123456789012:role/x"

    done = run("deploy/Check the variables", tmp_path, AWS_ROLE=role, AWS_REGION="")

    assert done.returncode == 1
    assert "AWS_REGION" in done.stdout


def test_the_role_lasts_longer_than_deploy_waits_for_the_host() -> None:
    script = (ROOT / "infra-notes/cloudformation/deploy.sh").read_text()
    (patience_s,) = map(int, re.findall(r"^PATIENCE_S=(\d+)", script, re.MULTILINE))
    job = JOBS["deploy", "deploy"]

    (lasts_s,) = [
        step["with"]["role-duration-seconds"] for step in job["steps"] if "role-duration-seconds" in str(step)
    ]

    assert patience_s < min(lasts_s, job["timeout-minutes"] * 60)


# --- dags.yaml: the real AWS CLI against moto -------------------------------------------------------------------------


@pytest.fixture
def bucket(aws: Client) -> Iterator[str]:
    aws("s3").create_bucket(Bucket="mwaa")
    yield "mwaa"
    for key in keys(aws, "mwaa"):
        aws("s3").delete_object(Bucket="mwaa", Key=key)
    aws("s3").delete_bucket(Bucket="mwaa")


def keys(aws: Client, bucket: str) -> set[str]:
    return {entry["Key"] for entry in aws("s3").list_objects_v2(Bucket=bucket).get("Contents", [])}


def sync(folder: Path, aws_url: str, bucket: str, *names: str) -> Done:
    """Sync a dags/ that has these files."""
    for name in names:
        (folder / "dags" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "dags" / name).write_text("# DAG\n")
    return run("dags/Sync dags/", folder, BUCKET=bucket, FOLDER="dags", **cli_environment(aws_url, folder))


@pytest.mark.slow
def test_sync_copies_packages_first_and_deletes_what_is_gone(
    aws: Client, aws_url: str, bucket: str, tmp_path: Path
) -> None:
    first = sync(tmp_path, aws_url, bucket, "flight_anomalies.py", "fetch_bronze.py", "utils/layers/gold.py")
    (tmp_path / "dags/fetch_bronze.py").unlink()
    second = sync(tmp_path, aws_url, bucket)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    uploads = [line.rpartition("/")[2] for line in first.stdout.splitlines() if "upload:" in line]
    assert uploads[0] == "gold.py"
    assert keys(aws, bucket) == {"dags/flight_anomalies.py", "dags/utils/layers/gold.py"}


@pytest.mark.slow
def test_sync_refuses_a_folder_with_files_of_others(aws: Client, aws_url: str, bucket: str, tmp_path: Path) -> None:
    aws("s3").put_object(Bucket=bucket, Key="dags/theirs.py", Body=b"# theirs\n")

    done = sync(tmp_path, aws_url, bucket, "flight_anomalies.py")

    assert done.returncode == 1
    assert "s3://mwaa/dags/" in done.stdout
    assert keys(aws, bucket) == {"dags/theirs.py"}


@pytest.mark.slow
def test_sync_fails_without_the_bucket(aws_url: str, tmp_path: Path) -> None:
    done = sync(tmp_path, aws_url, "absent", "flight_anomalies.py")

    assert done.returncode != 0
    assert "NoSuchBucket" in done.stderr
