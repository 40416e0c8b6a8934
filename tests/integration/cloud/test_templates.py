"""Check what the CloudFormation templates promise: access, encryption, rights, deletion, alarms. Nothing is created."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from typing import Any

import jmespath
import pytest

from tests.integration.cloud import templates
from tests.integration.cloud.templates import ACCOUNT, FOLDER, REGION

pytestmark = pytest.mark.cloud

ROOT = FOLDER.parents[1]
BUNDLE = runpy.run_path(str(ROOT / "infra-notes/spark/bundle.py"))
OFFICE = "198.51.100.0/28"
TEMPLATES = {
    name: templates.load(name, **values)
    for name, values in {
        "network": {"BastionFrom": OFFICE},
        "data": {},
        "host": {
            "AlarmEmail": "ops@example.com",
            "Domain": "delays.example.com",
            "Release": "releases/v1.tar.gz",
            "delaywatch-data-Lake": "lake",
        },
        "spark": {
            "Bundle": "releases/spark-v1",
            "delaywatch-data-Lake": "lake",
            "delaywatch-host-Role": "RoleOfTheHost",
        },
        "github": {"Repository": "octocat@583231/delaywatch@1296269", "Lake": "lake", "DagsBucket": "mwaa"},
    }.items()
}
RESOURCES = {name: template["Resources"] for name, template in TEMPLATES.items()}

# Type of resource, JMESPath of a property, its value in every resource of the type in every template.
REQUIRED: list[tuple[str, str, Any]] = [
    ("CloudWatch::Alarm", "AlarmActions", ["Alarms"]),
    ("CloudWatch::Alarm", "OKActions", ["Alarms"]),
    ("CloudWatch::Alarm", 'contains(`["breaching", "ignore"]`, TreatMissingData)', True),
    ("EC2::EIP", "InstanceId || 'Bastion'", "Bastion"),
    ("EC2::Instance", "MetadataOptions.HttpTokens", "required"),
    ("EC2::Instance", "BlockDeviceMappings[].Ebs.Encrypted", [True]),
    ("EC2::Instance", "KeyName", None),
    ("EC2::Instance", "NetworkInterfaces", None),  # an interface could ask for a public address
    ("EC2::Subnet", "MapPublicIpOnLaunch", False),
    ("ElasticLoadBalancingV2::Listener", "Protocol == 'HTTPS' || DefaultActions[].Type == ['redirect']", True),
    (
        "ElasticLoadBalancingV2::LoadBalancer",
        "LoadBalancerAttributes[?Key == 'routing.http.desync_mitigation_mode'].Value",
        ["strictest"],
    ),
    (
        "ElasticLoadBalancingV2::LoadBalancer",
        "LoadBalancerAttributes[?Key == 'routing.http.drop_invalid_header_fields.enabled'].Value",
        ["true"],
    ),
    ("ElasticLoadBalancingV2::TargetGroup", "Protocol", "HTTPS"),
    ("Glue::Job", "[GlueVersion, MaxRetries]", ["6.0", 0]),  # Airflow decides about another try
    ("Glue::Job", "[Role, Timeout > `0`]", ["Role.Arn", True]),
    ("RDS::DBInstance", "[DeletionPolicy, UpdateReplacePolicy]", ["Snapshot", "Snapshot"]),
    ("RDS::DBInstance", "BackupRetentionPeriod", 7),
    ("RDS::DBInstance", "DeletionProtection", True),
    ("RDS::DBInstance", "MasterUserPassword", "{{resolve:secretsmanager:WarehouseSecret:SecretString:password}}"),
    ("RDS::DBInstance", "PubliclyAccessible", False),
    ("RDS::DBInstance", "StorageEncrypted", True),
    ("RDS::DBParameterGroup", 'Parameters."rds.force_ssl"', "1"),
    ("S3::Bucket", "[DeletionPolicy, UpdateReplacePolicy]", ["RetainExceptOnCreate", "Retain"]),
    ("S3::Bucket", "OwnershipControls.Rules[].ObjectOwnership", ["BucketOwnerEnforced"]),
    ("S3::Bucket", "BucketEncryption.*[].ServerSideEncryptionByDefault.SSEAlgorithm[]", ["AES256"]),
    ("S3::Bucket", "values(PublicAccessBlockConfiguration)", [True] * 4),
    ("S3::Bucket", "VersioningConfiguration.Status", "Enabled"),
    ("SNS::Subscription", "[TopicArn, Endpoint]", ["Alarms", "ops@example.com"]),
    ("SecretsManager::Secret", "SecretString || '{}'", "{}"),  # generated, or filled in by the operator
]

# Statements whose resource is *, with the reason.
WIDE = {
    "ReadAnything": "the S3 endpoint; packages are in buckets of others, and the role needs the right too",
    "WriteOnlyToBucketsOfThisAccount": "the condition names the account",
    "Metrics": "cloudwatch:PutMetricData takes no resource; the condition names our namespace",
    "SessionManager": "the channels of the agent take no resource",
    "Answers": "ssm:GetCommandInvocation takes no resource",
    "Login": "ecr:GetAuthorizationToken takes no resource",
}


@pytest.mark.parametrize(("kind", "path", "value"), REQUIRED)
def test_every_resource_of_a_type_has_the_protecting_property(kind: str, path: str, value: Any) -> None:
    found = {
        f"{template}/{name}": jmespath.search(path, properties)
        for template, resources in RESOURCES.items()
        for name, properties in templates.of_type(resources, kind)
    }

    assert found
    assert found == dict.fromkeys(found, value)


# --- Network ----------------------------------------------------------------------------------------------------------


def test_only_the_needed_traffic_is_allowed() -> None:
    network = RESOURCES["network"]
    sources = [(given["GroupId"], given) for _, given in templates.of_type(network, "EC2::SecurityGroupIngress")]
    targets = []
    for name, group in templates.of_type(network, "EC2::SecurityGroup"):
        sources += [(name, rule) for rule in group.get("SecurityGroupIngress", [])]
        # A group that names no rule allows everything out.
        targets += [(name, rule) for rule in group.get("SecurityGroupEgress", [{"CidrIp": "everywhere"}])]

    assert {
        (rule.get("SourceSecurityGroupId") or rule["CidrIp"], name, rule["FromPort"], rule["ToPort"])
        for name, rule in sources
    } == {
        ("0.0.0.0/0", "EdgeGroup", 80, 80),
        ("0.0.0.0/0", "EdgeGroup", 443, 443),
        ("EdgeGroup", "HostGroup", 443, 443),
        ("HostGroup", "DatabaseGroup", 5432, 5432),
        (OFFICE, "BastionGroup", 22, 22),
        ("BastionGroup", "HostGroup", 22, 22),
        ("BastionGroup", "DatabaseGroup", 5432, 5432),
    }
    assert {
        (name, rule.get("DestinationSecurityGroupId") or rule["CidrIp"], rule.get("FromPort"), rule.get("ToPort"))
        for name, rule in targets
    } == {
        ("EdgeGroup", "HostGroup", 443, 443),
        ("HostGroup", "DatabaseGroup", 5432, 5432),
        *(("HostGroup", "0.0.0.0/0", port, port) for port in (80, 443, 465, 587)),
        ("DatabaseGroup", "127.0.0.1/32", None, None),
        ("BastionGroup", "HostGroup", 22, 22),
        ("BastionGroup", "DatabaseGroup", 5432, 5432),
        ("BastionGroup", "0.0.0.0/0", 443, 443),
    }


def test_only_the_public_layer_reaches_the_internet_directly_and_the_database_layer_has_no_route_out() -> None:
    network = RESOURCES["network"]
    layer = {
        given["SubnetId"]: given["RouteTableId"]
        for _, given in templates.of_type(network, "EC2::SubnetRouteTableAssociation")
    }
    gateway = {
        given["RouteTableId"]: given.get("GatewayId", "NAT") for _, given in templates.of_type(network, "EC2::Route")
    }

    assert {subnet: gateway.get(table) for subnet, table in layer.items()} == {
        "PublicA": "InternetGateway",
        "PublicB": "InternetGateway",
        "ApplicationA": "NAT",
        "ApplicationB": "NAT",
        "DatabaseA": None,
        "DatabaseB": None,
    }
    endpoint = network["LakeEndpoint"]["Properties"]
    assert set(endpoint["RouteTableIds"]) == {"ApplicationARoutes", "ApplicationBRoutes"}


def test_host_edge_and_warehouse_are_in_their_own_layers_and_groups() -> None:
    outputs = TEMPLATES["network"]["Outputs"]
    host, edge = RESOURCES["host"]["Host"]["Properties"], RESOURCES["host"]["Edge"]["Properties"]
    data = {name: resource["Properties"] for name, resource in RESOURCES["data"].items()}

    assert [name for name, resource in RESOURCES["host"].items() if "PublicSubnets" in str(resource)] == ["Edge"]
    assert outputs["HostSubnet"]["Value"] == "ApplicationA"
    assert outputs["DatabaseSubnets"]["Value"] == {"Fn::Join": [",", ["DatabaseA", "DatabaseB"]]}
    assert all(outputs[name]["Value"] == name for name in ("EdgeGroup", "HostGroup", "DatabaseGroup"))
    assert host["SubnetId"] == "delaywatch-network-HostSubnet"
    assert host["SecurityGroupIds"] == ["delaywatch-network-HostGroup"]
    assert edge["SecurityGroups"] == ["delaywatch-network-EdgeGroup"]
    assert data["Warehouse"]["VPCSecurityGroups"] == ["delaywatch-network-DatabaseGroup"]
    assert data["Warehouse"]["DBSubnetGroupName"] == "WarehouseSubnets"
    assert "delaywatch-network-DatabaseSubnets" in str(data["WarehouseSubnets"]["SubnetIds"])


def test_a_bastion_is_off_by_default_and_open_to_few_addresses() -> None:
    parameter = TEMPLATES["network"]["Parameters"]["BastionFrom"]
    parts = [resource for name, resource in RESOURCES["network"].items() if "Bastion" in name]
    addresses = ("", "198.51.0.0/16", "0.0.0.0/0", "198.0.0.0/8")

    assert [bool(re.fullmatch(parameter["AllowedPattern"], each)) for each in addresses] == [True, True, False, False]
    assert parameter["Default"] == ""
    assert parts
    assert all(resource["Condition"] == "HasBastion" for resource in parts)


# --- Rights -----------------------------------------------------------------------------------------------------------


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def too_wide(statement: dict[str, Any]) -> bool:
    """Whether it allows a star in an action, in a resource except at the end of a path, or everybody."""
    if statement["Effect"] == "Deny":
        return False
    resources = [str(resource).removesuffix("/*") for resource in _list(statement.get("Resource", []))]
    return (
        bool(statement.keys() & {"NotAction", "NotResource", "NotPrincipal"})
        or any("*" in action for action in _list(statement.get("Action", [])))
        or any("*" in resource or resource == "" for resource in resources)
        or "*" in json.dumps(statement.get("Principal", ""))
    )


def test_every_right_is_narrow_or_has_a_reason() -> None:
    wide = [
        statement["Sid"]
        for resources in RESOURCES.values()
        for _, statement in templates.statements(resources)
        if too_wide(statement)
    ]

    assert sorted(wide) == sorted(WIDE)


def rights_of(resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the statements that have a Sid, by their Sid."""
    return {statement["Sid"]: statement for _, statement in templates.statements(resources) if "Sid" in statement}


