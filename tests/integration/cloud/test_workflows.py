"""Check what .github promises: rights of jobs, no stored secret, and what the scripts of the workflows do.

zizmor and the schema of GitHub check pins and form in `make check`; the roles at AWS are in test_templates.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

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


def program(folder: Path, name: str, body: str) -> None:
    """Write a stand-in for a program."""
    (folder / "bin").mkdir()
    (folder / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / "bin" / name).chmod(0o755)


# --- All workflows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job", JOBS, ids="/".join)
def test_a_job_has_only_the_rights_of_the_table(job: tuple[str, str]) -> None:
    workflow, _ = job
    environment, rights = RIGHTS.get(job, (None, {}))

    assert JOBS[job]["permissions"] == {"contents": "read"} | rights
    assert JOBS[job].get("environment") == environment
    assert WORKFLOWS[workflow]["permissions"] == {}
    assert "secrets" not in TEXTS[workflow], "no workflow reads a stored secret"
    if rights:
        assert JOBS[job]["needs"] == "test"
        assert JOBS[workflow, "test"]["uses"] == "./.github/workflows/test.yaml"
        assert set(WORKFLOWS[workflow][True]) <= {"push", "workflow_dispatch"}  # YAML 1.1 reads the key `on` as True


# --- images.yaml ------------------------------------------------------------------------------------------------------


VERSION = re.findall("delaywatch-airflow:(.+)", (ROOT / "docker-compose.yaml").read_text())[0]
ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team"


@pytest.mark.parametrize(
    ("registry", "kind", "name", "variables"),
    [
        ("", "branch", "main", {"REGISTRY": "ghcr.io/octo-cat", "VERSION": COMMIT[:12]}),
        (ECR, "tag", f"v{VERSION}", {"REGISTRY": ECR, "VERSION": VERSION}),
        ("", "tag", "v99.1", {}),
        ("evil.example/x.dkr.ecr.eu.amazonaws.com.evil.example", "branch", "main", {}),
    ],
)
def test_a_branch_is_published_by_its_commit_and_a_tag_by_its_version_or_refused(
    tmp_path: Path, registry: str, kind: str, name: str, variables: dict[str, str]
) -> None:
    for file in ("docker-compose.yaml", "superset/Dockerfile", "stack/airflow/Dockerfile"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    (tmp_path / "env").touch()
    github = {"REF_TYPE": kind, "REF_NAME": name, "SHA": COMMIT, "REPOSITORY_OWNER": "Octo-Cat"}
    environment = {f"GITHUB_{key}": value for key, value in github.items()}

    step = "images/Choose the registry and the version"
    done = run(step, tmp_path, CHOSEN=registry, GITHUB_ENV=str(tmp_path / "env"), **environment)

    assert done.returncode == (0 if variables else 1)
    assert dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines()) == variables


def test_the_login_reads_the_token_from_stdin(tmp_path: Path) -> None:
    program(tmp_path, "docker", f'echo "$*" >{tmp_path}/arguments; cat >{tmp_path}/password')

    run("images/Log in", tmp_path, REGISTRY="ghcr.io/octocat", GITHUB_ACTOR="octocat", TOKEN="s3cret")

    arguments = (tmp_path / "arguments").read_text()
    assert {"login", "ghcr.io", "octocat"} <= set(arguments.split())
    assert "s3cret" not in arguments
    assert (tmp_path / "password").read_text() == "s3cret\n"


# --- dags.yaml --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("all_files", "ours", "is_refused"), [("0", "0", False), ("1", "1", False), ("1", "0", True)])
def test_sync_copies_packages_first_deletes_last_and_refuses_a_folder_with_files_of_others(
    tmp_path: Path, all_files: str, ours: str, *, is_refused: bool
) -> None:
    program(
        tmp_path,
        "aws",
        f"""case "$*" in
    *flight_anomalies.py*) echo {ours} ;;
    s3api*) echo {all_files} ;;
    *) echo "$*" >>{tmp_path}/synced ;;
esac""",
    )
    (tmp_path / "synced").touch()

    done = run("dags/Sync dags/", tmp_path, BUCKET="mwaa", FOLDER="dags")

    synced = (tmp_path / "synced").read_text().splitlines()
    assert done.returncode == (1 if is_refused else 0)
    assert [("dags/utils" in call, "--delete" in call) for call in synced] == (
        [] if is_refused else [(True, False), (False, False), (False, True)]
    )
