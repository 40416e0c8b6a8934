"""The file `.env` as setup reads it, and the form `.env.example` as the model of settings writes it.

Compose reads `.env` for the settings that docker-compose.yaml passes on. Secrets must not pass through Compose,
because `docker inspect` shows whatever it passes on, so `setup` reads them here. Both read the same value. A secret
that Compose would change is refused. Rules for values are in `utils.settings`.
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stack.settings import FIELDS, FORM, SECRET, VARIABLES
from utils.errors import InvalidInput, Missing
from utils.settings import variable_of

COMPOSE_OWN = "COMPOSE_"  # docker compose itself reads COMPOSE_PROJECT_NAME and similar from .env
EXAMPLE = ".env.example"
WIDTH = 120
HEAD = (
    "The settings of docker-compose.yaml. All of them are optional; `setup` creates the secrets.",
    "Copy this file to .env (git ignores it) and set only what differs from the default. An empty value means the "
    "default; an unknown name is an error. Put a value with $, # or quotes in single quotes. Secrets are read only "
    "from .env: passwords, tokens, keys, URLs with a login, the webhook, the arguments of the secrets backend. The "
    "shell may set all others, and takes precedence over .env.",
    "Generated from dags/utils/settings.py by `python -m stack example`.",
)
ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.DOTALL)
QUOTED = re.compile(r"""(['"])((?:[^\\]|\\.)*?)\1(.*)""", re.DOTALL)
COMMENT = re.compile(r"\s*(?:#.*)?")
# Outside single quotes Compose replaces $NAME, ${NAME} and $$. In double quotes a backslash escapes the $.
INTERPOLATION = re.compile(r"\$[A-Za-z_{$]")
ESCAPED = re.compile(r"\\(.)", re.DOTALL)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "$": "$"}  # Compose keeps all others unchanged


@dataclass(frozen=True)
class _Line:
    """An assignment of `.env`, or a line without one, whose name is empty. secret_fault: a fault if it is a secret."""

    number: int
    name: str = ""
    value: str = field(default="", repr=False)
    fault: str = ""
    secret_fault: str = ""


def example() -> str:
    """Return the text of `.env.example`."""
    lines = [line for paragraph in HEAD for line in _comment(paragraph)]
    for title, names in FORM.items():
        lines += ["", *_comment(f"--- {title}")]
        for name in names:
            lines += [*_comment(FIELDS[name].description or ""), f"{variable_of(FIELDS[name])}="]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    prefix = "# "
    return textwrap.wrap(text, WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False)


def read(filled: Path, known: Collection[str] = VARIABLES) -> dict[str, str]:
    """Return the variables of `filled` by name, empty if the file is missing. Raises InvalidInput with all faults."""
    form = filled.with_name(EXAMPLE)
    if not form.is_file():
        raise Missing(f"{form} does not exist; mount the repository at {form.parent}.")
    # Setup runs in the container; Compose on the host can read the link.
    if filled.is_symlink() and not filled.exists():
        raise InvalidInput(
            f"{filled.name} is a link to {filled.readlink()}, which setup cannot read; replace the link by the file."
        )
    if not filled.exists():
        return {}
    try:
        text = filled.read_bytes().decode("utf-8-sig")  # read_text() would convert \r\n
    except UnicodeDecodeError:
        raise InvalidInput(f"{filled.name} is not UTF-8 text; save it as UTF-8.") from None
    lines = list(_lines(text))
    if faults := list(_faults(lines, known, filled.name)):
        raise InvalidInput(" ".join(faults))
    return {line.name: line.value for line in lines}


def _faults(lines: list[_Line], known: Collection[str], file: str) -> Iterator[str]:
    first: dict[str, int] = {}
    for line in lines:
        where = f"Line {line.number} of {file}"
        if not line.name:
            yield f"{where} is not an assignment; write NAME=value, or # before a comment."
        elif line.name in first:
            yield f"{where} sets {line.name}, as does line {first[line.name]}; remove one of them."
        elif line.name not in known and not line.name.startswith(COMPOSE_OWN):
            yield f"{where} sets {_unknown(line.name, known)}"
        elif line.fault:
            yield f"{where} {line.fault}"
        elif line.secret_fault and line.name in SECRET:
            yield f"{where}: {line.name} {line.secret_fault}"
        first.setdefault(line.name, line.number)


def _unknown(name: str, known: Collection[str]) -> str:
    """Describe an unknown variable. Show its name only if it looks like one: in a broken line it may be a secret."""
    close = difflib.get_close_matches(name.upper(), known, n=1)
    shown = name if close or name.isupper() else "a name"
    remedy = f"did you mean {close[0]}?" if close else "remove the line."
    return f"{shown}, which is not a setting ({EXAMPLE} lists them); {remedy}"


def _lines(text: str) -> Iterator[_Line]:
    """Yield the assignments as Compose parses them. A quoted value may span several lines."""
    numbered = enumerate(text.split("\n"), start=1)  # splitlines() splits at more characters than Compose
    for number, line in numbered:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not (assignment := ASSIGNMENT.fullmatch(line)):
            yield _Line(number)
            continue
        name, rest = assignment.groups()
        if rest[:1] not in {"'", '"'}:
            yield _unquoted(number, name, rest)
            continue
        while not QUOTED.fullmatch(rest) and (following := next(numbered, None)):
            rest += "\n" + following[1]
        yield _quoted(number, name, rest)


def _unquoted(number: int, name: str, rest: str) -> _Line:
    value = rest.partition(" #")[0].strip()
    fault = ""
    if INTERPOLATION.search(value):
        fault = "contains a $ that Compose would replace; put the value in single quotes."
    elif value.startswith("#"):  # a comment or a value, depending on the release of Compose
        fault = "starts with #; put the value in single quotes, or the comment on a line of its own."
    return _Line(number, name, value, secret_fault=fault)


def _quoted(number: int, name: str, rest: str) -> _Line:
    if not (quoted := QUOTED.fullmatch(rest)):
        return _Line(number, name, fault="opens a quote and does not close it; add the closing quote.")
    quote, value, after = quoted.groups()
    if not COMMENT.fullmatch(after):
        return _Line(number, name, fault="has text after the closing quote; quote the whole value.")
    if quote == "'":
        return _Line(number, name, value.replace("\\'", "'"))
    fault = ""
    if INTERPOLATION.search(ESCAPED.sub("", value)):
        fault = "contains a $ that Compose would replace; put the value in single quotes."
    return _Line(number, name, ESCAPED.sub(lambda pair: ESCAPES.get(pair[1], pair[0]), value), secret_fault=fault)
