"""The words that sentences and pages share."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from utils.reporting import wording


@pytest.mark.parametrize(
    "value", ["2013-02-09", dt.date(2013, 2, 9), pd.Timestamp("2013-02-09"), np.datetime64("2013-02-09")]
)
def test_a_date_reads_the_same_whatever_its_type(value: object) -> None:
    assert wording.date(value) == "Sat 9 Feb 2013"


def test_counts_have_their_plural_and_thousands() -> None:
    assert [wording.count(n, "flight") for n in (0, 1, 1_250)] == ["0 flights", "1 flight", "1,250 flights"]


def test_a_share_is_never_rounded_down_to_nothing() -> None:
    assert [wording.share(part) for part in (0, 0.004, 0.01, 0.384, 1)] == ["0%", "under 1%", "1%", "38%", "100%"]
    assert [wording.cancelled(n, 1_000) for n in (0, 4, 520)] == [
        "none cancelled",
        "under 1% cancelled",
        "52% cancelled",
    ]


def test_a_list_ends_with_and() -> None:
    assert [wording.listed(list(parts)) for parts in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert wording.listed([2009, 2011, 2013], "or") == "2009, 2011 or 2013"


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan")])
def test_a_missing_figure_is_a_dash(missing: object) -> None:
    assert wording.percent(missing) == wording.minutes(missing) == "–"
    assert (wording.percent(0.05), wording.minutes(15)) == ("5.0%", "15.0")


def test_a_flag_is_named_with_its_severity() -> None:
    assert wording.flag("closure", np.int16(3)) == "closure, severity extreme"


@pytest.mark.parametrize(
    ("return_period_days", "told"),
    [
        (1.2, "once in 1 day"),
        (180.4, "once in 180 days"),
        (365, "once in 365 days"),
        (366, "rarer than once a year"),
        (500, "rarer than once a year"),
        (36_525, "rarer than once a year"),
        (float("inf"), "rarer than once a year"),
    ],
)
def test_how_rare_a_day_is_is_told_in_days_then_years_and_ends_at_a_hundred(
    return_period_days: float, told: str
) -> None:
    assert wording.rarity(return_period_days) == told
