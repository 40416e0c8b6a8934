"""What .github promises: pinned actions, no job with more rights than it needs, no stored key; what scripts do.

What they do at AWS is in test_github.py; zizmor and the schema of GitHub check the form in `make check`.
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

pytestmark = pytest.mark.cloud

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".github/workflows"
TEXTS = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.yaml"))}
WORKFLOWS: dict[str, dict[Any, Any]] = {name: yaml.safe_load(text) for name, text in TEXTS.items()}
MAKEFILE = (ROOT / "Makefile").read_text()
PIN = re.compile(r"^[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
# What a job may beside reading the code, and for what.
RIGHTS = {
    ("images", "publish"): {"id-token": "write", "packages": "write"},  # ECR by AWS_ROLE; ghcr.io
    ("deploy", "deploy"): {"id-token": "write"},  # AWS_ROLE
    ("dags", "sync"): {"id-token": "write"},  # AWS_ROLE
}


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Workflow, name and content of every job."""
    for workflow, content in WORKFLOWS.items():
        for name, job in content["jobs"].items():
            yield workflow, name, job


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every step, with a name to find it by."""
    for workflow, name, job in jobs():
        for number, step in enumerate(job.get("steps", []), start=1):
            yield f"{workflow}/{name}/{step.get('name', number)}", step


RUNS = {where: step["run"] for where, step in steps() if "run" in step}


def triggers(workflow: str) -> set[str]:
    return set(WORKFLOWS[workflow][True])  # how YAML 1.1 reads the key `on`


def made(text: str) -> set[str]:
    """The targets that are given to make."""
    return {
        word for line in re.findall(r"^\s*make (.+)$", text, re.MULTILINE) for word in line.split() if "=" not in word
    }


def run(where: str, folder: Path, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a block as GitHub does, in `folder`, with the programs of `path` before all others."""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", RUNS[where]],
        cwd=folder,
        env={"PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"], "HOME": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


# --- What every workflow keeps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_every_action_is_pinned_by_its_commit_with_the_version_beside_it(workflow: str) -> None:
    used = re.findall(r"\buses: (.+)$", TEXTS[workflow], re.MULTILINE)

    own = [name for name in used if name.startswith("./")]

    assert used
    assert all((ROOT / name).is_file() for name in own)
    assert [name for name in used if name not in own and not PIN.match(name)] == []


def test_an_action_has_the_same_pin_everywhere() -> None:
    pins = {line for text in TEXTS.values() for line in re.findall(r"\buses: (\S+@.+)$", text, re.MULTILINE)}

    assert len(pins) == len({pin.split("@")[0] for pin in pins})


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_workflow_has_no_rights_of_its_own(workflow: str) -> None:
    assert WORKFLOWS[workflow]["permissions"] == {}


def test_a_job_may_read_the_code_and_what_the_table_says() -> None:
    rights = {(workflow, name): job["permissions"] for workflow, name, job in jobs()}

    assert rights == {key: {"contents": "read"} | RIGHTS.get(key, {}) for key in rights}
    assert set(RIGHTS) <= set(rights)


def test_what_may_become_a_role_never_runs_for_a_pull_request() -> None:
    for workflow, _ in RIGHTS:
        assert triggers(workflow) <= {"push", "workflow_dispatch"}


def test_what_may_become_a_role_belongs_to_an_environment_and_waits_for_the_tests() -> None:
    """The role trusts an environment; people who may approve it are set there."""
    for workflow, name in RIGHTS:
        job = WORKFLOWS[workflow]["jobs"][name]

        assert job["environment"]
        assert job["needs"] == "test"
        assert WORKFLOWS[workflow]["jobs"]["test"]["uses"] == "./.github/workflows/test.yaml"


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_no_workflow_reads_a_stored_secret(workflow: str) -> None:
    assert "secrets" not in TEXTS[workflow]


@pytest.mark.parametrize("where", RUNS)
def test_a_run_block_gets_values_from_its_environment_only(where: str) -> None:
    """What GitHub pastes into a script, it runs: a branch may be called $(...)."""
    assert "${{" not in RUNS[where]


@pytest.mark.parametrize("where", RUNS)
def test_shellcheck_has_nothing_to_say_about_a_run_block(where: str) -> None:
    program = Path(sys.executable).with_name("shellcheck")

    done = subprocess.run(
        [program, "--shell=bash", "-"], input=RUNS[where], capture_output=True, text=True, check=False
    )

    assert done.stdout + done.stderr == ""


