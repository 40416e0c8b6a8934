"""Pages mention only targets of make, commands, services, files and headings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from utils.cli.app import app

ROOT = Path(__file__).resolve().parents[3]
PATTERNS = ("*.md", "*/*.md", "infra-notes/*/*.md", ".github/*/*.md")
PAGES = sorted(
    path
    for pattern in PATTERNS
    for path in ROOT.glob(pattern)
    if not path.relative_to(ROOT).parts[0].startswith(".venv")
)
TARGETS = set(re.findall(r"^([a-z0-9-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
SERVICES = set(yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"])
COMMANDS = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
BLOCK = re.compile(r"^ *```\w*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code_of(page: Path) -> list[str]:
    """Return the lines of fenced blocks without comments, and the texts in backticks."""
    text = page.read_text()
    lines = [line.partition(" #")[0] for block in BLOCK.findall(text) for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))


def anchors_of(page: Path) -> set[str]:
    """Return the headings as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}


def services_of(line: str) -> list[str]:
    """Return the services of the `docker compose` commands in a line; -e, -u, -v and -w have a value."""
    option = r"(?:-[euvw] \S+|--?\S+) "
    return re.findall(rf"docker compose (?:exec|logs|run|stop|start) (?:{option})*([a-z][a-z0-9-]*)", line)


@each_page
def test_the_commands_of_a_page_exist(page: Path) -> None:
    lines = code_of(page)

    assert {target for line in lines for target in re.findall(r"\bmake ([a-z][a-z0-9-]*)", line)} <= TARGETS
    assert {command for line in lines for command in re.findall(r"python -m utils ([a-z]+)", line)} <= COMMANDS
    assert {service for line in lines for service in services_of(line)} <= SERVICES


@each_page
def test_the_links_of_a_page_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?:|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_the_tests_above_find_pages_targets_commands_and_services() -> None:
    pages = {str(page.relative_to(ROOT)) for page in PAGES}
    line = "docker compose run --rm -v ~/from:/from:ro scheduler python && docker compose exec -T nginx nginx -t"

    assert pages >= {"README.md", "infra-notes/runbook.md", "docs/operation.md"}
    assert {"up", "backup", "restore"} <= TARGETS
    assert {"run", "fetch", "health"} <= COMMANDS
    assert services_of(line) == ["scheduler", "nginx"]
