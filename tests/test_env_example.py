"""The form `.env.example` and the code that reads the environment name the same variables; the form holds no value."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ASSIGNMENT = re.compile(r"^([A-Z_]+)=(.*)$", re.MULTILINE)


def test_the_form_and_the_settings_name_the_same_variables() -> None:
    read = set(re.findall(r'"((?:DELAYWATCH|AWS)_[A-Z_]+)"', (ROOT / "dags/utils/settings.py").read_text()))
    asked = {name for name, _ in ASSIGNMENT.findall((ROOT / ".env.example").read_text())}

    assert read
    assert asked == read


def test_the_form_holds_neither_defaults_nor_secrets() -> None:
    filled = {name: value for name, value in ASSIGNMENT.findall((ROOT / ".env.example").read_text()) if value}

    assert filled == {}
