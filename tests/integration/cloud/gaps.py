"""What moto's CloudFormation lacks for our templates, added to it by `fill`; each gap was met with moto 5.2.5.

What it does not make, or makes only in part, is made here by the call of AWS's API that has the same parameters, sent
to moto. So a property that this API does not know is an error; that AWS's CloudFormation does the same is not shown. Of
what is in NOTHING nothing is made.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.common_models import CloudFormationModel
from moto.ec2.models.instances import Instance
from moto.ec2.models.route_tables import RouteTable
from moto.ec2.models.security_groups import SecurityGroup
from moto.ec2.models.subnets import SubnetBackend, SubnetRouteTableAssociation
from moto.elbv2.models import FakeLoadBalancer, FakeTargetGroup
from moto.rds.models import DBInstance, DBParameterGroup
from moto.s3.models import FakeBucket

Client = Callable[[str], Any]
Properties = dict[str, Any]
Undo = Callable[[], Any]


# --- what moto does not make ------------------------------------------------------------------------------------------


def _secret(aws: Client, given: Properties) -> tuple[str, Undo]:
    content = given.get("SecretString")
    if how := given.get("GenerateSecretString"):
        password = secrets.token_hex(how["PasswordLength"] // 2)
        content = json.dumps(json.loads(how["SecretStringTemplate"]) | {how["GenerateStringKey"]: password})
    client = aws("secretsmanager")
    arn = client.create_secret(Name=given["Name"], Description=given["Description"], SecretString=content)["ARN"]
    return arn, lambda: client.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)


def _alarm(aws: Client, given: Properties) -> tuple[str, Undo]:
    client, name = aws("cloudwatch"), f"alarm-{secrets.token_hex(4)}"
    client.put_metric_alarm(AlarmName=name, **given)
    return name, lambda: client.delete_alarms(AlarmNames=[name])


def _subscription(aws: Client, given: Properties) -> tuple[str, Undo]:
    client = aws("sns")
    arn = client.subscribe(**given, ReturnSubscriptionArn=True)["SubscriptionArn"]
    return arn, lambda: client.unsubscribe(SubscriptionArn=arn)


def _nothing(aws: Client, given: Properties) -> tuple[str, Undo]:
    return "not made", lambda: None


# A policy of a bucket moto would take, but refuses by it whatever the conditions are.
NOTHING = ("AWS::S3::BucketPolicy", "AWS::SecretsManager::SecretTargetAttachment")
MADE: dict[str, Callable[[Client, Properties], tuple[str, Undo]]] = {
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::SecretsManager::Secret": _secret,
    "AWS::SNS::Subscription": _subscription,
    **dict.fromkeys(NOTHING, _nothing),
}


def _model(aws: Client, make: Callable[[Client, Properties], tuple[str, Undo]]) -> type[CloudFormationModel]:
    """What moto calls for a type of resource."""

    class Made(CloudFormationModel):
        def __init__(self, identifier: str, undo: Undo) -> None:
            self.physical_resource_id = identifier
            self._undo = undo

        @staticmethod
        def cloudformation_name_type() -> str:
            return ""

        @staticmethod
        def cloudformation_type() -> str:
            return "none; MADE says which"

        @classmethod
        def create_from_cloudformation_json(
            cls, resource_name: str, cloudformation_json: Any, *_: Any, **__: Any
        ) -> Made:
            return cls(*make(aws, cloudformation_json["Properties"]))

        @classmethod
        def update_from_cloudformation_json(
            cls, original_resource: Made, new_resource_name: str, cloudformation_json: Any, *_: Any, **__: Any
        ) -> Made:
            original_resource._undo()
            return cls(*make(aws, cloudformation_json["Properties"]))

        def delete(self, *_: str) -> None:
            self._undo()

    return Made


# --- what moto makes in part ------------------------------------------------------------------------------------------


def _rest_of_bucket(aws: Client, bucket: Any, given: Properties) -> None:
    s3, name = aws("s3"), bucket.name
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration=given["VersioningConfiguration"])
    s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=given["PublicAccessBlockConfiguration"])
    s3.put_bucket_ownership_controls(Bucket=name, OwnershipControls=given["OwnershipControls"])
    rules = [_lifecycle_rule(rule) for rule in given["LifecycleConfiguration"]["Rules"]]
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})


def _lifecycle_rule(given: Properties) -> Properties:
    """A rule as S3's API calls its parts; CloudFormation has names of its own for some."""
    rule = {"ID": given["Id"], "Status": given["Status"], "Filter": {"Prefix": given.get("Prefix", "")}}
    names = {"ExpirationInDays": "Days", "ExpiredObjectDeleteMarker": "ExpiredObjectDeleteMarker"}
    if expiration := {names[key]: value for key, value in given.items() if key in names}:
        rule["Expiration"] = expiration
    if transitions := given.get("Transitions"):
        rule["Transitions"] = [
            {"StorageClass": one["StorageClass"], "Days": one["TransitionInDays"]} for one in transitions
        ]
    same = ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")
    return rule | {key: given[key] for key in same if key in given}