def test_the_host_may_use_its_bucket_and_its_secrets_only() -> None:
    rights = rights_of(RESOURCES["host"])
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:delaywatch-data-SecretsPrefix"

    assert rights["LakeAndLogs"]["Resource"] == ["arn:aws:s3:::lake/lake/*", "arn:aws:s3:::lake/logs/*"]
    assert rights["Backups"]["Resource"] == ["arn:aws:s3:::lake/backups/*"]
    assert "s3:DeleteObject" not in rights["Backups"]["Action"]
    assert rights["Releases"]["Action"] == "s3:GetObject"
    assert rights["Releases"]["Resource"] == ["arn:aws:s3:::lake/releases/*"]
    assert rights["Secrets"]["Resource"] == [
        f"{secret}/connections/*",
        f"{secret}/variables/*",
        "delaywatch-data-SettingsSecret",
    ]
    assert rights["Metrics"]["Condition"] == {"StringEquals": {"cloudwatch:namespace": "Delaywatch"}}


def test_the_glue_job_may_read_bronze_and_its_files_and_replace_silver_only() -> None:
    rights = rights_of(RESOURCES["spark"])
    objects = {
        (action, resource)
        for statement in rights.values()
        for action in _list(statement["Action"])
        for resource in _list(statement["Resource"])
        if action.startswith("s3:") and action != "s3:ListBucket"
    }

    lake = "arn:aws:s3:::lake"
    reads = {f"{lake}/lake/01_bronze/*", f"{lake}/lake/02_silver/*", f"{lake}/releases/spark-v1/*"}
    assert {resource for action, resource in objects if action == "s3:GetObject"} == reads
    assert {entry for entry in objects if entry[0] != "s3:GetObject"} == {("s3:PutObject", f"{lake}/lake/02_silver/*")}
    listed = rights["ListOfBronzeAndSilver"]
    assert listed["Condition"] == {"StringLikeIfExists": {"s3:prefix": ["lake/01_bronze/*", "lake/02_silver/*"]}}
    assert {action.partition(":")[0] for statement in rights.values() for action in _list(statement["Action"])} == {
        "s3",
        "logs",
        "glue",
    }


