"""deploy.sh as its user calls it, with the real AWS CLI, against moto. What happens on the host is in test_host."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.conftest import REGION, Client

pytestmark = [
    pytest.mark.slow,  # the AWS CLI takes a second for each of its calls
    pytest.mark.skipif(not shutil.which("aws"), reason="there is no AWS CLI on this machine"),
]

ROOT = Path(__file__).parents[2]
SCRIPT = Path("infra-notes/cloudformation/deploy.sh")
Deploy = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with one commit, which has only what deploy.sh needs; the templates are the real ones."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / SCRIPT.parent, folder / SCRIPT.parent)
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "-m", "One"], ["tag", "v1"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def deploy(clone: Path, aws_url: str, tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    """Call deploy.sh with an environment of its own, in which AWS is moto; `typed` is what its user types."""
    home = tmp_path_factory.mktemp("home")

    def call(command: str, typed: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        own = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "NAME": "trial",
            "AWS_ENDPOINT_URL": aws_url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_PAGER": "",
            "POLL_S": "1",
            "DATA": "SecretsPrefix=trial",
        }
        return subprocess.run(
            [str(clone / SCRIPT), command],
            input=typed,
            env=own | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return call


@pytest.fixture(scope="module")
def first(deploy: Deploy, image: str, certificate: str) -> Iterator[subprocess.CompletedProcess[str]]:
    """What the first `up` said; the stacks are there while the module's tests run."""
    given = {"DOMAIN": "delays.example.com", "CERTIFICATE": certificate, "IMAGE": image, "CONFIRM": "yes"}
    yield deploy("up", **given)
    deploy("down", CONFIRM="yes", BACKUP="no")


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

    done = deploy("up", CONFIRM="yes", ALARM_EMAIL="ops@example.com")

    assert done.returncode == 0, done.stderr
    assert _parameters(aws, "trial-host") == before | {"AlarmEmail": "ops@example.com"}


def test_an_update_cannot_replace_host_bucket_or_warehouse(
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
    done = deploy("deploy", CONFIRM="yes")

    (command,) = aws("ssm").list_commands()["Commands"][-1:]
    assert done.returncode == 0, done.stderr
    assert command["DocumentName"] == "AWS-RunShellScript"
    assert command["Parameters"]["commands"] == [
        "/opt/delaywatch/current/infra-notes/cloudformation/host.sh release releases/v1.tar.gz"
    ]


@pytest.mark.parametrize("command", ["up", "deploy", "down"])
def test_nothing_happens_when_the_name_is_not_typed(
    aws: Client, first: subprocess.CompletedProcess[str], deploy: Deploy, command: str
) -> None:
    before = _stacks(aws)

    done = deploy(command, typed="yes\n", DOMAIN="other.example.com")

    assert done.returncode == 1
    assert "nothing was done" in done.stderr
    assert _stacks(aws) == before
    assert _parameters(aws, "trial-host")["Domain"] == "delays.example.com"


def test_the_first_up_asks_for_name_and_certificate_before_it_makes_anything(aws: Client, deploy: Deploy) -> None:
    done = deploy("up", NAME="other", CONFIRM="yes")

    assert done.returncode == 1
    assert "DOMAIN" in done.stderr
    assert "CERTIFICATE" in done.stderr
    assert "other-network" not in _stacks(aws)


def test_deploy_without_stacks_says_what_to_do(deploy: Deploy) -> None:
    done = deploy("deploy", NAME="other", CONFIRM="yes")

    assert done.returncode == 1
    assert "there is no stack other-host; make it with `up`" in done.stderr


def test_down_without_stacks_says_so(deploy: Deploy) -> None:
    done = deploy("down", NAME="other", CONFIRM="yes")

    assert done.returncode == 1
    assert "nothing was done" in done.stderr


def test_down_takes_everything_but_the_bucket(aws: Client, deploy: Deploy, image: str, certificate: str) -> None:
    own = {"NAME": "brief", "DATA": "SecretsPrefix=brief", "CONFIRM": "yes"}
    made = deploy("up", DOMAIN="delays.example.com", CERTIFICATE=certificate, IMAGE=image, **own)

    done = deploy("down", **own)

    assert made.returncode == 0, made.stderr
    assert done.returncode == 0, done.stderr
    assert not [name for name in _stacks(aws) if name.startswith("brief-")]
    (bucket,) = [found["Name"] for found in aws("s3").list_buckets()["Buckets"] if found["Name"].startswith("brief-")]
    assert f"s3://{bucket}" in done.stdout
