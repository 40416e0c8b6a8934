"""What the templates promise before anything is created: cfn-lint, and the rules of `templates`."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cloud import templates
from tests.integration.cloud.templates import FOLDER, NAMES, RULES, WIDE, Resources, Rule

pytestmark = pytest.mark.cloud


def test_cfn_lint_has_nothing_to_say() -> None:
    program, files = Path(sys.executable).with_name("cfn-lint"), sorted(FOLDER.glob("*.yaml"))

    done = subprocess.run([program, "--include-checks", "I", "--", *files], capture_output=True, text=True, check=False)

    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_template_keeps_every_rule(name: str, rule: Rule) -> None:
    assert rule(templates.load(name)["Resources"]) == []


def _open_ssh(resources: Resources) -> None:
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": "0.0.0.0/0"}
    resources["EdgeGroup"]["Properties"]["SecurityGroupIngress"].append(rule)


def _database_for_the_office(resources: Resources) -> None:
    properties = resources["DatabaseFromHost"]["Properties"]
    del properties["SourceSecurityGroupId"]
    properties["CidrIp"] = "198.51.100.0/24"


def _https_on_the_host(resources: Resources) -> None:
    resources["HostFromEdge"]["Properties"] |= {"CidrIp": "0.0.0.0/0"}
    del resources["HostFromEdge"]["Properties"]["SourceSecurityGroupId"]


def _statement(resources: Resources, sid: str) -> dict[str, Any]:
    return next(statement for _, statement in templates.statements(resources) if statement.get("Sid") == sid)


# What somebody might do one day, the template that it is done to, and the rule that has to notice.
MISTAKES: dict[str, tuple[str, Rule, Callable[[Resources], Any]]] = {
    "SSH open to all": ("network", templates.open_to_addresses, _open_ssh),
    "database open to an office": ("network", templates.open_to_addresses, _database_for_the_office),
    "host open beside the load balancer": ("network", templates.open_to_addresses, _https_on_the_host),
    "a group that lets everything out": (
        "network",
        templates.open_way_out,
        lambda found: found["DatabaseGroup"]["Properties"].pop("SecurityGroupEgress"),
    ),
    "a subnet with public addresses": (
        "network",
        templates.keys_and_public_addresses,
        lambda found: found["ApplicationA"]["Properties"].update(MapPublicIpOnLaunch=True),
    ),
    "a plain bucket": (
        "data",
        templates.unencrypted,
        lambda found: found["Lake"]["Properties"].pop("BucketEncryption"),
    ),
    "a plain database": (
        "data",
        templates.unencrypted,
        lambda found: found["Warehouse"]["Properties"].update(StorageEncrypted=False),
    ),
    "a database without TLS": (
        "data",
        templates.unencrypted,
        lambda found: found["WarehouseParameters"]["Properties"]["Parameters"].clear(),
    ),
    "a bucket that may be public": (
        "data",
        templates.bucket_for_all,
        lambda found: found["Lake"]["Properties"]["PublicAccessBlockConfiguration"].update(BlockPublicPolicy=False),
    ),
    "a bucket without versions": (
        "data",
        templates.bucket_for_all,
        lambda found: found["Lake"]["Properties"].pop("VersioningConfiguration"),
    ),
    "a bucket without its policy": ("data", templates.bucket_for_all, lambda found: found.pop("LakePolicy")),
    "a public database": (
        "data",
        templates.keys_and_public_addresses,
        lambda found: found["Warehouse"]["Properties"].update(PubliclyAccessible=True),
    ),
    "a password in the template": (
        "data",
        templates.written_secrets,
        lambda found: found["Warehouse"]["Properties"].update(MasterUserPassword="hunter22hunter22"),
    ),
    "a secret in the template": (
        "data",
        templates.written_secrets,
        lambda found: found["SettingsSecret"]["Properties"].update(SecretString='{"DELAYWATCH_EMAIL": "me"}'),
    ),
    "a database without a last snapshot": (
        "data",
        templates.losable,
        lambda found: found["Warehouse"].update(DeletionPolicy="Delete"),
    ),
    "backups of a day": (
        "data",
        templates.losable,
        lambda found: found["Warehouse"]["Properties"].update(BackupRetentionPeriod=1),
    ),
    "all of S3": (
        "host",
        templates.wide_rights,
        lambda found: _statement(found, "LakeAndLogs").update(Action="s3:*"),
    ),
    "every secret of the account": (
        "host",
        templates.wide_rights,
        lambda found: _statement(found, "Secrets").update(Resource="*"),
    ),
    "every bucket there is": (
        "host",
        templates.wide_rights,
        lambda found: _statement(found, "Releases").update(
            Resource={"Fn::Sub": "arn:${AWS::Partition}:s3:::*/releases/*"}
        ),
    ),
    "all but one action": (
        "host",
        templates.wide_rights,
        lambda found: _statement(found, "Releases").update(NotAction="s3:DeleteBucket"),
    ),
    "a bucket for everybody": (
        "data",
        templates.wide_rights,
        lambda found: found["LakePolicy"]["Properties"]["PolicyDocument"]["Statement"][0].update(
            Effect="Allow", Action="s3:GetObject"
        ),
    ),
    "a bucket that refuses plain HTTP for its list alone": (
        "data",
        templates.bucket_for_all,
        lambda found: found["LakePolicy"]["Properties"]["PolicyDocument"]["Statement"][0]["Resource"].pop(),
    ),
    "a public address for the host": (
        "network",
        templates.keys_and_public_addresses,
        lambda found: found["BastionAddress"]["Properties"].update(InstanceId={"Ref": "Host"}),
    ),
    "a bastion for all of the internet": (
        "network",
        templates.open_to_addresses,
        lambda found: found["BastionGroup"]["Properties"]["SecurityGroupIngress"][0].update(CidrIp="0.0.0.0/0"),
    ),
    "a bastion with more than SSH": (
        "network",
        templates.open_to_addresses,
        lambda found: found["BastionGroup"]["Properties"]["SecurityGroupIngress"][0].update(ToPort=8080),
    ),
    "the old metadata service": (
        "host",
        templates.old_metadata,
        lambda found: found["Host"]["Properties"].pop("MetadataOptions"),
    ),
    "an SSH key": (
        "host",
        templates.keys_and_public_addresses,
        lambda found: found["Host"]["Properties"].update(KeyName="me"),
    ),
    "a plain disk": (
        "host",
        templates.unencrypted,
        lambda found: found["Host"]["Properties"]["BlockDeviceMappings"][0]["Ebs"].pop("Encrypted"),
    ),
    "nginx spoken to without TLS": (
        "host",
        templates.unencrypted,
        lambda found: found["Nginx"]["Properties"].update(Protocol="HTTP"),
    ),
    "port 80 that forwards": (
        "host",
        templates.unencrypted,
        lambda found: found["Http"]["Properties"].update(DefaultActions=[{"Type": "forward"}]),
    ),
    "a password in UserData": (
        "host",
        templates.written_secrets,
        lambda found: found["Host"]["Properties"].update(UserData={"Fn::Base64": "PASSWORD=hunter22"}),
    ),
    "an alarm that nobody hears": (
        "host",
        templates.silent_alarms,
        lambda found: found["DiskNearlyFull"]["Properties"].pop("AlarmActions"),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_breaks_its_rule(mistake: str) -> None:
    name, rule, make = MISTAKES[mistake]
    resources: Resources = copy.deepcopy(templates.load(name)["Resources"])

    make(resources)

    assert rule(resources) != []


def test_every_rule_has_a_mistake_that_breaks_it() -> None:
    assert {rule for _, rule, _ in MISTAKES.values()} == set(RULES)


def test_every_wide_right_that_has_a_reason_is_there() -> None:
    """A reason without its statement would excuse the next statement of that name."""
    there = {
        statement.get("Sid")
        for name in NAMES
        for _, statement in templates.statements(templates.load(name)["Resources"])
    }

    assert set(WIDE) <= there


def test_the_database_layer_has_no_way_out() -> None:
    resources = templates.load("network")["Resources"]

    routed = {properties["RouteTableId"]["Ref"] for _, properties in templates.of_type(resources, "EC2::Route")}
    endpoint = {table["Ref"] for table in resources["LakeEndpoint"]["Properties"]["RouteTableIds"]}

    assert routed == {"PublicRoutes", "ApplicationARoutes", "ApplicationBRoutes"}
    assert "DatabaseRoutes" not in endpoint


@pytest.mark.parametrize(
    ("addresses", "is_taken"),
    [("", True), ("198.51.100.7/32", True), ("198.51.0.0/16", True), ("0.0.0.0/0", False), ("198.0.0.0/8", False)],
)
def test_a_bastion_is_for_a_few_addresses_and_off_at_first(addresses: str, is_taken: bool) -> None:
    template = templates.load("network")
    parameter = template["Parameters"]["BastionFrom"]

    found = re.fullmatch(parameter["AllowedPattern"], addresses)

    assert (found is not None) == is_taken
    assert parameter["Default"] == ""
    parts = [resource for name, resource in template["Resources"].items() if "Bastion" in name]
    assert len(parts) == 5
    assert all(resource["Condition"] == "HasBastion" for resource in parts)


def test_logs_and_backups_expire_and_the_lake_never_does() -> None:
    rules = templates.load("data")["Resources"]["Lake"]["Properties"]["LifecycleConfiguration"]["Rules"]

    expiring = {rule.get("Prefix", "everything") for rule in rules if "ExpirationInDays" in rule}

    assert expiring == {"logs/", "backups/"}


def test_only_the_load_balancer_is_in_the_public_layer() -> None:
    resources = templates.load("host")["Resources"]

    public = [name for name, resource in resources.items() if "PublicSubnets" in str(resource)]

    assert public == ["Edge"]
    assert "HostSubnet" in str(resources["Host"]["Properties"]["SubnetId"])


def test_an_alarm_that_sends_somebody_to_the_runbook_names_a_heading_of_it() -> None:
    headings = re.findall(r"^## (.+)$", (FOLDER.parent / "runbook.md").read_text(), re.MULTILINE)
    named = re.findall(r'Runbook, "(.+?)"', (FOLDER / "host.yaml").read_text())

    assert named
    assert set(named) <= set(headings)


def test_what_the_alarm_of_health_tells_people_to_type_is_what_the_host_asks() -> None:
    asked = "docker compose exec -T health python -m utils health"
    text = templates.load("host")["Resources"]["Unhealthy"]["Properties"]["AlarmDescription"]

    assert "`make health`" in text
    assert f"\n\t@{asked}\n" in (FOLDER.parents[1] / "Makefile").read_text()
    assert f"if {asked}; then" in (FOLDER / "host.sh").read_text()


def test_the_alarm_of_backups_waits_for_the_latest_hour_at_which_a_night_s_backup_may_come() -> None:
    script = (FOLDER / "host.sh").read_text()
    (delay_min,) = re.findall(r"^RandomizedDelaySec=(\d+)min$", script, re.MULTILINE)
    (unit,) = re.findall(r"^ExecStart=\$self backup\nTimeoutStartSec=(\d+)h$", script, re.MULTILINE)
    alarm = templates.load("host")["Resources"]["BackupMissing"]["Properties"]
    latest_s = 86_400 + int(delay_min) * 60 + int(unit) * 3600

    waits_s = alarm["Period"] * alarm["EvaluationPeriods"]

    assert latest_s < waits_s < 2 * 86_400


def test_the_load_balancer_waits_longer_than_nginx() -> None:
    """Else a slow query would end in a bare 504 of the load balancer instead of a sentence of who gave up first."""
    nginx = (FOLDER.parents[1] / "nginx/includes/forwarding.conf").read_text()
    attributes = templates.load("host")["Resources"]["Edge"]["Properties"]["LoadBalancerAttributes"]
    patience_s = {attribute["Key"]: attribute["Value"] for attribute in attributes}["idle_timeout.timeout_seconds"]

    assert "proxy_read_timeout 300s;" in nginx
    assert int(patience_s) > 300