def test_code_that_is_checked_out_brings_no_token() -> None:
    checkouts = [step for _, step in steps() if step.get("uses", "").startswith("actions/checkout@")]

    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_every_job_ends_by_itself() -> None:
    assert [name for _, name, job in jobs() if "uses" not in job and job["timeout-minutes"] > 90] == []


def test_every_variable_is_explained() -> None:
    asked = set(re.findall(r"\bvars\.(\w+)", "".join(TEXTS.values())))

    section = (FOLDER / "README.md").read_text().partition("## Variables")[2].partition("\n## ")[0]
    explained = set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE))

    assert asked == explained


# --- test.yaml --------------------------------------------------------------------------------------------------------


def test_every_target_that_make_is_given_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))

    assert set().union(*map(made, RUNS.values())) <= targets


def test_what_must_pass_before_a_merge_is_run() -> None:
    demanded = made((ROOT / ".ci/run").read_text())

    assert demanded
    assert demanded <= set().union(*(made(block) for where, block in RUNS.items() if where.startswith("test/")))


def test_every_supported_python_is_tried() -> None:
    (lowest, below) = re.findall(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text())[0]

    tried = WORKFLOWS["test"]["jobs"]["test"]["strategy"]["matrix"]["python"]

    assert tried == [f"3.{minor}" for minor in range(int(lowest), int(below))]


# --- images.yaml ------------------------------------------------------------------------------------------------------

TARGET = "images/publish/Say where the images go"
BUILD = "images/publish/Build and push"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What of the repository says how images are built."""
    for name in ("docker-compose.yaml", "superset/Dockerfile", "stack/airflow/Dockerfile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def target(clone: Path, registry: str, kind: str, name: str) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """What the step says, and what it leaves for the steps after it."""
    left = clone / "env"
    left.touch()
    done = run(
        TARGET, clone, CHOSEN=registry, GITHUB_REPOSITORY_OWNER="Octo-Cat", GITHUB_REF_TYPE=kind,
        GITHUB_REF_NAME=name, GITHUB_SHA=COMMIT, GITHUB_ENV=str(left),
    )  # fmt: skip
    return done, dict(line.split("=", 1) for line in left.read_text().splitlines())


def test_a_branch_is_published_under_its_commit_at_the_owners_own_registry(clone: Path) -> None:
    done, left = target(clone, "", "branch", "main")

    assert done.returncode == 0, done.stderr
    assert left == {"REGISTRY": "ghcr.io/octo-cat", "VERSION": "0123456789ab"}


def test_a_tag_is_published_as_the_version_of_the_compose_file(clone: Path) -> None:
    said = re.findall("delaywatch-airflow:(.+)", (clone / "docker-compose.yaml").read_text())[0]

    _, left = target(clone, "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team", "tag", f"v{said}")

    assert left == {"REGISTRY": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team", "VERSION": said}


@pytest.mark.parametrize(
    ("registry", "kind", "name", "sentence"),
    [
        ("", "tag", "v99.1", "The tag is v99.1, but docker-compose.yaml says version"),
        ("docker.io/octocat", "branch", "main", "another registry would need a stored key"),
        ("evil.example/x.dkr.ecr.eu.amazonaws.com.evil.example", "branch", "main", "neither ghcr.io/OWNER nor an ECR"),
    ],
)
def test_what_cannot_be_published_is_told_in_a_sentence(
    clone: Path, registry: str, kind: str, name: str, sentence: str
) -> None:
    done, left = target(clone, registry, kind, name)

    assert done.returncode == 1
    assert done.stdout.startswith("::error::")
    assert sentence in done.stdout
    assert left == {}


@pytest.fixture
def docker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a docker that lets the real one plan what it would push, and notes what else it is told."""
    folder = tmp_path_factory.mktemp("docker")
    (folder / "docker").write_text(f"""#!/bin/sh
case "$*" in
    *" --push "*) exec {shutil.which("docker")} "$@" --print >{folder}/plan.json ;;
    "buildx bake "*) exec {shutil.which("docker")} "$@" ;;
    "login "*) echo "$*" >{folder}/login; cat >{folder}/password ;;
    *) echo "$*" >>{folder}/said ;;
esac
""")
    (folder / "docker").chmod(0o755)
    return folder


