"""The form `.env.example` names the variables that code and compose file read, and no other; it holds no value."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ASSIGNMENT = re.compile(r"^([A-Z_]+)=(.*)$", re.MULTILINE)


def test_the_form_names_what_settings_and_compose_file_read_and_nothing_else() -> None:
    read = set(re.findall(r'"((?:DELAYWATCH|AWS)_[A-Z_]+)"', (ROOT / "dags/utils/settings.py").read_text()))
    read |= set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yaml").read_text()))
    asked = {name for name, _ in ASSIGNMENT.findall((ROOT / ".env.example").read_text())}

    assert read
    assert asked == read


def test_the_form_holds_neither_defaults_nor_secrets() -> None:
    filled = {name: value for name, value in ASSIGNMENT.findall((ROOT / ".env.example").read_text()) if value}

    assert filled == {}
