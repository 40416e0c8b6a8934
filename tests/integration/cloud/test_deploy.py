"""deploy.sh as its user calls it, with the real AWS CLI, against moto.

What it makes is looked at in test_stacks, what happens on the host in test_host.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cloud import templates
from tests.integration.cloud.conftest import PATH, REGION, Client, Deploy

pytestmark = [pytest.mark.slow, pytest.mark.cloud]  # the AWS CLI takes a second for each of its calls

TRIAL = {"DELAYWATCH_NAME": "trial", "DATA_PARAMETERS": "SecretsPrefix=trial"}


@pytest.fixture(scope="module")
def first(aws: Client, deploy: Deploy, image: str, certificate: str) -> Iterator[subprocess.CompletedProcess[str]]:
    """What the first `up` said that succeeded; the stacks are there while the module's tests run.

    One before it failed, which AWS calls ROLLBACK_COMPLETE and updates never. moto knows no such end, so it is told.
    """
    from moto.cloudformation.models import cloudformation_backends

    aws("cloudformation").create_stack(StackName="trial-network", TemplateBody=templates.text("network"))
    cloudformation_backends["123456789012"][REGION].get_stack("trial-network").status = "ROLLBACK_COMPLETE"
    given = {"DOMAIN": "delays.example.com", "CERTIFICATE": certificate, "IMAGE": image, "CONFIRM": "yes"}
    yield deploy("up", **TRIAL, **given)
    deploy("down", **TRIAL, CONFIRM="yes", BACKUP="no")


def _parameters(aws: Client, stack: str) -> dict[str, Any]:
    (found,) = aws("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return {given["ParameterKey"]: given["ParameterValue"] for given in found["Parameters"]}


def _stacks(aws: Client) -> set[str]:
    return {found["StackName"] for found in aws("cloudformation").describe_stacks()["Stacks"]}


def test_up_makes_three_stacks_and_puts_the_commit_into_the_bucket(
    aws: Client, first: subprocess.CompletedProcess[str]
) -> None:
    outputs = aws("cloudformation").describe_stacks(StackName="trial-data")["Stacks"][0]["Outputs"]
    bucket = next(output["OutputValue"] for output in outputs if output["OutputKey"] == "Lake")

    assert first.returncode == 0, first.stderr
    assert "Delaywatch is up." in first.stdout
    assert f"s3://{bucket}/lake" in first.stdout
    assert {"trial-network", "trial-data", "trial-host"} <= _stacks(aws)
    assert _parameters(aws, "trial-host")["Release"] == "releases/v1.tar.gz"
    assert aws("s3").get_object(Bucket=bucket, Key="releases/v1.tar.gz")["Body"].read(2) == b"\x1f\x8b"  # gzip


def test_a_second_up_changes_what_is_given_and_keeps_the_rest(
    aws: Client, first: subprocess.CompletedProcess[str], deploy: Deploy
) -> None:
    before = _parameters(aws, "trial-host")

    done = deploy("up", **TRIAL, CONFIRM="yes", ALARM_EMAIL="ops@example.com")

    assert done.returncode == 0, done.stderr
    assert _parameters(aws, "trial-host") == before | {"AlarmEmail": "ops@example.com"}


def test_that_an_update_replaces_host_bucket_or_warehouse_is_forbidden_by_a_policy(
    aws: Client, first: subprocess.CompletedProcess[str]
) -> None:
    policies = [
        aws("cloudformation").get_stack_policy(StackName=name)["StackPolicyBody"]
        for name in ("trial-data", "trial-host")
    ]

    assert "LogicalResourceId/Lake" in policies[0]
    assert "LogicalResourceId/Warehouse" in policies[0]
    assert "LogicalResourceId/Host" in policies[1]
    assert all('"Deny"' in policy and "Update:Replace" in policy for policy in policies)


def test_deploy_tells_the_host_which_release_to_take(
    aws: Client, first: subprocess.CompletedProcess[str], deploy: Deploy
) -> None:
    """moto ends every command as a success without running it."""
    done = deploy("deploy", **TRIAL, CONFIRM="yes")

    (command,) = aws("ssm").list_commands()["Commands"][-1:]
    assert done.returncode == 0, done.stderr
    assert command["DocumentName"] == "AWS-RunShellScript"
    assert command["Parameters"]["commands"] == [
        "/opt/delaywatch/current/infra-notes/cloudformation/host.sh release releases/v1.tar.gz"
    ]


def _aws_that_fails(folder: Path, says: str, times: int) -> str:
    """A PATH whose aws fails so the first times that it is asked what became of a command; else it is the real one."""
    program, asked = shutil.which("aws", path=PATH), folder / "asked"
    (folder / "aws").write_text(f"""#!/usr/bin/env bash
if [[ "$*" == *get-command-invocation* ]]; then
    echo >>"{asked}"
    [ "$(wc -l <"{asked}")" -gt {times} ] || {{ echo "An error occurred ({says})" >&2; exit 254; }}
fi
exec "{program}" "$@"
""")
    (folder / "aws").chmod(0o755)
    return f"{folder}:{PATH}"


def test_a_refusal_to_tell_what_became_of_the_command_is_told_at_once(
    first: subprocess.CompletedProcess[str], deploy: Deploy, tmp_path: Path
) -> None:
    """The refusal is a stand-in's, because moto checks no rights."""
    path = _aws_that_fails(tmp_path, "AccessDeniedException) when calling GetCommandInvocation: no right", times=99)

    done = deploy("deploy", **TRIAL, CONFIRM="yes", PATH=path)

    assert done.returncode == 1
    assert "it cannot be seen what became of" in done.stderr
    assert "AccessDeniedException" in done.stderr
    assert (tmp_path / "asked").read_text() == "\n"


