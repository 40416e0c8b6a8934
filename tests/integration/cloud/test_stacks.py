"""The three stacks created, looked at and deleted, in moto; infra-notes/README.md lists what moto cannot show.

Every test of `made` sees them twice: made and deleted by boto3, and by deploy.sh with the real AWS CLI. The latter
takes a second for each call, so it is slow.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cloud import templates
from tests.integration.cloud.conftest import REGION, Client, Deploy
from tests.integration.cloud.stacks import DOMAIN, RELEASE, Stacks, create, delete, parts, user_data

pytestmark = pytest.mark.cloud


@pytest.fixture(scope="module", params=["boto3", pytest.param("cli", marks=pytest.mark.slow)])
def made(request: pytest.FixtureRequest, aws: Client, deploy: Deploy, image: str, certificate: str) -> Iterator[Stacks]:
    if request.param == "boto3":
        stacks = create(aws, "boto3", image, certificate)
        yield stacks
        delete(aws, stacks)
        return
    own = {
        "DELAYWATCH_NAME": "cli",
        "CONFIRM": "yes",
        "DATA_PARAMETERS": "SecretsPrefix=cli",
        "DOMAIN": DOMAIN,
        "CERTIFICATE": certificate,
        "IMAGE": image,
        "ALARM_EMAIL": "ops@example.com",
    }
    up = deploy("up", **own)
    assert up.returncode == 0, up.stderr
    yield Stacks(aws, "cli")
    down = deploy("down", **own)
    assert down.returncode == 0, down.stderr


def test_every_stack_is_created(aws: Client, made: Stacks) -> None:
    found = [
        aws("cloudformation").describe_stacks(StackName=f"{made.prefix}-{name}")["Stacks"][0]["StackStatus"]
        for name in templates.NAMES
    ]

    assert found == ["CREATE_COMPLETE"] * 3


def test_there_are_three_layers_of_two_zones_each(aws: Client, made: Stacks) -> None:
    of_vpc = [{"Name": "vpc-id", "Values": [made("network", "Vpc")]}]

    subnets = aws("ec2").describe_subnets(Filters=of_vpc)["Subnets"]

    assert {subnet["CidrBlock"]: subnet["AvailabilityZone"] for subnet in subnets} == {
        "10.0.0.0/24": f"{REGION}a",
        "10.0.1.0/24": f"{REGION}b",
        "10.0.10.0/24": f"{REGION}a",
        "10.0.11.0/24": f"{REGION}b",
        "10.0.20.0/24": f"{REGION}a",
        "10.0.21.0/24": f"{REGION}b",
    }
    assert not any(subnet["MapPublicIpOnLaunch"] for subnet in subnets)


def _ways(aws: Client, made: Stacks, subnet: str) -> dict[str, str]:
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
def test_every_layer_has_its_ways_out_and_no_others(
    aws: Client, made: Stacks, subnet: str, ways: dict[str, str]
) -> None:
    found = _ways(aws, made, subnet)

    assert {destination: hop for destination, hop in found.items() if destination != "S3"} == ways


def test_the_host_reaches_the_lake_without_the_nat(aws: Client, made: Stacks) -> None:
    of_vpc = [{"Name": "vpc-id", "Values": [made("network", "Vpc")]}]

    (endpoint,) = aws("ec2").describe_vpc_endpoints(Filters=of_vpc)["VpcEndpoints"]

    assert endpoint["ServiceName"] == f"com.amazonaws.{REGION}.s3"
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


def _goes_out(aws: Client, group: str) -> list[tuple[str, int | None, list[str], list[str]]]:
    """Protocol, port, addresses and groups of everything that a group lets out."""
    (found,) = aws("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"]
    rules = [
        (
            rule["IpProtocol"],
            rule.get("FromPort"),
            [addresses["CidrIp"] for addresses in rule["IpRanges"]],
            [pair["GroupId"] for pair in rule["UserIdGroupPairs"]],
        )
        for rule in found["IpPermissionsEgress"]
    ]
    return sorted(rules, key=lambda rule: rule[1] or 0)


def test_browsers_reach_the_edge_the_edge_the_host_and_the_host_the_database(aws: Client, made: Stacks) -> None:
    edge, host, database = (made("network", name) for name in ("EdgeGroup", "HostGroup", "DatabaseGroup"))

    assert _comes_in(aws, edge) == [(80, ["0.0.0.0/0"], []), (443, ["0.0.0.0/0"], [])]
    assert _comes_in(aws, host) == [(443, [], [edge])]
    assert _comes_in(aws, database) == [(5432, [], [host])]


def test_the_edge_reaches_the_host_alone_and_the_database_nothing(aws: Client, made: Stacks) -> None:
    edge, host, database = (made("network", name) for name in ("EdgeGroup", "HostGroup", "DatabaseGroup"))

    assert _goes_out(aws, edge) == [("tcp", 443, [], [host])]
    assert _goes_out(aws, host) == [
        ("tcp", 80, ["0.0.0.0/0"], []),
        ("tcp", 443, ["0.0.0.0/0"], []),
        ("tcp", 465, ["0.0.0.0/0"], []),
        ("tcp", 587, ["0.0.0.0/0"], []),
        ("tcp", 5432, [], [database]),
    ]
    assert _goes_out(aws, database) == [("-1", None, ["127.0.0.1/32"], [])]


def test_the_bucket_is_private_encrypted_and_keeps_versions(aws: Client, made: Stacks) -> None:
    s3, bucket = aws("s3"), made("data", "Lake")

    encryption = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
    closed = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]

    assert encryption["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert set(closed.values()) == {True}
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"


def test_what_was_deleted_from_the_bucket_by_mistake_can_be_had_back(aws: Client, made: Stacks) -> None:
    s3, bucket, key = aws("s3"), made("data", "Lake"), "lake/01_bronze/2009.csv"
    version = s3.put_object(Bucket=bucket, Key=key, Body=b"flights")["VersionId"]

    s3.delete_object(Bucket=bucket, Key=key)

    assert s3.get_object(Bucket=bucket, Key=key, VersionId=version)["Body"].read() == b"flights"


def test_the_bucket_forgets_old_versions_broken_uploads_logs_and_backups_and_nothing_else(
    aws: Client, made: Stacks
) -> None:
    told = aws("s3").get_bucket_lifecycle_configuration(Bucket=made("data", "Lake"))["Rules"]

    rules = {rule["ID"]: rule for rule in told}

    expiring = {
        rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in told if "Days" in rule.get("Expiration", {})
    }
    assert expiring == {"logs/": 180, "backups/": 35}
    assert rules["FormerVersions"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert rules["Backups"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert rules["BrokenUploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert rules["Bronze"]["Transitions"] == [{"Days": 60, "StorageClass": "STANDARD_IA"}]


def test_the_warehouse_is_a_private_encrypted_postgres_17_with_a_week_of_backups(aws: Client, made: Stacks) -> None:
    (found,) = aws("rds").describe_db_instances(DBInstanceIdentifier=made("data", "Warehouse"))["DBInstances"]

    assert (found["Engine"], found["EngineVersion"].split(".")[0]) == ("postgres", "17")
    assert found["StorageEncrypted"] is True
    assert found["PubliclyAccessible"] is False
    assert found["BackupRetentionPeriod"] == 7
    assert found["DeletionProtection"] is True
    assert found["MultiAZ"] is False
    assert (found["AllocatedStorage"], found["MaxAllocatedStorage"]) == (20, 100)
    assert found["DBName"] == "warehouse"
    assert [group["VpcSecurityGroupId"] for group in found["VpcSecurityGroups"]] == [made("network", "DatabaseGroup")]
    group = found["DBSubnetGroup"]
    assert {subnet["SubnetIdentifier"] for subnet in group["Subnets"]} == {
        made("network", "DatabaseA"),
        made("network", "DatabaseB"),
    }


def test_the_password_is_random_and_where_airflow_looks_for_it(aws: Client, made: Stacks) -> None:
    found = json.loads(
        aws("secretsmanager").get_secret_value(SecretId=f"{made.prefix}/connections/warehouse")["SecretString"]
    )

    assert found["username"] == "delaywatch"
    assert len(found["password"]) == 40


def _host(aws: Client, made: Stacks) -> dict[str, Any]:
    (reservation,) = aws("ec2").describe_instances(InstanceIds=[made("host", "Host")])["Reservations"]
    host: dict[str, Any] = reservation["Instances"][0]
    return host


def test_the_host_is_private_and_has_its_role(aws: Client, made: Stacks) -> None:
    host = _host(aws, made)

    assert host["SubnetId"] == made("network", "ApplicationA")
    assert host["PrivateIpAddress"].startswith("10.0.10.")
    assert not host.get("PublicIpAddress")
    assert "KeyName" not in host
    assert [group["GroupId"] for group in host["SecurityGroups"]] == [made("network", "HostGroup")]
    profile = host["IamInstanceProfile"]["Arn"].split("/")[-1]
    roles = aws("iam").get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
    assert [role["RoleName"] for role in roles] == [made("host", "Role")]


def test_the_host_answers_imdsv2_alone_within_two_hops_and_its_disk_is_encrypted(aws: Client, made: Stacks) -> None:
    host = _host(aws, made)
    volumes = [disk["Ebs"]["VolumeId"] for disk in host["BlockDeviceMappings"]]

    disks = aws("ec2").describe_volumes(VolumeIds=volumes)["Volumes"]

    assert host["MetadataOptions"]["HttpTokens"] == "required"
    assert host["MetadataOptions"]["HttpPutResponseHopLimit"] == 2
    assert [(disk["VolumeType"], disk["Size"], disk["Encrypted"]) for disk in disks] == [("gp3", 60, True)]


def test_user_data_names_bucket_and_secret_and_holds_no_password(aws: Client, made: Stacks) -> None:
    secret = aws("secretsmanager").get_secret_value(SecretId=f"{made.prefix}/connections/warehouse")

    told = user_data(aws, made)

    assert f"BUCKET={made('data', 'Lake')}" in told
    assert f"WAREHOUSE_SECRET={secret['ARN']}" in told
    assert f"DOMAIN={DOMAIN}" in told
    assert f"release='{RELEASE}'" in told
    assert json.loads(secret["SecretString"])["password"] not in told
    assert "${" not in told  # nothing was left for somebody else to fill in
    assert len(told.encode()) < 16_384  # what EC2 takes


def test_user_data_is_two_scripts_that_bash_can_read(aws: Client, made: Stacks) -> None:
    """cloud-init splits them with this very module of Python."""
    scripts = parts(user_data(aws, made))

    faults = [
        subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False).stderr
        for script in scripts.values()
    ]

    assert list(scripts) == ["text/cloud-boothook", "text/x-shellscript"]
    assert faults == ["", ""]


def test_a_host_on_which_the_aws_cli_cannot_be_installed_says_why_with_a_stand_in_for_snap(
    aws: Client, made: Stacks, tmp_path: Path
) -> None:
    """CloudFormation cannot be told without it, so these lines on the host's console are all there is."""
    for name, line in (("snap", 'echo "error: unable to contact snap store" >&2; exit 1'), ("sleep", ":")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    script = parts(user_data(aws, made))["text/x-shellscript"]

    done = subprocess.run(
        ["/bin/bash", "-c", script], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )

    *reasons, said = done.stderr.splitlines()
    assert done.returncode == 1
    assert reasons == ["error: unable to contact snap store"] * 4
    assert said.startswith("Delaywatch: snap did not install the AWS CLI")


def test_the_role_may_use_the_lake_and_its_secrets_and_nothing_else_of_theirs(aws: Client, made: Stacks) -> None:
    bucket = made("data", "Lake")
    told = aws("iam").get_role_policy(RoleName=made("host", "Role"), PolicyName="host")["PolicyDocument"]
    policy = ast.literal_eval(told)  # moto answers Python instead of JSON

    allowed = {statement["Sid"]: statement["Resource"] for statement in policy["Statement"]}

    assert allowed["LakeAndLogs"] == [f"arn:aws:s3:::{bucket}/lake/*", f"arn:aws:s3:::{bucket}/logs/*"]
    assert allowed["Releases"] == [f"arn:aws:s3:::{bucket}/releases/*"]
    assert allowed["ListOfTheBucket"] == [f"arn:aws:s3:::{bucket}"]
    assert allowed["Secrets"] == [
        f"arn:aws:secretsmanager:{REGION}:123456789012:secret:{made.prefix}/connections/*",
        f"arn:aws:secretsmanager:{REGION}:123456789012:secret:{made.prefix}/variables/*",
        made("data", "SettingsSecret"),
    ]


def test_the_edge_redirects_80_and_forwards_443_to_nginx_by_tls(aws: Client, made: Stacks, certificate: str) -> None:
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


def test_every_alarm_measures_what_there_is_and_tells_the_operator(aws: Client, made: Stacks) -> None:
    names = [
        made("host", name) for name, _ in templates.of_type(templates.load("host")["Resources"], "CloudWatch::Alarm")
    ]
    topic = made("host", "Alarms")

    alarms = aws("cloudwatch").describe_alarms(AlarmNames=names)["MetricAlarms"]
    listeners = aws("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]

    measured = {alarm["MetricName"]: {one["Name"]: one["Value"] for one in alarm["Dimensions"]} for alarm in alarms}
    on_host = {"InstanceId": made("host", "Host")}
    assert (
        measured.items()
        >= {
            "disk_used_percent": on_host,
            "mem_used_percent": on_host,
            "FailedRuns": on_host,
            "Backups": on_host,
            "FreeStorageSpace": {"DBInstanceIdentifier": made("data", "Warehouse")},
        }.items()
    )
    assert measured["UnHealthyHostCount"]["TargetGroup"] == made("host", "Nginx").rpartition(":")[2]
    assert all(alarm["AlarmActions"] == [topic] for alarm in alarms)
    assert [(one["Protocol"], one["Endpoint"]) for one in listeners] == [("email", "ops@example.com")]


# --- parameters -------------------------------------------------------------------------------------------------------


def test_a_nat_and_a_standby_in_the_second_zone_are_parameters(aws: Client, image: str, certificate: str) -> None:
    two = create(aws, "two", image, certificate, network={"NatPerZone": "true"}, data={"MultiAz": "true"})

    nats = {made_nat["SubnetId"] for made_nat in aws("ec2").describe_nat_gateways()["NatGateways"]}
    (warehouse,) = aws("rds").describe_db_instances(DBInstanceIdentifier=two("data", "Warehouse"))["DBInstances"]
    public = {two("network", "PublicA"), two("network", "PublicB")}
    delete(aws, two)

    assert public <= nats
    assert warehouse["MultiAZ"] is True


def test_what_the_runbook_gives_a_full_warehouse_is_more_than_it_can_have_grown_to_and_lets_it_grow_on(
    aws: Client, image: str, certificate: str
) -> None:
    page = (templates.FOLDER.parent / "runbook.md").read_text()
    (told,) = re.findall(r'^DATA_PARAMETERS="(.+)" make aws-up$', page, re.MULTILINE)
    given = dict(word.split("=") for word in told.split())
    grown = templates.load("data")["Parameters"]["MaximumStorageGiB"]["Default"]

    full = create(aws, "full", image, certificate, data=given)

    (warehouse,) = aws("rds").describe_db_instances(DBInstanceIdentifier=full("data", "Warehouse"))["DBInstances"]
    delete(aws, full)
    size, limit = warehouse["AllocatedStorage"], warehouse["MaxAllocatedStorage"]
    assert (size, limit) == (int(given["StorageGiB"]), int(given["MaximumStorageGiB"]))
    assert size >= 1.1 * grown  # RDS takes no smaller step
    assert limit >= 1.1 * size


def test_there_is_no_bastion_until_somebody_says_who_may_use_it(aws: Client, made: Stacks) -> None:
    outputs = aws("cloudformation").describe_stacks(StackName=f"{made.prefix}-network")["Stacks"][0]["Outputs"]

    assert not [output for output in outputs if "Bastion" in output["OutputKey"]]


def test_a_bastion_takes_ssh_from_the_addresses_given_and_reaches_host_and_database(
    aws: Client, image: str, certificate: str
) -> None:
    office = "198.51.100.0/28"
    stacks = create(aws, "jump", image, certificate, network={"BastionFrom": office})
    names = ("BastionGroup", "EdgeGroup", "HostGroup", "DatabaseGroup")
    bastion, edge, host, database = (stacks("network", name) for name in names)

    (found,) = aws("ec2").describe_instances(InstanceIds=[stacks("network", "Bastion")])["Reservations"][0]["Instances"]
    came_in = {group: _comes_in(aws, group) for group in (bastion, host, database)}
    went_out = _goes_out(aws, bastion)
    delete(aws, stacks)

    assert found["PublicIpAddress"]
    assert "KeyName" not in found
    assert "IamInstanceProfile" not in found
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    assert came_in[bastion] == [(22, [office], [])]
    assert came_in[host] == [(22, [], [bastion]), (443, [], [edge])]
    assert [(port, set(groups)) for port, _, groups in came_in[database]] == [(5432, {host, bastion})]
    assert went_out == [("tcp", 22, [], [host]), ("tcp", 443, ["0.0.0.0/0"], []), ("tcp", 5432, [], [database])]


# --- deleted ----------------------------------------------------------------------------------------------------------


def test_deleting_leaves_the_bucket_and_nothing_that_runs(aws: Client, image: str, certificate: str) -> None:
    stacks = create(aws, "gone", image, certificate)
    bucket, vpc, host = stacks("data", "Lake"), stacks("network", "Vpc"), stacks("host", "Host")
    aws("s3").put_object(Bucket=bucket, Key="lake/01_bronze/2018.csv", Body=b"flights")

    delete(aws, stacks)

    assert aws("s3").get_object(Bucket=bucket, Key="lake/01_bronze/2018.csv")["Body"].read() == b"flights"
    assert vpc not in {found["VpcId"] for found in aws("ec2").describe_vpcs()["Vpcs"]}
    (reservation,) = aws("ec2").describe_instances(InstanceIds=[host])["Reservations"]
    assert reservation["Instances"][0]["State"]["Name"] == "terminated"
    names = [secret["Name"] for secret in aws("secretsmanager").list_secrets()["SecretList"]]
    assert not [name for name in names if name.startswith("gone/")]
    assert not [name for name in _warehouses(aws) if name.startswith("gone")]
    left = {stack["StackName"] for stack in aws("cloudformation").describe_stacks()["Stacks"]}
    assert not {name for name in left if name.startswith("gone-")}


def _warehouses(aws: Client) -> list[str]:
    return [found["DBInstanceIdentifier"] for found in aws("rds").describe_db_instances()["DBInstances"]]
