"""The file `.env` against the form `.env.example`: its names and its shape. What the values mean is in `settings`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stack.errors import StackError
from stack.settings import SECRET

COMPOSE_OWN = "COMPOSE_"  # docker compose reads COMPOSE_PROJECT_NAME and the like from .env by itself
NAME = re.compile(r"^([A-Z][A-Z0-9_]*)=", re.MULTILINE)
ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
# Compose reads abc$def as abc and the variable def: not in single quotes, nor after a backslash in double ones.
INTERPOLATION = re.compile(r"""(?!['"]).*\$[A-Za-z_{]|"(.*[^\\])?\$[A-Za-z_{]""", re.DOTALL)


@dataclass(frozen=True)
class _Line:
    """An assignment, or a line that is none (no name); `is_open` when its quote is never closed."""

    number: int
    name: str = ""
    value: str = ""
    is_open: bool = False


def check(form: Path, filled: Path) -> None:
    """Raise StackError with everything that is wrong in `filled`; without that file all is well."""
    if not form.is_file():
        raise StackError(f"There is no {form}; setup needs the repository mounted at {form.parent}.")
    if not filled.exists():
        return
    try:
        text = filled.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise StackError(f"{filled.name} is no UTF-8 text; save it as UTF-8.") from None
    known = NAME.findall(form.read_text("utf-8"))
    if faults := list(_faults(list(_lines(text)), known, filled.name, form.name)):
        raise StackError(" ".join(faults))


def _faults(lines: list[_Line], known: list[str], file: str, form: str) -> Iterator[str]:
    first: dict[str, int] = {}
    for line in lines:
        where = f"Line {line.number} of {file}"
        if not line.name:
            yield f"{where} is no assignment; write NAME=value, or # before a comment."
        elif line.is_open:
            yield f"{where} opens a quote that nothing closes."
        elif line.name in first:
            yield f"{where} sets {line.name} again, after line {first[line.name]}; keep one of them."
        elif line.name not in known and not line.name.startswith(COMPOSE_OWN):
            yield f"{where} sets {_unknown(line.name, known, form)}"
        elif line.name in SECRET and INTERPOLATION.match(line.value):
            yield f"{where}: {line.name} holds a $, which Compose would replace; put the value in single quotes."
        first.setdefault(line.name, line.number)


def _unknown(name: str, known: list[str], form: str) -> str:
    """A name is repeated only when it looks like one: the second half of a broken key may stand before a = too."""
    close = difflib.get_close_matches(name.upper(), known, n=1)
    said = name if close or name.isupper() else "a name"
    return f"{said} that {form} does not have; " + (f"did you mean {close[0]}?" if close else "remove the line.")


def _lines(text: str) -> Iterator[_Line]:
    """The assignments, as Compose reads them: a quoted value may go on over several lines."""
    numbered = enumerate(text.splitlines(), start=1)
    for number, line in numbered:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not (found := ASSIGNMENT.fullmatch(line)):
            yield _Line(number)
            continue
        name, value = found.groups()
        quote = value[:1]
        while quote in {"'", '"'} and not _is_closed(value) and (following := next(numbered, None)):
            value += "\n" + following[1]
        yield _Line(number, name, value, is_open=quote in {"'", '"'} and not _is_closed(value))


def _is_closed(value: str) -> bool:
    return bool(re.match(r"'[^']*'" if value[0] == "'" else r'"(?:[^"\\]|\\.)*"', value, re.DOTALL))
