"""Figures drawn by worker processes."""

from __future__ import annotations

import pandas as pd
import pytest

from utils.reporting import plots


def test_workers_draw_the_same_figures_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "AIRPORTS_PER_WORKER", 1)
    days = pd.DataFrame({"origin": ["LGA", "JFK", "EWR"], "fl_date": pd.to_datetime("2013-02-09").date()})
    days = days.assign(scheduled=[40, 50, 60], cancelled=0)
    verdicts = days[["origin", "fl_date"]].assign(
        metric="mean_effective_delay_min", observed=12.0, expected=10.0, lower=-5.0, upper=30.0, is_anomaly=False
    )
    verdicts = verdicts.assign(direction=None, severity=0, status="ok")

    by_workers = list(plots.render_year(days, verdicts, 2013, workers=2))

    assert [origin for origin, _, _ in by_workers] == ["EWR", "EWR", "JFK", "JFK", "LGA", "LGA"]
    assert by_workers == list(plots.render_year(days, verdicts, 2013, workers=1))
