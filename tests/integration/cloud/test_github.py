"""What GitHub's workflows do at AWS: the roles of github.yaml, as text and in moto; the sync of dags/."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.cloud import templates
from tests.integration.cloud.conftest import PATH, REGION, Client
from tests.integration.cloud.templates import FOLDER, RULES, Rule

pytestmark = pytest.mark.cloud

ROOT = FOLDER.parents[1]
PROVIDER = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yaml")}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_roles_keep_every_rule_but_where_aws_knows_no_resource(rule: Rule) -> None:
    found = rule(templates.load("github")["Resources"])

    if rule is templates.wide_rights:
        known = ["DeployRole allows ssm:GetCommandInvocation", "ImagesRole allows ecr:GetAuthorizationToken"]
        assert [sentence.partition(" everywhere")[0] for sentence in found] == known
    else:
        assert found == []


def test_each_role_trusts_one_environment_of_one_repository_and_workflows_use_it() -> None:
    trusted = {
        name: statement["Condition"]["StringEquals"]
        for name, statement in templates.statements(templates.load("github")["Resources"])
        if statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    }
    environments = {
        job["environment"] for flow in WORKFLOWS.values() for job in flow["jobs"].values() if "environment" in job
    }

    issuer = "token.actions.githubusercontent.com"
    assert trusted == {
        f"{role}Role": {
            f"{issuer}:aud": "sts.amazonaws.com",
            f"{issuer}:sub": {"Fn::Sub": f"repo:${{Repository}}:environment:{environment}"},
        }
        for role, environment in {"Deploy": "production", "Images": "images", "Dags": "dags"}.items()
    }
    assert environments == {"production", "images", "dags"}


Make = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def make(aws: Client) -> Iterator[Make]:
    """Make the stack, and give its roles with their rights."""
    client = aws("cloudformation")

    def call(**parameters: str) -> dict[str, dict[str, Any]]:
        given = {"Name": "flow", "Lake": "flow-lake", "Provider": PROVIDER} | parameters
        client.create_stack(
            StackName="flow-github",
            TemplateBody=templates.text("github"),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        )
        (stack,) = client.describe_stacks(StackName="flow-github")["Stacks"]
        iam, roles = aws("iam"), {}
        for output in stack["Outputs"]:
            name = output["OutputValue"].rpartition("/")[2]
            (policy,) = iam.list_role_policies(RoleName=name)["PolicyNames"]
            document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
            rights = ast.literal_eval(document)["Statement"]  # moto answers Python instead of JSON
            role = iam.get_role(RoleName=name)["Role"]
            roles[output["OutputKey"]] = {"role": role, "rights": {right["Sid"]: right for right in rights}}
        return roles

    yield call
    client.delete_stack(StackName="flow-github")


def test_a_deployment_may_put_releases_and_command_the_host_of_its_stacks(make: Make) -> None:
    roles = make(Repository="octocat@583231/delaywatch@1296269")

    assert set(roles) == {"DeployRole"}
    role, rights = roles["DeployRole"]["role"], roles["DeployRole"]["rights"]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Federated": PROVIDER}
    assert "repo:octocat@583231/delaywatch@1296269:environment:production" in str(trust["Condition"])
    assert rights["Release"]["Resource"] == "arn:aws:s3:::flow-lake/releases/*"
    assert rights["OnTheHost"]["Condition"] == {"StringEquals": {"ssm:resourceTag/delaywatch": "flow"}}


def test_roles_for_images_and_dags_are_made_when_asked_for(make: Make) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"].values()
    images = {service["image"].partition(":")[0] for service in services if "build" in service}

    roles = make(Repository="o/r", Ecr="true", EcrFolder="team/", DagsBucket="mwaa", DagsFolder="flow/dags")

    assert set(roles) == {"DeployRole", "ImagesRole", "DagsRole"}
    pushed = [arn.partition(":repository/")[2] for arn in roles["ImagesRole"]["rights"]["Push"]["Resource"]]
    assert sorted(pushed) == sorted(f"team/{image}" for image in images)
    assert roles["DagsRole"]["rights"]["Sync"]["Resource"] == "arn:aws:s3:::mwaa/flow/dags/*"
    assert roles["DagsRole"]["rights"]["WhatIsThere"]["Condition"] == {"StringLike": {"s3:prefix": "flow/dags/*"}}


# --- The sync, with the real AWS CLI against moto ---------------------------------------------------------------------

Sync = Callable[[], subprocess.CompletedProcess[str]]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with two DAGs and their package."""
    for name in ("flight_anomalies.py", "fetch_bronze.py", "utils/layers/gold.py", ".airflowignore"):
        (tmp_path / "dags" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dags" / name).write_text("# one\n")
    return tmp_path


@pytest.fixture
def bucket(aws: Client) -> Iterator[str]:
    """An empty bucket."""
    aws("s3").create_bucket(Bucket="mwaa")
    yield "mwaa"
    for entry in aws("s3").list_objects_v2(Bucket="mwaa").get("Contents", []):
        aws("s3").delete_object(Bucket="mwaa", Key=entry["Key"])
    aws("s3").delete_bucket(Bucket="mwaa")


@pytest.fixture
def sync(clone: Path, bucket: str, aws_url: str) -> Sync:
    """Run the script of dags.yaml as GitHub does."""
    (script,) = [step["run"] for step in WORKFLOWS["dags"]["jobs"]["sync"]["steps"] if "run" in step]

    def call() -> subprocess.CompletedProcess[str]:
        own = {
            "PATH": PATH,
            "HOME": str(clone),
            "AWS_ENDPOINT_URL": aws_url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "BUCKET": bucket,
            "FOLDER": "dags",
        }
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=clone, env=own, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return call


def _content(aws: Client, bucket: str) -> dict[str, str]:
    client = aws("s3")
    return {
        entry["Key"]: client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read().decode()
        for entry in client.list_objects_v2(Bucket=bucket).get("Contents", [])
    }


class TestSync:
    pytestmark = pytest.mark.slow  # the AWS CLI takes a second for each of its calls

    def test_a_bucket_becomes_like_the_folder_and_follows_its_changes(
        self, aws: Client, clone: Path, bucket: str, sync: Sync
    ) -> None:
        first = sync()
        (clone / "dags/fetch_bronze.py").unlink()
        (clone / "dags/utils/layers/gold.py").write_text("# changed\n")

        second = sync()

        assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
        assert _content(aws, bucket) == {
            "dags/.airflowignore": "# one\n",
            "dags/flight_anomalies.py": "# one\n",
            "dags/utils/layers/gold.py": "# changed\n",
        }

    def test_a_package_arrives_before_the_dag_that_imports_it(self, sync: Sync) -> None:
        done = sync()

        keys = [line.rpartition("/")[2] for line in done.stdout.splitlines() if "upload:" in line]
        assert keys[0] == "gold.py"
        assert set(keys[1:]) == {"flight_anomalies.py", "fetch_bronze.py", ".airflowignore"}

    def test_a_folder_of_others_is_refused_and_stays_as_it_is(self, aws: Client, bucket: str, sync: Sync) -> None:
        aws("s3").put_object(Bucket=bucket, Key="dags/theirs.py", Body=b"# theirs\n")

        done = sync()

        assert done.returncode == 1
        assert "s3://mwaa/dags/ holds files of others" in done.stdout
        assert _content(aws, bucket) == {"dags/theirs.py": "# theirs\n"}

    def test_a_bucket_that_is_not_there_ends_the_job(self, aws: Client, bucket: str, sync: Sync) -> None:
        aws("s3").delete_bucket(Bucket=bucket)

        done = sync()
        aws("s3").create_bucket(Bucket=bucket)

        assert done.returncode != 0
        assert "NoSuchBucket" in done.stderr