def test_the_host_may_run_and_stop_the_glue_job_but_not_change_it() -> None:
    policy = RESOURCES["spark"]["RunsTheJob"]["Properties"]
    (statement,) = policy["PolicyDocument"]["Statement"]

    assert policy["Roles"] == ["RoleOfTheHost"]
    assert statement["Resource"] == f"arn:aws:glue:{REGION}:{ACCOUNT}:job/Silver"
    assert set(statement["Action"]) == {
        f"glue:{name}" for name in ("GetJob", "StartJobRun", "GetJobRun", "BatchStopJobRun")
    }


def test_the_glue_job_gets_the_files_that_the_bundle_has() -> None:
    job = RESOURCES["spark"]["Silver"]["Properties"]
    folder = "s3://lake/releases/spark-v1"

    assert job["Command"]["ScriptLocation"] == f"{folder}/{BUNDLE['SCRIPT'].name}"
    assert job["DefaultArguments"]["--extra-py-files"] == f"{folder}/{BUNDLE['CODE']}"
    assert job["DefaultArguments"]["--additional-python-modules"] == f"{folder}/{BUNDLE['WHEELS']}"


def test_the_endpoint_of_the_lake_writes_only_to_buckets_of_this_account() -> None:
    rights = rights_of(RESOURCES["network"])

    write = rights["WriteOnlyToBucketsOfThisAccount"]
    assert write["Condition"] == {"StringEquals": {"aws:ResourceAccount": ACCOUNT}}
    assert all(action.startswith(("s3:Get", "s3:List")) for action in rights["ReadAnything"]["Action"])


