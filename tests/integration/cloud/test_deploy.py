"""Call deploy.sh as its user does, with the real templates and the real AWS CLI, against moto."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cloud import templates
from tests.integration.cloud.conftest import PATH, Client, cli_environment
from tests.integration.cloud.templates import ACCOUNT, FOLDER, REGION

pytestmark = [pytest.mark.slow, pytest.mark.cloud]  # each call of the AWS CLI takes a second

BUNDLE = runpy.run_path(str(FOLDER.parent / "spark/bundle.py"))
Done = subprocess.CompletedProcess[str]
Deploy = Callable[..., Done]
GIT = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clone")


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory, clone: Path, moto_url: str) -> Deploy:
    """Call deploy.sh of a clone with one commit; `typed` is the answer to its question."""
    from tests.integration.cloud import moto_corrections

    moto_corrections.apply()
    home = tmp_path_factory.mktemp("home")
    folder = clone / FOLDER.relative_to(FOLDER.parents[1])
    shutil.copytree(FOLDER, folder)
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "One"], ["tag", "-am", "One", "v1;reboot"]):
        subprocess.run([*GIT, *command], cwd=clone, check=True)
    own = cli_environment(moto_url, home) | {"POLL_S": "1"}
    return lambda command, name, typed="", **environment: subprocess.run(
        [str(folder / "deploy.sh"), command],
        input=typed,
        env=own | {"DELAYWATCH_NAME": name, "DATA_PARAMETERS": f"SecretsPrefix={name}"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def first_parameters(aws: Client) -> dict[str, str]:
    """What the first `up` asks for; moto has no image of Ubuntu 24.04."""
    return {
        "DOMAIN": "delays.example.com",
        "CERTIFICATE": str(aws("acm").request_certificate(DomainName="delays.example.com")["CertificateArn"]),
        "IMAGE": str(aws("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]),
        "CONFIRM": "yes",
    }


def _fail(aws: Client, stack: str, template: str, status: str, **parameters: str) -> None:
    """Leave a stack as an attempt leaves it that failed; moto lets no attempt fail."""
    from moto.cloudformation.models import cloudformation_backends

    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    aws("cloudformation").create_stack(StackName=stack, TemplateBody=templates.text(template), Parameters=given)
    cloudformation_backends[ACCOUNT][REGION].get_stack(stack).status = status


@pytest.fixture(scope="module")
def up(aws: Client, deploy: Deploy, first_parameters: dict[str, str]) -> Iterator[Done]:
    """The first successful `up`, after one that failed; the stacks stay during the tests of the module."""
    _fail(aws, "trial-network", "network", "ROLLBACK_COMPLETE")
    done = deploy("up", "trial", **first_parameters)
    assert done.returncode == 0, done.stderr
    yield done
    deploy("down", "trial", CONFIRM="yes", BACKUP="no")


def _stack(aws: Client, name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Parameters and outputs."""
    (stack,) = aws("cloudformation").describe_stacks(StackName=name)["Stacks"]
    parameters = {given["ParameterKey"]: given["ParameterValue"] for given in stack["Parameters"]}
    return parameters, {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def _stacks(aws: Client, prefix: str) -> set[str]:
    names = [stack["StackName"] for stack in aws("cloudformation").describe_stacks()["Stacks"]]
    return {name for name in names if name.startswith(f"{prefix}-")}


def _last_command(aws: Client) -> str:
    command = aws("ssm").list_commands()["Commands"][-1]
    assert command["DocumentName"] == "AWS-RunShellScript"
    (line,) = command["Parameters"]["commands"]
    return str(line).removeprefix("/opt/delaywatch/current/infra-notes/cloudformation/")


def test_up_creates_three_stacks_in_place_of_a_failed_attempt_and_uploads_the_commit(aws: Client, up: Done) -> None:
    parameters, _ = _stack(aws, "trial-host")
    lake = _stack(aws, "trial-data")[1]["Lake"]

    assert _stacks(aws, "trial") == {"trial-network", "trial-data", "trial-host"}
    assert "trial-network" in up.stderr
    assert f"s3://{lake}/lake" in up.stdout
    assert parameters["Release"] == "releases/v1-reboot.tar.gz"
    assert aws("s3").get_object(Bucket=lake, Key=parameters["Release"])["Body"].read(2) == b"\x1f\x8b"  # gzip


def test_a_second_up_changes_only_the_given_parameter(aws: Client, up: Done, deploy: Deploy) -> None:
    before, _ = _stack(aws, "trial-host")

    done = deploy("up", "trial", CONFIRM="yes", ALARM_EMAIL="ops@example.com")

    assert done.returncode == 0, done.stderr
    assert _stack(aws, "trial-host")[0] == before | {"AlarmEmail": "ops@example.com"}


def test_a_policy_forbids_updates_that_replace_host_bucket_or_warehouse(aws: Client, up: Done) -> None:
    for stack, resources in {"trial-data": ["Lake", "Warehouse"], "trial-host": ["Host"]}.items():
        policy = json.loads(aws("cloudformation").get_stack_policy(StackName=stack)["StackPolicyBody"])
        (denied,) = [statement for statement in policy["Statement"] if statement["Effect"] == "Deny"]
        assert denied["Resource"] == [f"LogicalResourceId/{resource}" for resource in resources]
        assert "Update:Replace" in denied["Action"]


def test_deploy_sends_the_release_to_the_host_without_letters_of_the_shell(
    aws: Client, up: Done, deploy: Deploy
) -> None:
    """moto ends every command as a success without running it."""
    done = deploy("deploy", "trial", CONFIRM="yes")

    assert done.returncode == 0, done.stderr
    assert _last_command(aws) == "host.sh release releases/v1-reboot.tar.gz"


@pytest.mark.parametrize(
    ("command", "error", "failures", "exit_code"),
    [
        ("deploy", "AccessDeniedException) when calling GetCommandInvocation: no right", 99, 1),
        ("deploy", "InvocationDoesNotExist) when calling GetCommandInvocation", 1, 0),
        ("down", "AccessDeniedException) when calling GetCommandInvocation: no right", 99, 1),
    ],
)
def test_an_error_of_the_command_on_the_host_is_shown_unless_aws_does_not_know_the_command_yet(
    aws: Client, up: Done, deploy: Deploy, tmp_path: Path, command: str, error: str, failures: int, exit_code: int
) -> None:
    (tmp_path / "aws").write_text(f"""#!/usr/bin/env bash
if [[ "$*" == *get-command-invocation* ]]; then
    echo >>"{tmp_path}/asked"
    [ "$(wc -l <"{tmp_path}/asked")" -gt {failures} ] || {{ echo "An error occurred ({error})" >&2; exit 254; }}
fi
exec "{shutil.which("aws", path=PATH)}" "$@"
""")
    (tmp_path / "aws").chmod(0o755)

    done = deploy(command, "trial", CONFIRM="yes", PATH=f"{tmp_path}:{PATH}")

    assert done.returncode == exit_code, done.stderr
    assert ("AccessDeniedException" in done.stderr) == (exit_code == 1)
    assert (tmp_path / "asked").exists()
    assert len(_stacks(aws, "trial")) == 3  # `down` deletes nothing without the backup


@pytest.mark.parametrize("command", ["up", "deploy", "down"])
def test_nothing_happens_until_the_name_is_typed(aws: Client, up: Done, deploy: Deploy, command: str) -> None:
    done = deploy(command, "trial", typed="yes\n", DOMAIN="other.example.com")

    assert done.returncode == 1
    assert len(_stacks(aws, "trial")) == 3
    assert _stack(aws, "trial-host")[0]["Domain"] == "delays.example.com"


@pytest.mark.parametrize(
    ("command", "named"), [("up", "DOMAIN"), ("up", "CERTIFICATE"), ("deploy", "other-host"), ("down", "other-data")]
)
def test_a_command_names_the_missing_setting_or_stack(aws: Client, deploy: Deploy, command: str, named: str) -> None:
    done = deploy(command, "other", CONFIRM="yes")

    assert done.returncode == 1
    assert named in done.stderr
    assert not _stacks(aws, "other")


def test_spark_adds_a_fourth_stack_with_the_bundle_and_down_deletes_it_first(
    aws: Client, deploy: Deploy, clone: Path, first_parameters: dict[str, str]
) -> None:
    """moto creates no Glue job from a template."""
    bundle = clone / "build/spark"
    bundle.mkdir(parents=True, exist_ok=True)
    for name in (BUNDLE["SCRIPT"].name, BUNDLE["CODE"], BUNDLE["WHEELS"]):
        (bundle / name).write_text(name)
    (bundle / BUNDLE["VERSION"]).write_text(BUNDLE["version"](clone))

    asked = deploy("up", "heavy", typed="no\n", **first_parameters | {"CONFIRM": ""}, SPARK="yes")
    done = deploy("up", "heavy", **first_parameters, SPARK="yes", SPARK_PARAMETERS="Workers=5")

    assert (asked.returncode, done.returncode) == (1, 0), done.stderr
    assert all(f"heavy-{stack}" in asked.stderr for stack in ("network", "data", "host", "spark"))
    assert "DELAYWATCH_SILVER_JOB=" in done.stdout
    parameters, _ = _stack(aws, "heavy-spark")
    assert (parameters["Bundle"], parameters["Workers"]) == ("releases/spark-v1-reboot", "5")
    lake = _stack(aws, "heavy-data")[1]["Lake"]
    stored = aws("s3").list_objects_v2(Bucket=lake, Prefix=f"{parameters['Bundle']}/")["Contents"]
    assert {entry["Key"].rpartition("/")[2] for entry in stored} == {path.name for path in bundle.iterdir()}
    role = _stack(aws, "heavy-host")[1]["Role"]
    assert "heavy-spark" in aws("iam").list_role_policies(RoleName=role)["PolicyNames"]

    down = deploy("down", "heavy", CONFIRM="yes")

    assert down.returncode == 0, down.stderr
    assert not _stacks(aws, "heavy")


@pytest.mark.parametrize(("built", "named"), [(None, ["missing"]), ("v0-3-gabc", ["v0-3-gabc", "v1-reboot"])])
def test_a_bundle_that_is_missing_or_of_another_commit_is_refused_before_the_question(
    aws: Client, deploy: Deploy, clone: Path, first_parameters: dict[str, str], built: str | None, named: list[str]
) -> None:
    bundle = clone / "build/spark"
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / BUNDLE["VERSION"]).unlink(missing_ok=True)
    if built:
        (bundle / BUNDLE["VERSION"]).write_text(f"{built}\n")

    done = deploy("up", "stale", **first_parameters, SPARK="yes")

    assert done.returncode == 1
    assert all(text in done.stderr for text in [*named, "make spark-bundle"])
    assert not _stacks(aws, "stale")


