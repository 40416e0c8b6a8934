"""Load the CloudFormation templates as plain values: parameters have their defaults, functions are resolved to text."""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[3] / "infra-notes/cloudformation"
REGION = "us-east-1"
ACCOUNT = "123456789012"
Properties = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML with the short forms of CloudFormation."""


def _long_form(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> Properties:
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


def raw(name: str) -> dict[str, Any]:
    template: dict[str, Any] = yaml.load(text(name), _Loader)  # noqa: S506 (it is a SafeLoader)
    return template


def load(name: str, **values: str) -> dict[str, Any]:
    """Return the template with these values in place of parameters, resources or imports.

    Other parameters have their defaults, a resource is its own name, an import is the name of the export.
    """
    template = raw(name)
    defaults = {key: given["Default"] for key, given in template["Parameters"].items() if "Default" in given}
    pseudo = {
        "AWS::Partition": "aws",
        "AWS::Region": REGION,
        "AWS::AccountId": ACCOUNT,
        "AWS::StackName": f"delaywatch-{name}",
    }
    resolved: dict[str, Any] = _resolve(template, defaults | pseudo | values)
    return resolved


def _resolve(value: Any, names: dict[str, str]) -> Any:
    resolved = value
    match value:
        case list():
            resolved = [_resolve(entry, names) for entry in value]
        case {"Ref": name}:
            resolved = names.get(name, name)
        case {"Fn::GetAtt": path}:
            resolved = ".".join(path)
        case {"Fn::ImportValue": export}:
            name = _resolve(export, names)
            resolved = names.get(name, name)
        case {"Fn::Sub": [body, more]}:
            resolved = _substitute(body, names | {key: _resolve(entry, names) for key, entry in more.items()})
        case {"Fn::Sub": body}:
            resolved = _substitute(body, names)
        case {"Fn::Base64": body}:
            resolved = _resolve(body, names)
        case dict():
            resolved = {key: _resolve(entry, names) for key, entry in value.items()}
    return resolved


def _substitute(body: str, names: dict[str, str]) -> str:
    return re.sub(r"\$\{([\w:.]+)\}", lambda found: names.get(found[1], found[1]), body)


def of_type(resources: dict[str, Any], kind: str) -> Iterator[tuple[str, Properties]]:
    """Yield name and properties of every resource of this type; DeletionPolicy and Condition are among them."""
    for name, resource in resources.items():
        if resource["Type"] == f"AWS::{kind}":
            yield name, resource | resource.get("Properties", {})


def statements(resources: dict[str, Any]) -> Iterator[tuple[str, Properties]]:
    """Yield the resource's name and the statement, for every statement of every policy."""
    for name, resource in resources.items():
        properties = resource.get("Properties", {})
        documents = [properties.get("PolicyDocument"), properties.get("AssumeRolePolicyDocument")]
        documents += [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        for document in filter(None, documents):
            yield from ((name, statement) for statement in document["Statement"])


def user_data(**values: str) -> str:
    """Return the host's whole UserData."""
    names = {"Domain": "delays.example.com", "Release": "releases/v1.tar.gz"} | values
    return str(load("host", **names)["Resources"]["Host"]["Properties"]["UserData"])


def scripts(data: str) -> dict[str, str]:
    """Return the scripts in UserData by their type. cloud-init splits them with this module too."""
    parts = [part for part in email.message_from_string(data).walk() if not part.is_multipart()]
    return {part.get_content_type(): str(part.get_payload()) for part in parts}
