"""What the pages tell people to type and to open exists: targets of make, commands, services, files, headings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from utils.cli.app import app

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted(
    path
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("*/*.md"),
        *ROOT.glob("infra-notes/*/*.md"),
        *ROOT.glob(".github/*/*.md"),
    ]
    if not path.relative_to(ROOT).parts[0].startswith(".venv")
)
TARGETS = set(re.findall(r"^([a-z0-9-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
SERVICES = set(yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"])
COMMANDS = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}


def code(page: Path) -> list[str]:
    """The lines of its fenced blocks without their comments, and what stands in backticks."""
    text = page.read_text()
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^ *```\w*\n.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line.partition(" #")[0] for block in blocks for line in block.splitlines()] + inline


def anchors(page: Path) -> set[str]:
    """Its headings as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}


def services_of(line: str) -> list[str]:
    """The services that its calls of `docker compose` are about; -e, -u, -v and -w take the word after them."""
    option = r"(?:-[euvw] \S+|--?\S+) "
    return re.findall(rf"docker compose (?:exec|logs|run|stop|start) (?:{option})*([a-z][a-z0-9-]*)", line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_tells_people_to_type_exists(page: Path) -> None:
    lines = code(page)
    asked = {target for line in lines for target in re.findall(r"\bmake ([a-z][a-z0-9-]*)", line)}
    commands = {command for line in lines for command in re.findall(r"python -m utils ([a-z]+)", line)}
    services = {service for line in lines for service in services_of(line)}

    assert asked <= TARGETS
    assert commands <= COMMANDS
    assert services <= SERVICES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_exists(page: Path) -> None:
    links = [
        link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if not re.match(r"https?:|mailto:", link)
    ]

    for link in links:
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_pages_were_found() -> None:
    """Else the tests above would look at nothing."""
    assert {"README.md", "infra-notes/runbook.md", "docs/operation.md"} <= {
        str(page.relative_to(ROOT)) for page in PAGES
    }
    assert {"up", "backup", "restore"} <= TARGETS
    assert {"run", "fetch", "health"} <= COMMANDS


@pytest.mark.parametrize(
    ("line", "services"),
    [
        ("docker compose run --rm --no-deps -v ~/from:/from:ro scheduler python -m utils", ["scheduler"]),
        ("docker compose run --rm certbot && docker compose exec -T nginx nginx -t", ["certbot", "nginx"]),
        ("docker compose logs --no-log-prefix nginx", ["nginx"]),
    ],
)
def test_a_service_is_found_behind_the_options(line: str, services: list[str]) -> None:
    assert services_of(line) == services
