"""What moto's CloudFormation lacks for our templates, added to it by `fill`; each gap was met with moto 5.2.5.

Secrets are really made. Of what is in UNKNOWN nothing is made, so no test can say that it works.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from moto.cloudformation import parsing
from moto.core.common_models import CloudFormationModel
from moto.ec2.models.route_tables import RouteTable
from moto.ec2.models.subnets import SubnetBackend, SubnetRouteTableAssociation
from moto.elbv2.models import FakeTargetGroup
from moto.rds.models import DBParameterGroup
from moto.secretsmanager.models import secretsmanager_backends


class Secret(CloudFormationModel):
    """AWS::SecretsManager::Secret: made in moto's own Secrets Manager, which moto's CloudFormation does not reach."""

    def __init__(self, arn: str) -> None:
        self.physical_resource_id = arn

    @staticmethod
    def cloudformation_name_type() -> str:
        return "Name"

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SecretsManager::Secret"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
    ) -> Secret:
        properties = cloudformation_json["Properties"]
        content = properties.get("SecretString")
        if how := properties.get("GenerateSecretString"):
            password = secrets.token_hex(how["PasswordLength"] // 2)
            content = json.dumps(json.loads(how["SecretStringTemplate"]) | {how["GenerateStringKey"]: password})
        backend = secretsmanager_backends[account_id][region_name]
        made = backend.create_secret(
            name=resource_name,
            secret_string=content,
            secret_binary=None,
            description=properties["Description"],
            tags=[],
            kms_key_id=None,
            client_request_token=None,
            replica_regions=[],
            force_overwrite=False,
        )
        return cls(json.loads(made)["ARN"])

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str
    ) -> None:
        del cloudformation_json
        secretsmanager_backends[account_id][region_name].delete_secret(resource_name, None, True)


class _Nothing(CloudFormationModel):
    """A resource that is not made: moto could list a stack's resources only if it had all of them."""

    physical_resource_id = "not made"

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        return "none; UNKNOWN has them"

    @classmethod
    def create_from_cloudformation_json(cls, *_: Any, **__: Any) -> _Nothing:
        return cls()

    def delete(self, *_: str) -> None:
        """There is nothing to delete."""


UNKNOWN = dict.fromkeys(
    (
        "AWS::CloudWatch::Alarm",
        "AWS::S3::BucketPolicy",
        "AWS::SecretsManager::SecretTargetAttachment",
        "AWS::SNS::Subscription",
    ),
    _Nothing,
)


def _associate(backend: Any, route_table_id: str, subnet_id: str) -> SubnetRouteTableAssociation:
    backend.associate_route_table(route_table_id, subnet_id=subnet_id)
    return SubnetRouteTableAssociation(route_table_id, subnet_id)


def _delete_route_table(table: Any, *_: str) -> None:
    table._associations.clear()
    table.ec2_backend.delete_route_table(table.id)


GAPS: tuple[tuple[type, str, Any], ...] = (
    # It has a database of ours only when the name of its parameter group is text, and hands on its own object instead.
    (DBParameterGroup, "physical_resource_id", property(lambda group: group.name)),
    # It leaves route tables behind, and then refuses to delete their network.
    (RouteTable, "delete", _delete_route_table),
    # It keeps to itself which subnet has which routes.
    (SubnetBackend, "create_subnet_association", _associate),
    # It knows no attribute of a target group; an alarm of ours asks for one.
    (FakeTargetGroup, "get_cfn_attribute", lambda group, _: group.arn.rpartition(":")[2]),
)


def fill() -> None:
    """Call it before the first stack; twice changes nothing."""
    for kind, name, value in GAPS:
        setattr(kind, name, value)
    for known in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
        known.cache_clear()  # they may have been asked before
    parsing.get_model_map().update(UNKNOWN)
