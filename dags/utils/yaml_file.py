"""A YAML file that a person keeps: reading it so that whatever cannot be used is named with the file and the line.

What the entries of a file mean lives with those who read them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from utils.errors import DelaywatchError

MOST_ALIASES = 16  # in a file


class _Loader(yaml.SafeLoader):
    aliases = 0  # so far

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As the safe loader does, but with few aliases: of ten lines full of them more values come than memory has."""
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > MOST_ALIASES:
                event: Any = self.peek_event()  # type: ignore[no-untyped-call]
                raise yaml.composer.ComposerError(None, None, f"more than {MOST_ALIASES} aliases", event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """As the safe loader does, but a value that Python refuses, such as 30 February, is an error with a line."""
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(None, None, f"{node.value}: {error}", node.start_mark) from error


def read(path: Path, like: str) -> yaml.Node | None:
    """The root node of the file, None when nothing but comments stands in it; `like` names the file that is shipped.

    Raises DelaywatchError naming the file, and the line where there is one, when it is no plain YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        yaml.load(text, _Loader)  # noqa: S506 # nosec B506 # a safe one; finds what composing lets pass, such as unknown tags
        root: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except OSError as error:
        raise DelaywatchError(f"{path} cannot be read ({error.strerror}); give a file like {like}.") from error
    except UnicodeDecodeError as error:
        raise DelaywatchError(f"{path} is not UTF-8 text; save it as UTF-8.") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DelaywatchError(f"{path}, line {line}: this is not plain YAML ({error.problem}); mend it.") from error
    except RecursionError:
        raise DelaywatchError(f"{path} is nested too deeply; give a file like {like}.") from None
    except yaml.reader.ReaderError as error:
        raise DelaywatchError(f"{path} is not plain YAML ({error.reason}); save it as text.") from error
    return root


def line_of(node: yaml.Node) -> int:
    """The line on which the node begins; the first one is 1."""
    return int(node.start_mark.line) + 1


def value_of(node: yaml.Node) -> Any:
    """The node as Python sees it: numbers, text, dates, lists."""
    return _Loader("").construct_object(node, deep=True)


def entries(path: Path, node: yaml.Node | None, shape: str) -> list[tuple[str, int, yaml.Node]]:
    """(key, its line, node of its value) of a mapping; an empty one has none. `shape` says what its lines look like.

    Raises DelaywatchError when it is no mapping, or a key stands in it twice.
    """
    if _is_empty(node):
        return []
    if not isinstance(node, yaml.MappingNode):
        raise _misshapen(path, node, shape)
    found: dict[str, tuple[str, int, yaml.Node]] = {}
    for key, value in node.value:
        if str(key.value) in found:
            raise DelaywatchError(
                f"{path}, line {line_of(key)}: {key.value} stands here a second time; keep one of the two."
            )
        found[str(key.value)] = (str(key.value), line_of(key), value)
    return list(found.values())


def items(path: Path, node: yaml.Node | None, shape: str) -> list[yaml.Node]:
    """The nodes of a list; an empty one has none. Raises DelaywatchError when it is no list."""
    if _is_empty(node):
        return []
    if not isinstance(node, yaml.SequenceNode):
        raise _misshapen(path, node, shape)
    return list(node.value)


def _is_empty(node: yaml.Node | None) -> bool:
    return node is None or (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null"))


def _misshapen(path: Path, node: yaml.Node | None, shape: str) -> DelaywatchError:
    line = line_of(node) if node else 1
    return DelaywatchError(f"{path}, line {line}: here stand lines of the form `{shape}`.")
