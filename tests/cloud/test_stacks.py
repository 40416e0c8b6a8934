"""The three stacks created, looked at and deleted, in moto; infra-notes/README.md lists what moto cannot show."""

from __future__ import annotations

import ast
import base64
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud import templates
from tests.cloud.conftest import Client

PARAMETERS = {
    "network": {},
    "data": {"NetworkStack": "cloud-network"},
    "host": {
        "NetworkStack": "cloud-network",
        "DataStack": "cloud-data",
        "Domain": "delays.example.com",
        "Release": "releases/v1.tar.gz",
    },
}


class Made:
    """What a stack's template calls its parts, and what they are called in AWS."""

    def __init__(self, aws: Client) -> None:
        self._cloudformation = aws("cloudformation")

    def __call__(self, stack: str, name: str) -> str:
        """The ID in AWS of a resource, by its name in the template."""
        found = self._cloudformation.list_stack_resources(StackName=f"cloud-{stack}")["StackResourceSummaries"]
        ids = {resource["LogicalResourceId"]: resource.get("PhysicalResourceId", "") for resource in found}
        return str(ids[name])


@pytest.fixture(scope="module")
def made(aws: Client, image: str, certificate: str) -> Iterator[Made]:
    cloudformation = aws("cloudformation")
    for name in templates.NAMES:
        given = PARAMETERS[name] | ({"Image": image, "Certificate": certificate} if name == "host" else {})
        cloudformation.create_stack(
            StackName=f"cloud-{name}",
            TemplateBody=templates.text(name),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
    yield Made(aws)
    for name in reversed(templates.NAMES):
        cloudformation.delete_stack(StackName=f"cloud-{name}")


def test_every_stack_is_created(aws: Client, made: Made) -> None:
    found = [
        aws("cloudformation").describe_stacks(StackName=f"cloud-{name}")["Stacks"][0]["StackStatus"]
        for name in templates.NAMES
    ]

    assert found == ["CREATE_COMPLETE"] * 3


def test_there_are_three_layers_of_two_zones_each(aws: Client, made: Made) -> None:
    of_vpc = [{"Name": "vpc-id", "Values": [made("network", "Vpc")]}]

    subnets = aws("ec2").describe_subnets(Filters=of_vpc)["Subnets"]

    assert {subnet["CidrBlock"]: subnet["AvailabilityZone"] for subnet in subnets} == {
        "10.0.0.0/24": "us-east-1a",
        "10.0.1.0/24": "us-east-1b",
        "10.0.10.0/24": "us-east-1a",
        "10.0.11.0/24": "us-east-1b",
        "10.0.20.0/24": "us-east-1a",
        "10.0.21.0/24": "us-east-1b",
    }
    assert not any(subnet["MapPublicIpOnLaunch"] for subnet in subnets)


def _ways(aws: Client, made: Made, subnet: str) -> dict[str, str]:
    """Destination and kind of the next hop of every route of a subnet."""
    of_subnet = [{"Name": "association.subnet-id", "Values": [made("network", subnet)]}]
    (table,) = aws("ec2").describe_route_tables(Filters=of_subnet)["RouteTables"]
    ways = {}
    for route in table["Routes"]:
        hop = route.get("NatGatewayId") or route["GatewayId"]
        ways[route.get("DestinationCidrBlock") or "S3"] = hop.split("-")[0]
    return ways


@pytest.mark.parametrize(
    ("subnet", "ways"),
    [
        ("PublicA", {"10.0.0.0/16": "local", "0.0.0.0/0": "igw"}),
        ("PublicB", {"10.0.0.0/16": "local", "0.0.0.0/0": "igw"}),
        ("ApplicationA", {"10.0.0.0/16": "local", "0.0.0.0/0": "nat"}),
        ("ApplicationB", {"10.0.0.0/16": "local", "0.0.0.0/0": "nat"}),
        ("DatabaseA", {"10.0.0.0/16": "local"}),
        ("DatabaseB", {"10.0.0.0/16": "local"}),
    ],
)
def test_every_layer_has_its_ways_out_and_no_others(aws: Client, made: Made, subnet: str, ways: dict[str, str]) -> None:
    found = _ways(aws, made, subnet)

    assert {destination: hop for destination, hop in found.items() if destination != "S3"} == ways


def test_the_host_reaches_the_lake_without_the_nat(aws: Client, made: Made) -> None:
    of_vpc = [{"Name": "vpc-id", "Values": [made("network", "Vpc")]}]

    (endpoint,) = aws("ec2").describe_vpc_endpoints(Filters=of_vpc)["VpcEndpoints"]

    assert endpoint["ServiceName"] == "com.amazonaws.us-east-1.s3"
    assert endpoint["VpcEndpointType"] == "Gateway"
    assert set(endpoint["RouteTableIds"]) == {
        made("network", "ApplicationARoutes"),
        made("network", "ApplicationBRoutes"),
    }


def _comes_in(aws: Client, group: str) -> list[tuple[int, list[str], list[str]]]:
    """Port, addresses and groups of everything that a group lets in."""
    (found,) = aws("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"]
    return sorted(
        (
            rule["FromPort"],
            [addresses["CidrIp"] for addresses in rule["IpRanges"]],
            [pair["GroupId"] for pair in rule["UserIdGroupPairs"]],
        )
        for rule in found["IpPermissions"]
    )


def test_browsers_reach_the_edge_the_edge_the_host_and_the_host_the_database(aws: Client, made: Made) -> None:
    edge, host, database = (made("network", name) for name in ("EdgeGroup", "HostGroup", "DatabaseGroup"))

    assert _comes_in(aws, edge) == [(80, ["0.0.0.0/0"], []), (443, ["0.0.0.0/0"], [])]
    assert _comes_in(aws, host) == [(443, [], [edge])]
    assert _comes_in(aws, database) == [(5432, [], [host])]


def test_the_bucket_is_encrypted(aws: Client, made: Made) -> None:
    found = aws("s3").get_bucket_encryption(Bucket=made("data", "Lake"))["ServerSideEncryptionConfiguration"]

    assert found["Rules"][0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"


def test_the_warehouse_is_a_private_encrypted_postgres_17_with_a_week_of_backups(aws: Client, made: Made) -> None:
    (found,) = aws("rds").describe_db_instances(DBInstanceIdentifier=made("data", "Warehouse"))["DBInstances"]

    assert found["Engine"] == "postgres"
    assert found["EngineVersion"].startswith("17.")
    assert found["StorageEncrypted"] is True
    assert found["PubliclyAccessible"] is False
    assert found["BackupRetentionPeriod"] == 7
    assert found["DBName"] == "warehouse"
    group = found["DBSubnetGroup"]
    assert {subnet["SubnetIdentifier"] for subnet in group["Subnets"]} == {
        made("network", "DatabaseA"),
        made("network", "DatabaseB"),
    }


def test_the_password_is_random_and_where_airflow_looks_for_it(aws: Client, made: Made) -> None:
    found = json.loads(aws("secretsmanager").get_secret_value(SecretId="airflow/connections/warehouse")["SecretString"])

    assert found["username"] == "delaywatch"
    assert len(found["password"]) == 40


def _host(aws: Client, made: Made) -> dict[str, Any]:
    (reservation,) = aws("ec2").describe_instances(InstanceIds=[made("host", "Host")])["Reservations"]
    host: dict[str, Any] = reservation["Instances"][0]
    return host


def test_the_host_is_private_and_has_its_role(aws: Client, made: Made) -> None:
    host = _host(aws, made)

    assert host["SubnetId"] == made("network", "ApplicationA")
    assert host["PrivateIpAddress"].startswith("10.0.10.")
    assert not host.get("PublicIpAddress")
    assert "KeyName" not in host
    profile = host["IamInstanceProfile"]["Arn"].split("/")[-1]
    roles = aws("iam").get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
    assert [role["RoleName"] for role in roles] == [made("host", "Role")]


def test_user_data_names_bucket_and_secret_and_holds_no_password(aws: Client, made: Made) -> None:
    secret = aws("secretsmanager").get_secret_value(SecretId="airflow/connections/warehouse")
    told = aws("ec2").describe_instance_attribute(InstanceId=made("host", "Host"), Attribute="userData")

    user_data = base64.b64decode(told["UserData"]["Value"]).decode()

    assert f"BUCKET={made('data', 'Lake')}" in user_data
    assert f"WAREHOUSE_SECRET={secret['ARN']}" in user_data
    assert "DOMAIN=delays.example.com" in user_data
    assert "release='releases/v1.tar.gz'" in user_data
    assert json.loads(secret["SecretString"])["password"] not in user_data
    assert "${" not in user_data  # nothing was left for somebody else to fill in
    assert len(user_data.encode()) < 16_384  # what EC2 takes


def test_user_data_is_a_script_that_bash_can_read(aws: Client, made: Made) -> None:
    told = aws("ec2").describe_instance_attribute(InstanceId=made("host", "Host"), Attribute="userData")

    done = subprocess.run(
        ["bash", "-n"], input=base64.b64decode(told["UserData"]["Value"]), capture_output=True, check=False
    )

    assert (done.stderr, done.returncode) == (b"", 0)


def test_the_role_may_use_the_lake_and_its_secrets_and_nothing_else_of_theirs(aws: Client, made: Made) -> None:
    bucket = made("data", "Lake")
    told = aws("iam").get_role_policy(RoleName=made("host", "Role"), PolicyName="host")["PolicyDocument"]
    policy = ast.literal_eval(told)  # moto answers Python instead of JSON

    allowed = {statement["Sid"]: statement["Resource"] for statement in policy["Statement"]}

    assert allowed["LakeAndLogs"] == [f"arn:aws:s3:::{bucket}/lake/*", f"arn:aws:s3:::{bucket}/logs/*"]
    assert allowed["Releases"] == [f"arn:aws:s3:::{bucket}/releases/*"]
    assert allowed["ListOfTheBucket"] == [f"arn:aws:s3:::{bucket}"]
    assert allowed["Secrets"] == [
        "arn:aws:secretsmanager:us-east-1:123456789012:secret:airflow/connections/*",
        "arn:aws:secretsmanager:us-east-1:123456789012:secret:airflow/variables/*",
        made("data", "SettingsSecret"),
    ]


def test_the_edge_redirects_80_and_forwards_443_to_nginx_by_tls(aws: Client, made: Made, certificate: str) -> None:
    elb, edge = aws("elbv2"), made("host", "Edge")

    listeners = {found["Port"]: found for found in elb.describe_listeners(LoadBalancerArn=edge)["Listeners"]}
    (target,) = elb.describe_target_groups(TargetGroupArns=[made("host", "Nginx")])["TargetGroups"]
    (balancer,) = elb.describe_load_balancers(LoadBalancerArns=[edge])["LoadBalancers"]

    assert set(listeners) == {80, 443}
    assert listeners[80]["DefaultActions"][0]["RedirectConfig"]["Host"] == "delays.example.com"
    assert listeners[443]["Certificates"][0]["CertificateArn"] == certificate
    assert listeners[443]["DefaultActions"][0]["TargetGroupArn"] == made("host", "Nginx")
    assert (target["Protocol"], target["Port"], target["HealthCheckPath"]) == ("HTTPS", 443, "/login/")
    assert balancer["Scheme"] == "internet-facing"
    assert {zone["SubnetId"] for zone in balancer["AvailabilityZones"]} == {
        made("network", "PublicA"),
        made("network", "PublicB"),
    }


def test_a_nat_for_each_zone_is_one_parameter(aws: Client) -> None:
    cloudformation = aws("cloudformation")
    given = [{"ParameterKey": "NatPerZone", "ParameterValue": "true"}]
    cloudformation.create_stack(StackName="two-nats", TemplateBody=templates.text("network"), Parameters=given)

    resources = cloudformation.list_stack_resources(StackName="two-nats")["StackResourceSummaries"]
    cloudformation.delete_stack(StackName="two-nats")

    assert {found["LogicalResourceId"] for found in resources} >= {"NatA", "NatB"}


def test_deleting_leaves_the_bucket_and_nothing_that_runs(aws: Client, image: str, certificate: str) -> None:
    cloudformation, ec2 = aws("cloudformation"), aws("ec2")
    for name in templates.NAMES:
        given = {key: value.replace("cloud-", "gone-") for key, value in PARAMETERS[name].items()}
        given |= {"data": {"SecretsPrefix": "gone"}, "host": {"Image": image, "Certificate": certificate}}.get(name, {})
        cloudformation.create_stack(
            StackName=f"gone-{name}",
            TemplateBody=templates.text(name),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        )
    outputs = cloudformation.describe_stacks(StackName="gone-data")["Stacks"][0]["Outputs"]
    bucket = next(output["OutputValue"] for output in outputs if output["OutputKey"] == "Lake")
    outputs = cloudformation.describe_stacks(StackName="gone-network")["Stacks"][0]["Outputs"]
    vpc_id = next(output["OutputValue"] for output in outputs if output["OutputKey"] == "VpcId")
    aws("s3").put_object(Bucket=bucket, Key="lake/01_bronze/2018.csv", Body=b"flights")

    for name in reversed(templates.NAMES):
        cloudformation.delete_stack(StackName=f"gone-{name}")

    assert aws("s3").get_object(Bucket=bucket, Key="lake/01_bronze/2018.csv")["Body"].read() == b"flights"
    assert vpc_id not in {found["VpcId"] for found in ec2.describe_vpcs()["Vpcs"]}
    names = [secret["Name"] for secret in aws("secretsmanager").list_secrets()["SecretList"]]
    assert not [name for name in names if name.startswith("gone/")]
    left = {stack["StackName"] for stack in cloudformation.describe_stacks()["Stacks"]}
    assert not {name for name in left if name.startswith("gone-")}
