"""Read a YAML file that people edit, with the file and line in every error.

The callers know the meaning of the entries.
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor, SafeConstructor
from ruamel.yaml.error import MantissaNoDotYAML1_1Warning, MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import Node

from utils.errors import InvalidInput, cannot_read

Entries = TypeVar("Entries", dict[Any, Any], list[Any])

MAX_ALIASES = 16  # per file; ten lines of nested aliases can expand beyond memory


class _Values(RoundTripConstructor):
    """Give lists and mappings line numbers, load values as plain Python, and refuse non-standard tags."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # for example 30 February, or a number with 5,000 digits
            raise ConstructorError(None, None, str(error), node.start_mark) from error


class _Texts(_Values):
    """Load every value as text: `NO` and `123` stay strings."""


_Values.add_constructor(None, SafeConstructor.construct_undefined)
for _kind in ("null", "bool", "int", "float", "timestamp"):
    _tag = f"tag:yaml.org,2002:{_kind}"
    _Values.add_constructor(_tag, SafeConstructor.yaml_constructors[_tag])
    _Texts.add_constructor(_tag, SafeConstructor.construct_yaml_str)


def read(path: Path, like: str, *, as_text: bool = False) -> Any:
    """Return the root of the file, which must not be changed: None or an empty string if it has only comments.

    like: the shipped file of this kind, for the message. as_text: load every value as text. Raises Missing if the file
    does not exist, and InvalidInput with the file, and the line if known, if it is not plain YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise cannot_read(path, error) from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text; save it as UTF-8.") from error
    return _root(text, path, like, as_text)


@functools.lru_cache(maxsize=8)  # the steps of a run read the same files many times; to parse one needs 15 ms
def _root(text: str, path: Path, like: str, as_text: bool) -> Any:
    """Return the root of the file `path`, which has this text."""
    yaml = YAML()
    yaml.version = (1, 1)  # `yes` and `off` are Booleans, as in earlier releases
    yaml.Constructor = _Texts if as_text else _Values
    try:
        aliases = [event for event in YAML().parse(text) if isinstance(event, AliasEvent)]
        if len(aliases) > MAX_ALIASES:
            raise ConstructorError(None, None, f"more than {MAX_ALIASES} aliases", aliases[MAX_ALIASES].start_mark)
        with warnings.catch_warnings():
            # ruamel warns that 1e-3 has no dot, as YAML 1.1 requires, but reads it as 0.001.
            warnings.simplefilter("ignore", MantissaNoDotYAML1_1Warning)
            return yaml.load(text)
    except MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = str(error.problem).partition(" with value ")[0]  # a duplicate key; its values may be secret
        raise InvalidInput(f"{path}{where}: this is not valid YAML ({problem}); correct it.") from None
    except RecursionError:
        raise InvalidInput(f"{path} is nested too deeply; use the form of {like}.") from None
    except YAMLError as error:
        reason = str(error).splitlines()[0]
        raise InvalidInput(f"{path} is not plain YAML ({reason}); save it as text.") from error


def line_of(parent: Any, key: Any) -> int:
    """Return the line of a mapping's key or a list's item; the first line is 1."""
    return int(parent.lc.data[key][0]) + 1 if key in (parent.lc.data or {}) else int(parent.lc.line) + 1


def entries(path: Path, node: Any, kind: type[Entries], shape: str, line: int = 1) -> Entries:
    """Return `node` as a mapping (`dict`) or a `list`; an absent node gives an empty one.

    shape: the form of a line, for the message. line: the node's line. Raises InvalidInput for another type.
    """
    if node is None or node == "":
        return kind()
    if not isinstance(node, kind):
        value = "a list" if isinstance(node, list) else "a mapping" if isinstance(node, dict) else shown(node)
        raise InvalidInput(f"{path}, line {line}: this is {value}; it must have the form `{shape}`.")
    return node


def shown(value: object) -> str:
    """Return the first 40 characters of the value for an error message, but of a URL nothing: it may be secret."""
    return "a URL" if "://" in str(value) else repr(value)[:40]