def _rest_of_database(aws: Client, database: Any, given: Properties) -> None:
    aws("rds").modify_db_instance(
        DBInstanceIdentifier=database.db_instance_identifier,
        DeletionProtection=given["DeletionProtection"],
        MaxAllocatedStorage=int(given["MaxAllocatedStorage"]),
        MultiAZ=given["MultiAZ"] == "true",
        VpcSecurityGroupIds=given["VPCSecurityGroups"],
        ApplyImmediately=True,
    )


def _rest_of_instance(aws: Client, instance: Any, given: Properties) -> None:
    aws("ec2").modify_instance_attribute(InstanceId=instance.id, Groups=given["SecurityGroupIds"])
    aws("ec2").modify_instance_metadata_options(InstanceId=instance.id, **given["MetadataOptions"])


def _rest_of_group(aws: Client, group: Any, given: Properties) -> None:
    """What may leave it, instead of everything."""
    everything = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    aws("ec2").revoke_security_group_egress(GroupId=group.id, IpPermissions=[everything])
    rules = []
    for rule in given["SecurityGroupEgress"]:
        permission = {key: rule[key] for key in ("IpProtocol", "FromPort", "ToPort") if key in rule}
        if "CidrIp" in rule:
            permission["IpRanges"] = [{"CidrIp": rule["CidrIp"], "Description": rule["Description"]}]
        else:
            pair = {"GroupId": rule["DestinationSecurityGroupId"], "Description": rule["Description"]}
            permission["UserIdGroupPairs"] = [pair]
        rules.append(permission)
    aws("ec2").authorize_security_group_egress(GroupId=group.id, IpPermissions=rules)


def _rest_of_balancer(aws: Client, balancer: Any, given: Properties) -> None:
    aws("elbv2").modify_load_balancer_attributes(
        LoadBalancerArn=balancer.arn, Attributes=given["LoadBalancerAttributes"]
    )


def _rest_of_targets(aws: Client, group: Any, given: Properties) -> None:
    targets = [{"Id": target["Id"], "Port": int(target["Port"])} for target in given["Targets"]]
    aws("elbv2").register_targets(TargetGroupArn=group.arn, Targets=targets)


COMPLETED: dict[type, Callable[[Client, Any, Properties], None]] = {
    DBInstance: _rest_of_database,
    FakeBucket: _rest_of_bucket,
    FakeLoadBalancer: _rest_of_balancer,
    FakeTargetGroup: _rest_of_targets,
    Instance: _rest_of_instance,
    SecurityGroup: _rest_of_group,
}