def has_buildx() -> bool:
    docker = shutil.which("docker")
    return (
        bool(docker)
        and subprocess.run([str(docker), "buildx", "version"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(
    not has_buildx() or not shutil.which("jq"), reason="there is no docker buildx or no jq on this machine"
)
def test_every_image_of_the_compose_file_would_be_pushed_with_provenance_and_sbom(clone: Path, docker: Path) -> None:
    """buildx only plans here; that it builds and pushes is not shown."""
    compose = yaml.safe_load((clone / "docker-compose.yaml").read_text())
    built = {service["image"].split(":")[0] for service in compose["services"].values() if "build" in service}

    done = run(
        BUILD, clone, docker, REGISTRY="ghcr.io/octocat", VERSION="1.2.3", GITHUB_SHA=COMMIT,
        GITHUB_SERVER_URL="https://github.com", GITHUB_REPOSITORY="octocat/delaywatch",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    plan = json.loads((docker / "plan.json").read_text())["target"].values()
    assert {tag for image in plan for tag in image["tags"]} == {f"ghcr.io/octocat/{name}:1.2.3" for name in built}
    for image in plan:
        assert image["output"] == ["type=image,push=true"]
        assert "type=provenance,mode=max" in image["attest"]
        assert any(entry.startswith("type=sbom") and "disabled=true" not in entry for entry in image["attest"])
        assert image["labels"]["org.opencontainers.image.revision"] == COMMIT


def test_the_token_is_not_among_the_arguments_of_the_login(clone: Path, docker: Path) -> None:
    done = run(
        "images/publish/Log in", clone, docker, REGISTRY="ghcr.io/octocat", GITHUB_ACTOR="octocat", TOKEN="s3cret"
    )

    assert done.returncode == 0, done.stderr
    assert (docker / "login").read_text() == "login ghcr.io --username octocat --password-stdin\n"
    assert (docker / "password").read_text().strip() == "s3cret"


@pytest.mark.skipif(not shutil.which("jq"), reason="there is no jq on this machine")
def test_the_digests_are_told_on_the_page_of_the_run(tmp_path: Path) -> None:
    pushed = {
        "setup": {"image.name": "ghcr.io/o/a:1", "containerimage.digest": "sha256:12"},
        "buildx.build.warnings": [],
    }
    (tmp_path / "pushed.json").write_text(json.dumps(pushed))

    run("images/publish/Tell their digests", tmp_path, GITHUB_STEP_SUMMARY=str(tmp_path / "page"))

    assert (tmp_path / "page").read_text() == "    ghcr.io/o/a:1@sha256:12\n"


# --- deploy.yaml and Dependabot ---------------------------------------------------------------------------------------


def test_a_deployment_without_a_role_says_which_variable_is_missing(tmp_path: Path) -> None:
    done = run(
        "deploy/deploy/Ask for the variables", tmp_path, AWS_ROLE="arn:aws:iam::123456789012:role/x", AWS_REGION=""
    )

    assert done.returncode == 1
    assert "has no variable AWS_REGION" in done.stdout


def test_the_role_lasts_longer_than_the_patience_of_the_deployment() -> None:
    script = (ROOT / "infra-notes/cloudformation/deploy.sh").read_text()
    patience_s = int(re.findall(r"^PATIENCE_S=(\d+)", script, re.MULTILINE)[0])
    job = WORKFLOWS["deploy"]["jobs"]["deploy"]

    (lasts_s,) = (
        step["with"]["role-duration-seconds"]
        for step in job["steps"]
        if "role-duration-seconds" in step.get("with", {})
    )

    assert patience_s < lasts_s
    assert patience_s < job["timeout-minutes"] * 60


def test_dependabot_is_pointed_at_what_it_can_read() -> None:
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]

    files = {
        "docker": "Dockerfile",
        "docker-compose": "docker-compose.yaml",
        "github-actions": ".github/workflows/test.yaml",
    }

    assert {entry["package-ecosystem"] for entry in updates} == set(files)
    for entry in updates:
        file = ROOT / entry["directory"].strip("/") / files[entry["package-ecosystem"]]
        assert file.is_file()
        if file.name == "Dockerfile":
            assert re.search(
                r"^FROM [^$\s]+$", file.read_text(), re.MULTILINE
            )  # not by an ARG, which it does not follow
