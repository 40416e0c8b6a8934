"""The CloudFormation templates as plain values, and the rules that each of them has to keep; nothing here is created.

A rule is a function from a template's resources to sentences about what breaks it, so an empty list is good news.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[3] / "infra-notes/cloudformation"
NAMES = ("network", "data", "host")
Resources = dict[str, dict[str, Any]]
Rule = Callable[[Resources], list[str]]

# Where AWS knows no narrower resource than *, and why that is no danger.
WIDE = {
    "ReadAnything": "S3's endpoint: packages lie in buckets of others, and reading still needs a right of the role",
    "WriteOnlyToBucketsOfThisAccount": "its condition names the account",
    "Metrics": "cloudwatch:PutMetricData takes no resource; the condition names our namespace",
    "SessionManager": "the agent's channels take no resource",
}


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms."""


def _long_form(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if name == "GetAtt":
        value = value.split(".")
    return {name if name == "Ref" else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _long_form)


def text(name: str) -> str:
    return (FOLDER / f"{name}.yaml").read_text()


def load(name: str) -> dict[str, Any]:
    template: dict[str, Any] = yaml.load(text(name), _Loader)  # noqa: S506 (it is a SafeLoader)
    return template


def of_type(resources: Resources, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and properties of every resource of this type."""
    for name, resource in resources.items():
        if resource["Type"] == f"AWS::{kind}":
            yield name, resource.get("Properties", {})


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(resources: Resources) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement of every policy, wherever it is written."""
    for name, resource in resources.items():
        properties = resource.get("Properties", {})
        documents = [properties.get("PolicyDocument"), properties.get("AssumeRolePolicyDocument")]
        documents += [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        for document in filter(None, documents):
            yield from ((name, statement) for statement in document["Statement"])


# --- rules ------------------------------------------------------------------------------------------------------------


def open_to_addresses(resources: Resources) -> list[str]:
    """Only the load balancer's group takes traffic from addresses, on 443 and 80, and the bastion's on 22 from those of
    its parameter; all others name a group.
    """
    rules = [(name, properties) for name, properties in of_type(resources, "EC2::SecurityGroupIngress")]
    for name, properties in of_type(resources, "EC2::SecurityGroup"):
        rules += [(name, rule) for rule in properties.get("SecurityGroupIngress", [])]
    found = []
    for name, rule in rules:
        comes_from_group = "SourceSecurityGroupId" in rule
        ports = (rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort"))
        is_web = name == "EdgeGroup" and ports in {("tcp", 80, 80), ("tcp", 443, 443)}
        is_bastion = (
            name == "BastionGroup" and ports == ("tcp", 22, 22) and rule.get("CidrIp") == {"Ref": "BastionFrom"}
        )
        if not (comes_from_group or is_web or is_bastion):
            found.append(
                f"{name} takes {rule['IpProtocol']} {rule.get('FromPort')}-{rule.get('ToPort')} from addresses"
            )
    return found


def open_way_out(resources: Resources) -> list[str]:
    """Each group says what may leave it (else AWS allows everything), and none allows every port or protocol."""
    found = []
    for name, properties in of_type(resources, "EC2::SecurityGroup"):
        rules = properties.get("SecurityGroupEgress")
        if not rules:
            found.append(f"{name} does not say what may leave it")
        everything = [rule for rule in rules or [] if rule["IpProtocol"] == "-1"]
        found += [f"{name} lets everything out" for rule in everything if rule.get("CidrIp") != "127.0.0.1/32"]
    return found


def unencrypted(resources: Resources) -> list[str]:
    """Disks, bucket, database and what crosses the network are encrypted."""
    found = []
    for name, properties in of_type(resources, "S3::Bucket"):
        if "BucketEncryption" not in properties:
            found.append(f"{name} is not encrypted")
    for name, properties in of_type(resources, "RDS::DBInstance"):
        if properties.get("StorageEncrypted") is not True:
            found.append(f"{name} is not encrypted")
    for name, properties in of_type(resources, "RDS::DBParameterGroup"):
        if properties["Parameters"].get("rds.force_ssl") != "1":
            found.append(f"{name} takes connections without TLS")
    for name, properties in of_type(resources, "EC2::Instance"):
        disks = properties.get("BlockDeviceMappings", [])
        if not disks or any(disk["Ebs"].get("Encrypted") is not True for disk in disks):
            found.append(f"{name} has a disk that is not encrypted")
    for name, properties in of_type(resources, "ElasticLoadBalancingV2::TargetGroup"):
        if properties["Protocol"] != "HTTPS":
            found.append(f"{name} is spoken to without TLS")
    for name, properties in of_type(resources, "ElasticLoadBalancingV2::Listener"):
        only_redirects = {action["Type"] for action in properties["DefaultActions"]} == {"redirect"}
        if properties["Protocol"] != "HTTPS" and not only_redirects:
            found.append(f"{name} forwards without TLS")
    return found


def bucket_for_all(resources: Resources) -> list[str]:
    """Every bucket is closed to the public, versioned, and has a policy that refuses what does not come by TLS."""
    closed = {"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"}
    refusing = {
        properties["Bucket"]["Ref"]
        for _, properties in of_type(resources, "S3::BucketPolicy")
        for statement in properties["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny"
        and (statement["Principal"], statement["Action"]) == ("*", "s3:*")
        and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        and len(statement["Resource"]) == 2  # the bucket and what is in it
    }
    found = []
    for name, properties in of_type(resources, "S3::Bucket"):
        block = properties.get("PublicAccessBlockConfiguration", {})
        if {key for key, is_on in block.items() if is_on is True} != closed:
            found.append(f"{name} may be made public")
        if properties.get("VersioningConfiguration") != {"Status": "Enabled"}:
            found.append(f"{name} forgets what was overwritten")
        if name not in refusing:
            found.append(f"{name} can be used without TLS")
    return found


def wide_rights(resources: Resources) -> list[str]:
    """No allowed action has a star, and a resource has one only at its end, after a slash. What is wider, or open to
    all, stands in WIDE with its reason.
    """
    found = []
    for name, statement in statements(resources):
        if statement["Effect"] != "Allow":
            continue
        if unknown := statement.keys() & {"NotAction", "NotResource", "NotPrincipal"}:
            found.append(f"{name} allows all but some: {sorted(unknown)}")
        found += [f"{name} allows {action}" for action in _list(statement.get("Action", [])) if "*" in action]
        is_wide = any("*" in _without_last_part(one) for one in _list(statement.get("Resource", [])))
        is_for_all = "*" in json.dumps(statement.get("Principal", ""))
        if (is_wide or is_for_all) and statement.get("Sid") not in WIDE:
            found.append(f"{name} allows {statement.get('Action')} everywhere or to everybody")
    return found


def _without_last_part(resource: Any) -> str:
    """An ARN as it is written, less a `/*` at its end."""
    if isinstance(resource, dict) and "Fn::Sub" in resource:
        resource = _list(resource["Fn::Sub"])[0]
    written = resource if isinstance(resource, str) else ""
    return written.removesuffix("/*") if written.count("/") and ":" in written else written


def old_metadata(resources: Resources) -> list[str]:
    """The metadata service answers only who asks for a token first (IMDSv2)."""
    return [
        f"{name} answers IMDSv1"
        for name, properties in of_type(resources, "EC2::Instance")
        if properties.get("MetadataOptions", {}).get("HttpTokens") != "required"
    ]


def keys_and_public_addresses(resources: Resources) -> list[str]:
    """No SSH key, no public address but the bastion's, no subnet that hands out any, no public database."""
    found = []
    for name, properties in of_type(resources, "EC2::Instance"):
        if "KeyName" in properties:
            found.append(f"{name} has an SSH key")
        if "NetworkInterfaces" in properties:
            found.append(f"{name} has an interface of its own, which may have a public address")
    for name, properties in of_type(resources, "EC2::EIP"):
        if "InstanceId" in properties and properties["InstanceId"] != {"Ref": "Bastion"}:
            found.append(f"{name} gives an instance a public address")
    for name, properties in of_type(resources, "EC2::Subnet"):
        if properties.get("MapPublicIpOnLaunch") is not False:
            found.append(f"{name} hands out public addresses")
    for name, properties in of_type(resources, "RDS::DBInstance"):
        if properties.get("PubliclyAccessible") is not False:
            found.append(f"{name} is public")
    return found


def written_secrets(resources: Resources) -> list[str]:
    """No secret is written in a template or brought into UserData; passwords are generated or resolved."""
    found = []
    for name, properties in of_type(resources, "SecretsManager::Secret"):
        if "GenerateSecretString" not in properties and properties.get("SecretString") != "{}":
            found.append(f"{name} has its secret in the template")
    for name, properties in of_type(resources, "RDS::DBInstance"):
        password = json.dumps(properties.get("MasterUserPassword", ""))
        if "{{resolve:secretsmanager:" not in password:
            found.append(f"{name} has its password in the template")
    for name, properties in of_type(resources, "EC2::Instance"):
        data = json.dumps(properties.get("UserData", "")).lower()
        if "{{resolve" in data or "password" in data or "get-secret-value" in data:
            found.append(f"{name} has a secret in its UserData")
    return found


def losable(resources: Resources) -> list[str]:
    """Deleting a stack leaves the bucket and a snapshot of the database, which also has a week of backups."""
    found = []
    for kind, kept in {"S3::Bucket": ("RetainExceptOnCreate", "Retain"), "RDS::DBInstance": ("Snapshot",) * 2}.items():
        for name, _ in of_type(resources, kind):
            policies = zip(("DeletionPolicy", "UpdateReplacePolicy"), kept, strict=True)
            found += [
                f"{name} would be gone by {key}" for key, wanted in policies if resources[name].get(key) != wanted
            ]
    for name, properties in of_type(resources, "RDS::DBInstance"):
        if properties.get("DeletionProtection") is not True:
            found.append(f"{name} can be deleted by mistake")
        if properties.get("BackupRetentionPeriod", 0) < 7:
            found.append(f"{name} has less than a week of backups")
    return found


def silent_alarms(resources: Resources) -> list[str]:
    """Every alarm tells the topic, also that it is over."""
    return [
        f"{name} tells nobody"
        for name, properties in of_type(resources, "CloudWatch::Alarm")
        if not properties.get("AlarmActions") or not properties.get("OKActions")
    ]


RULES: tuple[Rule, ...] = (
    open_to_addresses,
    open_way_out,
    unencrypted,
    bucket_for_all,
    wide_rights,
    old_metadata,
    keys_and_public_addresses,
    written_secrets,
    losable,
    silent_alarms,
)