def test_the_bucket_refuses_requests_without_tls() -> None:
    policy = RESOURCES["data"]["LakePolicy"]["Properties"]
    statements = policy["PolicyDocument"]["Statement"]

    assert policy["Bucket"] == "Lake"
    for statement in statements:
        assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
        assert statement["Resource"] == ["Lake.Arn", "Lake.Arn/*"]
    assert statements[0]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statements[1]["Condition"] == {"NumericLessThan": {"s3:TlsVersion": "1.2"}}


def test_each_github_role_trusts_one_environment_of_the_repository() -> None:
    trusted = {
        role: statement["Condition"]["StringEquals"]
        for role, statement in templates.statements(RESOURCES["github"])
        if statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    }

    issuer, repository = "token.actions.githubusercontent.com", "repo:octocat@583231/delaywatch@1296269"
    assert trusted == {
        f"{role}Role": {
            f"{issuer}:aud": "sts.amazonaws.com",
            f"{issuer}:sub": f"{repository}:environment:{environment}",
        }
        for role, environment in {"Deploy": "production", "Images": "images", "Dags": "dags"}.items()
    }


def test_each_github_role_writes_to_its_own_place_only() -> None:
    github = templates.load("github", Lake="lake", Name="trial", EcrFolder="team/", DagsBucket="mwaa", DagsFolder="a/b")
    rights = rights_of(github["Resources"])
    compose = (ROOT / "docker-compose.yaml").read_text()
    images = set(re.findall(r"image: (delaywatch-\w+):", compose))

    assert rights["Release"]["Resource"] == "arn:aws:s3:::lake/releases/*"
    assert rights["OnTheHost"]["Condition"] == {"StringEquals": {"ssm:resourceTag/delaywatch": "trial"}}
    repositories = {arn.partition(":repository/")[2] for arn in rights["Push"]["Resource"]}
    assert repositories == {f"team/{image}" for image in images}
    assert rights["Sync"]["Resource"] == "arn:aws:s3:::mwaa/a/b/*"
    assert rights["WhatIsThere"]["Condition"] == {"StringLike": {"s3:prefix": "a/b/*"}}


