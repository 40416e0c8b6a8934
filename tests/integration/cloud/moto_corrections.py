"""Make moto 5.2.5 create, update and delete our stacks, also by change sets, as the AWS CLI does."""

from __future__ import annotations

from typing import Any

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.common_models import CloudFormationModel
from moto.ec2.models.route_tables import RouteTable
from moto.elbv2.models import FakeLoadBalancer, FakeTargetGroup
from moto.rds.models import DBParameterGroup

# moto creates none of these, or wrongly; nothing is created in their place.
IGNORED = (
    "AWS::CloudWatch::Alarm",
    "AWS::Glue::Job",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SecretsManager::Secret",
    "AWS::SecretsManager::SecretTargetAttachment",
)


class Ignored(CloudFormationModel):
    """A resource that only has a name."""

    physical_resource_id = "ignored"

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        return "see IGNORED"

    @classmethod
    def create_from_cloudformation_json(cls, *_: Any, **__: Any) -> Ignored:
        return cls()

    @classmethod
    def update_from_cloudformation_json(cls, *_: Any, **__: Any) -> Ignored:
        return cls()

    def delete(self, *_: str) -> None:
        pass


def _delete_route_table(table: Any, *_: str) -> None:
    table._associations.clear()
    table.ec2_backend.delete_route_table(table.id)


_create_change_set = CloudFormationBackend.create_change_set


def _change(backend: Any, *, stack_name: str, parameters: dict[str, str], change_set_type: str, **more: Any) -> Any:
    if change_set_type == "UPDATE":
        stack = backend.get_stack(stack_name)
        if stack.status == "ROLLBACK_COMPLETE":
            raise ValidationError(
                stack_name, message=f"{stack_name} is in {stack.status} state and can not be updated."
            )
        changed = {key: value for key, value in parameters.items() if value != stack.stack_parameters.get(key)}
        parameters = stack.parameters | changed
    return _create_change_set(
        backend, stack_name=stack_name, parameters=parameters, change_set_type=change_set_type, **more
    )


def _execute(backend: Any, change_set_name: str, stack_name: str | None = None) -> None:
    change = backend.describe_change_set(change_set_name)
    if change.change_set_type == "CREATE":
        del backend.stacks[change.stack_id]
        backend.create_stack(change.stack_name, change.template, change.parameters, tags=change.tags)
    else:
        change.stack.update(change.template, parameters=change.parameters, tags=change.tags)
    change.execution_status = "EXECUTE_COMPLETE"


CORRECTED: tuple[tuple[type, str, Any], ...] = (
    # An RDS instance gets the object of its parameter group instead of the name.
    (DBParameterGroup, "physical_resource_id", property(lambda group: group.name)),
    # Attributes that only our alarms and the outputs use.
    (FakeTargetGroup, "get_cfn_attribute", lambda *_: "ignored"),
    (FakeLoadBalancer, "get_cfn_attribute", lambda *_: "ignored"),
    # Route tables stay, so their network cannot be deleted.
    (RouteTable, "delete", _delete_route_table),
    # Change sets: kept parameters count as changed, ...
    (CloudFormationBackend, "create_change_set", _change),
    # ... a change set without changes is refused, which AWS creates and calls failed, ...
    (CloudFormationResponse, "_validate_different_update", lambda *_: None),
    # ... and the stack of a change set has no outputs, exports or imports.
    (CloudFormationBackend, "execute_change_set", _execute),
)


def apply() -> None:
    """Call it before the first stack is created."""
    for owner, name, value in CORRECTED:
        setattr(owner, name, value)
    models: dict[str, Any] = parsing.get_model_map()
    models.update(dict.fromkeys(IGNORED, Ignored))