def test_down_makes_a_backup_and_deletes_everything_but_the_bucket(
    aws: Client, deploy: Deploy, first_parameters: dict[str, str]
) -> None:
    """The stacks replace an attempt that AWS could not roll back, because its warehouse was protected."""
    _fail(aws, "brief-network", "network", "CREATE_COMPLETE")
    _fail(aws, "brief-data", "data", "ROLLBACK_FAILED", NetworkStack="brief-network", SecretsPrefix="brief")
    made = deploy("up", "brief", **first_parameters)
    assert made.returncode == 0, made.stderr
    _, outputs = _stack(aws, "brief-data")
    aws("s3").put_object(Bucket=outputs["Lake"], Key="lake/01_bronze/2018.csv", Body=b"flights")

    done = deploy("down", "brief", CONFIRM="yes")

    assert done.returncode == 0, done.stderr
    assert not _stacks(aws, "brief")
    assert _last_command(aws) == "host.sh backup"
    assert f"s3://{outputs['Lake']}" in done.stdout
    assert aws("s3").get_object(Bucket=outputs["Lake"], Key="lake/01_bronze/2018.csv")["Body"].read() == b"flights"
    databases: list[dict[str, Any]] = aws("rds").describe_db_instances()["DBInstances"]
    assert outputs["Warehouse"] not in {database["DBInstanceIdentifier"] for database in databases}
