"""Pages mention only targets of make, commands, services, files and headings that exist; their figures are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.builders import new_york_2013, run_detector
from utils import detectors
from utils.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = ("*.md", "[!.]*/*.md", "docs/*/*.md", "benchmarks/*/*.md", "infra-notes/*/*.md", ".github/*/*.md")
PAGES = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))
TARGETS = set(re.findall(r"^([a-z0-9-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
SERVICES = set(yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"])
COMMANDS = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
BLOCK = re.compile(r"^ *```\w*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
# Options -e, -u, -v and -w have a value.
SERVICE = re.compile(r"docker compose (?:exec|logs|run|stop|start) (?:(?:-[euvw] \S+|--?\S+) )*([a-z][a-z0-9-]*)")


def anchors_of(text: str) -> set[str]:
    """Return the headings as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_and_links_of_a_page_lead_to_something_that_exists(page: Path) -> None:
    text = page.read_text()
    lines = [line.partition(" #")[0] for block in BLOCK.findall(text) for line in block.splitlines()]
    code = "\n".join(lines + re.findall(r"`([^`\n]+)`", BLOCK.sub("", text)))

    assert set(re.findall(r"\bmake ([a-z][a-z0-9-]*)", code)) <= TARGETS
    assert set(re.findall(r"python -m utils ([a-z]+)", code)) <= COMMANDS
    assert set(SERVICE.findall(code)) <= SERVICES
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target.read_text()), link


def test_the_readme_shows_the_number_of_flags_of_the_demo() -> None:
    """After a change, copy the output of `make demo` and its plot of LaGuardia; see CONTRIBUTING.md."""
    readme = (ROOT / "README.md").read_text()
    names = "|".join(detectors.NAMES)
    shown = {name: int(flags) for name, flags in re.findall(rf"^  ({names}) +(\d+)\b", readme, re.MULTILINE)}

    flags = {name: int(run_detector(name, new_york_2013())["is_anomaly"].sum()) for name in shown}

    assert shown == flags
    assert detectors.PUBLISHED in shown


def test_queries_for_readers_sort_a_day_without_a_score_last() -> None:
    """Postgres sorts NULL first in a descending order. A day can be flagged without a score."""
    readable = [*PAGES, *(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "demo").glob("*.py")]
    orders = [order for path in readable for order in re.findall(r"\bscore DESC(?: NULLS LAST)?", path.read_text())]

    assert len(orders) >= 2
    assert set(orders) == {"score DESC NULLS LAST"}
