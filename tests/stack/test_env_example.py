"""The form `.env.example` names the variables that the compose file reads, and no other; it holds no value."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASSIGNMENT = re.compile(r"^([A-Z_]+)=(.*)$", re.MULTILINE)
READ = re.compile(r"(?<!\$)\$\{([A-Z_]+)")


def test_the_form_names_what_the_compose_file_reads_and_nothing_else() -> None:
    read = set(READ.findall((ROOT / "docker-compose.yaml").read_text()))
    asked = {name for name, _ in ASSIGNMENT.findall((ROOT / ".env.example").read_text())}

    assert read
    assert asked == read


def test_the_form_holds_neither_defaults_nor_secrets() -> None:
    filled = {name: value for name, value in ASSIGNMENT.findall((ROOT / ".env.example").read_text()) if value}

    assert filled == {}