# --- The host's first script ------------------------------------------------------------------------------------------


def test_user_data_fits_into_ec2_parses_and_has_no_secret() -> None:
    user_data = templates.user_data()
    scripts = templates.scripts(user_data)

    assert list(scripts) == ["text/cloud-boothook", "text/x-shellscript"]
    for script in scripts.values():
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        assert not re.search(r"\$\{|\{\{resolve|password|get-secret-value", script)
    assert len(user_data.encode()) <= 16_384


def test_every_import_is_an_output_of_an_earlier_stack() -> None:
    exports = {
        str(output["Export"]["Name"])
        for name in ("network", "data", "host")
        for output in TEMPLATES[name]["Outputs"].values()
        if "Export" in output
    }

    imported = {
        f"delaywatch-{stack.lower()}-{export}"
        for name in ("data", "host", "spark")
        for stack, export in re.findall(r'ImportValue"?: !Sub "?\$\{(\w+)Stack\}-(\w+)', templates.text(name))
    }

    assert imported
    assert imported <= exports


def test_logs_and_backups_expire_and_the_lake_never_does() -> None:
    rules = RESOURCES["data"]["Lake"]["Properties"]["LifecycleConfiguration"]["Rules"]

    expiring = {rule.get("Prefix"): rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule}
    former = {rule.get("Prefix"): days for rule in rules if (days := rule.get("NoncurrentVersionExpiration"))}

    assert expiring == {"logs/": 180, "backups/": 35}
    assert former == {None: {"NoncurrentDays": 30}, "backups/": {"NoncurrentDays": 1}}  # backups hold every secret


def test_every_metric_of_an_alarm_is_sent_by_the_host() -> None:
    by_script = re.findall(r"put_metric ([A-Z][a-z]\w+)", (FOLDER / "host.sh").read_text())
    by_agent = ["disk_used_percent", "mem_used_percent"]
    alarms = [given for _, given in templates.of_type(RESOURCES["host"], "CloudWatch::Alarm")]
    own = [alarm for alarm in alarms if alarm["Namespace"] == "Delaywatch"]

    assert {alarm["MetricName"] for alarm in own} == {*by_script, *by_agent}
    assert all(alarm["Dimensions"] == [{"Name": "InstanceId", "Value": "Host"}] for alarm in own)
