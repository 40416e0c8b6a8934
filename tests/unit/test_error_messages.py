"""The form of every error message: it names the thing, a way out and no secret, and ends like a sentence.

The table has one row for each place in the source that builds one of the four errors from text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from utils import errors

ROOT = Path(__file__).parents[2]
CLASSES = {kind.__name__ for kind in errors.DelaywatchError.__subclasses__()}
VERBS = (
    "add|allow|ask|change|check|choose|clear|close|compare|connect|convert|copy|correct|create|decompress|delete|"
    "describe|download|drop|end|enter|fetch|filter|free|generate|give|grant|increase|install|leave|let|list|load|"
    "lower|make|mount|move|name|omit|open|pass|point|prepare|put|raise|read|rebuild|redirect|reduce|remove|rename|"
    "renew|repair|repeat|replace|restore|retry|rotate|run|save|send|set|sort|split|start|stop|trigger|try|turn|"
    "unset|update|upgrade|upload|use|wait|write"
)
WAY_OUT = re.compile(
    rf"(?:^|[.:;,(}}] |\b(?:or|and|to|then|else) )(?:{VERBS})\b"
    r"|must (?:be|have|name|start)\b"
    r"|\{[^}]*(?:remedy|way_out|hint|advice|again|example|choice|correct|resume|addresses|redo|"
    r"error|sentence|unknown|when|elsewhere|earlier_steps)[^}]*\}",
    re.IGNORECASE,
)
NAMELESS = re.compile(r"(?:It|There|Something|An error|Error|Failed|Invalid|Cannot)\b")
SECRET = re.compile(r"password|secret|token|webhook|access_key(?!_id)|\burl\.render", re.IGNORECASE)
HARMLESS = re.compile(r"_file\b|_name\b|hide_password=True|NAME|names|variable")


class Message(NamedTuple):
    """A message; `{expression}` stands where a value is filled in."""

    place: str
    text: str
    values: tuple[str, ...]


def pieces_of(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the literals and the values of a text in their order."""
    if isinstance(node, ast.JoinedStr):
        for value in node.values:
            yield from pieces_of(value)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from pieces_of(node.left)
        yield from pieces_of(node.right)
    elif isinstance(node, ast.FormattedValue):
        yield node.value
    else:
        yield node


def read_messages() -> Iterator[Message]:
    for path in sorted(path for folder in ("dags", "stack", "demo") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and node.args and getattr(node.func, "id", "") in CLASSES):
                continue
            pieces = list(pieces_of(node.args[0]))
            values = tuple(ast.unparse(piece) for piece in pieces if not isinstance(piece, ast.Constant))
            text = "".join(
                str(piece.value) if isinstance(piece, ast.Constant) else f"{{{ast.unparse(piece)}}}" for piece in pieces
            )
            if len(values) < len(pieces):
                yield Message(f"{path.relative_to(ROOT)}:{node.lineno}", text, values)


MESSAGES = list(read_messages())


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.place)
def test_a_message_names_the_thing_and_a_way_out_and_no_secret(message: Message) -> None:
    assert not NAMELESS.match(message.text), "it does not begin with the name of the thing"
    assert WAY_OUT.search(message.text), "it names no way out"
    assert re.search(r"[.`)}]$", message.text.strip()), "it does not end like a sentence"
    assert [value for value in message.values if SECRET.search(value) and not HARMLESS.search(value)] == []


def test_the_table_has_the_messages_of_every_folder() -> None:
    folders = {message.place.split("/")[0] for message in MESSAGES}

    assert folders == {"dags", "stack", "demo"}
    assert len(MESSAGES) > 200