def _complete(kind: Any, aws: Client, rest: Callable[[Client, Any, Properties], None]) -> None:
    create = kind.create_from_cloudformation_json.__func__

    def whole(cls: Any, name: str, template: Any, *more: Any, **others: Any) -> Any:
        made = create(cls, name, template, *more, **others)
        rest(aws, made, template["Properties"])
        return made

    kind.create_from_cloudformation_json = classmethod(whole)


# --- what moto does wrongly -------------------------------------------------------------------------------------------


def _associate(backend: Any, route_table_id: str, subnet_id: str) -> Any:
    backend.associate_route_table(route_table_id, subnet_id=subnet_id)
    association: Any = SubnetRouteTableAssociation
    return association(route_table_id, subnet_id)


def _delete_route_table(table: Any, *_: str) -> None:
    table._associations.clear()
    table.ec2_backend.delete_route_table(table.id)


_known_attribute = FakeLoadBalancer.get_cfn_attribute


def _attribute_of_balancer(balancer: Any, name: str) -> Any:
    if name == "LoadBalancerFullName":
        return balancer.arn.partition(":loadbalancer/")[2]
    return _known_attribute(balancer, name)


_known_change = CloudFormationBackend.create_change_set


def _change(backend: Any, *, stack_name: str, parameters: dict[str, str], change_set_type: str, **more: Any) -> Any:
    """Values that are kept are those that were given, so that a change set without changes is known as one."""
    if change_set_type == "UPDATE":
        stack = backend.get_stack(stack_name)
        if stack.status == "ROLLBACK_COMPLETE":
            raise ValidationError(
                stack_name, message=f"{stack_name} is in {stack.status} state and can not be updated."
            )
        changed = {key: value for key, value in parameters.items() if value != stack.stack_parameters.get(key)}
        parameters = stack.parameters | changed
    return _known_change(backend, stack_name=stack_name, parameters=parameters, change_set_type=change_set_type, **more)


def _execute(backend: Any, change_set_name: str, stack_name: str | None = None) -> None:
    """Make or update the stack as `create_stack` and `update_stack` do."""
    change = backend.describe_change_set(change_set_name)
    if change.change_set_type == "CREATE":
        del backend.stacks[change.stack_id]
        backend.create_stack(change.stack_name, change.template, change.parameters, tags=change.tags)
    else:
        change.stack.update(change.template, parameters=change.parameters, tags=change.tags)
    change.execution_status = "EXECUTE_COMPLETE"


CORRECTED: tuple[tuple[type, str, Any], ...] = (
    # It has a database of ours only when the name of its parameter group is text, and hands on its own object instead.
    (DBParameterGroup, "physical_resource_id", property(lambda group: group.name)),
    # It leaves route tables behind, and then refuses to delete their network.
    (RouteTable, "delete", _delete_route_table),
    # It keeps to itself which subnet has which routes.
    (SubnetBackend, "create_subnet_association", _associate),
    # It knows no attribute of a target group; an alarm of ours asks for one.
    (FakeTargetGroup, "get_cfn_attribute", lambda group, _: group.arn.rpartition(":")[2]),
    # It says that it has this one of a load balancer, and has not.
    (FakeLoadBalancer, "get_cfn_attribute", _attribute_of_balancer),
    # It takes a kept value for a new one, if AWS looks it up in a parameter of SSM, and updates what AWS does not.
    (CloudFormationBackend, "create_change_set", _change),
    # It refuses a change set without changes, which AWS makes and calls failed.
    (CloudFormationResponse, "_validate_different_update", lambda *_: None),
    # What comes from a change set has no outputs and no exports, and may import nothing.
    (CloudFormationBackend, "execute_change_set", _execute),
)


def fill(aws: Client) -> None:
    """Call it once, before the first stack. aws: gives a client of moto for the name of a service."""
    for kind, name, value in CORRECTED:
        setattr(kind, name, value)
    for kind, rest in COMPLETED.items():
        _complete(kind, aws, rest)
    parsing.get_model_map().update({name: _model(aws, make) for name, make in MADE.items()})
