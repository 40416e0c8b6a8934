"""What is around every page: the addresses with the hashes of assets, and the severities."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from typing_extensions import override

from utils import detectors
from utils.reporting.site import render
from utils.reporting.site.links import ServedLinks

ASSETS = {
    "site.css": "text/css; charset=utf-8",
    "site.js": "text/javascript; charset=utf-8",
    "us-outline.svg": "image/svg+xml",
}
DETECTORS_FILE = Path(__file__).resolve().parents[2] / "detectors.yaml"  # as pipeline.inputs, which loads Alembic


@cache
def levels() -> render.Levels:
    """Return when the published detector calls a day mild, strong or extreme, or closed."""
    return render.Levels.of(detectors.read_settings(DETECTORS_FILE)[detectors.PUBLISHED])


@cache
def asset(name: str) -> tuple[bytes, str]:
    """Return the content of a file of ASSETS and a hash of it for its address."""
    content = render.asset(name)
    return content, hashlib.sha256(content).hexdigest()[:12]


class SiteLinks(ServedLinks):
    """The addresses of the served pages. Those of assets contain a hash, so that browsers may keep them for ever."""

    @override
    def asset(self, name: str) -> str:
        return f"{self.root}assets/{asset(name)[1]}/{name}"
