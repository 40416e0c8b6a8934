"""A YAML file that people edit: read it, and name the file and the line of whatever cannot be used.

The meaning of the entries lives with those who read them.
"""

from __future__ import annotations

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

MAX_ALIASES = 16  # in a file; ten lines full of them can give more values than memory has

# In YAML 1.1 the number 1e-3 needs a dot; it is read as 0.001 all the same.
warnings.simplefilter("ignore", MantissaNoDotYAML1_1Warning)


class _Values(RoundTripConstructor):
    """Lists and mappings know their lines, values are plain Python, a tag that is not YAML's is an error."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # Python refuses 30 February and a number of 5,000 digits
            raise ConstructorError(None, None, str(error), node.start_mark) from error


class _Texts(_Values):
    """Every value is the text that the file has: `NO` is no Boolean and `123` no number."""


_Values.add_constructor(None, SafeConstructor.construct_undefined)
for _kind in ("null", "bool", "int", "float", "timestamp"):
    _tag = f"tag:yaml.org,2002:{_kind}"
    _Values.add_constructor(_tag, SafeConstructor.yaml_constructors[_tag])
    _Texts.add_constructor(_tag, SafeConstructor.construct_yaml_str)


def read(path: Path, like: str, *, as_text: bool = False) -> Any:
    """Return the root of the file, None or an empty text when it has nothing but comments.

    like: the file of this kind that is shipped. as_text: every value is a text. Raises Missing when there is no file,
    and InvalidInput naming the file, and the line where there is one, when it is no plain YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise cannot_read(path, error) from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text; save it as UTF-8.") from error
    yaml = YAML()
    yaml.version = (1, 1)  # `yes` and `off` are Booleans, as in every release
    yaml.Constructor = _Texts if as_text else _Values
    try:
        aliases = [event for event in YAML().parse(text) if isinstance(event, AliasEvent)]
        if len(aliases) > MAX_ALIASES:
            raise ConstructorError(None, None, f"more than {MAX_ALIASES} aliases", aliases[MAX_ALIASES].start_mark)
        return yaml.load(text)
    except MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InvalidInput(f"{path}{where}: this is not plain YAML ({error.problem}); correct it.") from error
    except RecursionError:
        raise InvalidInput(f"{path} is nested too deeply; give a file like {like}.") from None
    except YAMLError as error:
        reason = str(error).splitlines()[0]
        raise InvalidInput(f"{path} is not plain YAML ({reason}); save it as text.") from error


def line_of(parent: Any, key: Any) -> int:
    """Return the line of a key of a mapping or of an item of a list; the first line is 1."""
    return int(parent.lc.data[key][0]) + 1 if key in (parent.lc.data or {}) else int(parent.lc.line) + 1


def entries(path: Path, node: Any, kind: type[Entries], shape: str, line: int = 1) -> Entries:
    """Return `node` as a mapping (`dict`) or a `list`, empty if nothing is there; `shape` says what a line looks like.

    line: where the node is. Raises InvalidInput if it is something else.
    """
    if node is None or node == "":
        return kind()
    if not isinstance(node, kind):
        raise InvalidInput(f"{path}, line {line}: lines must have the form `{shape}`.")
    return node
