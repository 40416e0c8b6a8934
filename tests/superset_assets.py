"""The files of superset/assets/, as bundle.py reads them."""

from __future__ import annotations

from pathlib import Path

from superset import bundle

from utils import detectors

FOLDER = Path(__file__).resolve().parents[1] / "superset" / "assets"
ASSETS = bundle.read(FOLDER, detectors.NAMES)
DATASETS, CHARTS, DASHBOARDS = (ASSETS[kind] for kind in ("datasets", "charts", "dashboards"))
