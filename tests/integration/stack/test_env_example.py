"""The form `.env.example` is what the model of settings says, and names what the compose file reads and no more."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from stack import form
from stack.settings import VARIABLES

ROOT = Path(__file__).resolve().parents[3]
ASSIGNMENT = re.compile(r"^([A-Z_]+)=(.*)$", re.MULTILINE)
READ = re.compile(r"(?<!\$)\$\{([A-Z_]+)")


def test_the_form_in_the_repository_is_made_from_the_model() -> None:
    assert (ROOT / ".env.example").read_text() == form.example(), (
        "run: PYTHONPATH=dags .venv/bin/python -m stack example > .env.example"
    )


def test_the_form_names_every_variable_once_and_holds_neither_defaults_nor_secrets() -> None:
    assert ASSIGNMENT.findall(form.example()) == [(name, "") for name in VARIABLES]
    assert len(set(VARIABLES)) == len(VARIABLES)


def test_the_compose_file_reads_what_the_form_names_and_nothing_else() -> None:
    text = (ROOT / "docker-compose.yaml").read_text()
    passed_on = yaml.safe_load(text)["services"]["setup"]["environment"][:-1]

    assert set(READ.findall(text)) | set(passed_on) == set(VARIABLES)