def test_a_command_that_aws_does_not_know_yet_is_asked_for_again(
    first: subprocess.CompletedProcess[str], deploy: Deploy, tmp_path: Path
) -> None:
    """The first answer is a stand-in's, because moto knows a command at once."""
    path = _aws_that_fails(tmp_path, "InvocationDoesNotExist) when calling GetCommandInvocation", times=1)

    done = deploy("deploy", **TRIAL, CONFIRM="yes", PATH=path)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "asked").read_text() == "\n\n"


@pytest.mark.parametrize("command", ["up", "deploy", "down"])
def test_nothing_happens_when_the_name_is_not_typed(
    aws: Client, first: subprocess.CompletedProcess[str], deploy: Deploy, command: str
) -> None:
    before = _stacks(aws)

    done = deploy(command, **TRIAL, typed="yes\n", DOMAIN="other.example.com")

    assert done.returncode == 1
    assert "nothing was done" in done.stderr
    assert _stacks(aws) == before
    assert _parameters(aws, "trial-host")["Domain"] == "delays.example.com"


def test_the_first_up_asks_for_name_and_certificate_before_it_makes_anything(aws: Client, deploy: Deploy) -> None:
    done = deploy("up", DELAYWATCH_NAME="other", CONFIRM="yes")

    assert done.returncode == 1
    assert "DOMAIN" in done.stderr
    assert "CERTIFICATE" in done.stderr
    assert "other-network" not in _stacks(aws)


def test_deploy_without_stacks_says_what_to_do(deploy: Deploy) -> None:
    done = deploy("deploy", DELAYWATCH_NAME="other", CONFIRM="yes")

    assert done.returncode == 1
    assert "there is no stack other-host; make it with `up`" in done.stderr


def test_down_without_stacks_says_so(deploy: Deploy) -> None:
    done = deploy("down", DELAYWATCH_NAME="other", CONFIRM="yes")

    assert done.returncode == 1
    assert "nothing was done" in done.stderr


def test_down_takes_everything_but_the_bucket_after_a_last_backup(
    aws: Client, deploy: Deploy, image: str, certificate: str
) -> None:
    """moto ends the command for the backup as a success without running it."""
    own = {"DELAYWATCH_NAME": "brief", "DATA_PARAMETERS": "SecretsPrefix=brief", "CONFIRM": "yes"}
    made = deploy("up", DOMAIN="delays.example.com", CERTIFICATE=certificate, IMAGE=image, **own)

    done = deploy("down", **own)

    assert made.returncode == 0, made.stderr
    assert done.returncode == 0, done.stderr
    assert not [name for name in _stacks(aws) if name.startswith("brief-")]
    (bucket,) = [found["Name"] for found in aws("s3").list_buckets()["Buckets"] if found["Name"].startswith("brief-")]
    assert f"s3://{bucket}" in done.stdout
    (command,) = aws("ssm").list_commands()["Commands"][-1:]
    assert command["Parameters"]["commands"] == ["/opt/delaywatch/current/infra-notes/cloudformation/host.sh backup"]


def test_what_a_failed_first_attempt_left_does_not_stand_in_the_way(first: subprocess.CompletedProcess[str]) -> None:
    assert "trial-network could not be made the last time; what is left of it is removed first." in first.stderr
    assert first.returncode == 0, first.stderr


def test_nor_does_one_that_aws_could_not_undo_because_its_warehouse_is_protected(
    aws: Client, deploy: Deploy, image: str, certificate: str
) -> None:
    from moto.cloudformation.models import cloudformation_backends

    own = {"DELAYWATCH_NAME": "half", "DATA_PARAMETERS": "SecretsPrefix=half", "CONFIRM": "yes"}
    formation, parameters = aws("cloudformation"), {"NetworkStack": "half-network", "SecretsPrefix": "half"}
    formation.create_stack(StackName="half-network", TemplateBody=templates.text("network"))
    formation.create_stack(
        StackName="half-data",
        TemplateBody=templates.text("data"),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    )
    cloudformation_backends["123456789012"][REGION].get_stack("half-data").status = "ROLLBACK_FAILED"

    made = deploy("up", DOMAIN="delays.example.com", CERTIFICATE=certificate, IMAGE=image, **own)
    gone = deploy("down", BACKUP="no", **own)

    assert "half-data could not be made the last time; what is left of it is removed first." in made.stderr
    assert made.returncode == 0, made.stderr
    assert gone.returncode == 0, gone.stderr


def test_a_tag_with_letters_of_the_shell_is_shipped_under_a_name_without_them(
    aws: Client, first: subprocess.CompletedProcess[str], deploy: Deploy, clone: Path
) -> None:
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com"]
    subprocess.run([*git, "tag", "--annotate", "-m", "Two", "v2;reboot"], cwd=clone, check=True)

    done = deploy("deploy", **TRIAL, CONFIRM="yes")

    subprocess.run([*git, "tag", "--delete", "v2;reboot"], cwd=clone, check=True, capture_output=True)
    (command,) = aws("ssm").list_commands()["Commands"][-1:]
    assert done.returncode == 0, done.stderr
    assert command["Parameters"]["commands"][0].endswith("host.sh release releases/v2-reboot.tar.gz")
