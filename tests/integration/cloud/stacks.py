"""The three stacks as boto3 makes and deletes them, and what their parts are called in AWS."""

from __future__ import annotations

import base64
import email

from tests.integration.cloud import templates
from tests.integration.cloud.conftest import Client

DOMAIN = "delays.example.com"
RELEASE = "releases/v1.tar.gz"


class Stacks:
    """PREFIX-network, PREFIX-data and PREFIX-host."""

    def __init__(self, aws: Client, prefix: str) -> None:
        self._cloudformation = aws("cloudformation")
        self.prefix = prefix

    def __call__(self, stack: str, name: str) -> str:
        """The ID in AWS of a resource, by its name in the template."""
        found = self._cloudformation.list_stack_resources(StackName=f"{self.prefix}-{stack}")["StackResourceSummaries"]
        ids = {resource["LogicalResourceId"]: resource.get("PhysicalResourceId", "") for resource in found}
        return str(ids[name])


def create(aws: Client, prefix: str, image: str, certificate: str, **more: dict[str, str]) -> Stacks:
    """Make the three stacks. more: further parameters, by the name of the template."""
    given = {
        "network": {},
        "data": {"NetworkStack": f"{prefix}-network", "SecretsPrefix": prefix},
        "host": {
            "NetworkStack": f"{prefix}-network",
            "DataStack": f"{prefix}-data",
            "Domain": DOMAIN,
            "Certificate": certificate,
            "Image": image,
            "Release": RELEASE,
            "AlarmEmail": "ops@example.com",
        },
    }
    for name in templates.NAMES:
        parameters = given[name] | more.get(name, {})
        aws("cloudformation").create_stack(
            StackName=f"{prefix}-{name}",
            TemplateBody=templates.text(name),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
    return Stacks(aws, prefix)


def delete(aws: Client, stacks: Stacks) -> None:
    aws("rds").modify_db_instance(DBInstanceIdentifier=stacks("data", "Warehouse"), DeletionProtection=False)
    for name in reversed(templates.NAMES):
        aws("cloudformation").delete_stack(StackName=f"{stacks.prefix}-{name}")


def user_data(aws: Client, stacks: Stacks) -> str:
    """What the host is told at its start."""
    told = aws("ec2").describe_instance_attribute(InstanceId=stacks("host", "Host"), Attribute="userData")
    return base64.b64decode(told["UserData"]["Value"]).decode()


def parts(told: str) -> dict[str, str]:
    """The scripts of UserData by their type; cloud-init takes them apart with this module of Python too."""
    whole = email.message_from_string(told)
    return {part.get_content_type(): str(part.get_payload()) for part in whole.walk() if not part.is_multipart()}
