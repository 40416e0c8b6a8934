"""The format of dates, counts and shares in sentences and pages."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from utils.reporting import wording


@pytest.mark.parametrize(
    "value", ["2013-02-09", dt.date(2013, 2, 9), pd.Timestamp("2013-02-09"), np.datetime64("2013-02-09")]
)
def test_a_date_of_any_type_has_the_same_text(value: object) -> None:
    assert wording.date(value) == "Sat 9 Feb 2013"


@pytest.mark.parametrize(("number", "text"), [(0, "0 flights"), (1, "1 flight"), (1_250, "1,250 flights")])
def test_a_count_has_its_plural_and_thousands(number: int, text: str) -> None:
    assert wording.count(number, "flight") == text


@pytest.mark.parametrize(
    ("part", "text"),
    [(0, "0%"), (0.004, "under 1%"), (0.01, "1%"), (0.384, "38%"), (np.float32(0.52), "52%"), (1, "100%")],
)
def test_a_small_share_is_not_rounded_to_zero(part: float, text: str) -> None:
    assert wording.share(part) == text
    assert wording.cancelled(1000 * part, 1000) == (f"{text} cancelled" if part else "none cancelled")


@pytest.mark.parametrize(("parts", "text"), [("", ""), ("a", "a"), ("ab", "a and b"), ("abc", "a, b and c")])
def test_a_list_ends_with_and(parts: str, text: str) -> None:
    assert wording.listed(list(parts)) == text
    assert wording.listed(list(parts), "or") == text.replace("and", "or")


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan")])
def test_a_missing_number_is_a_dash(missing: object) -> None:
    assert wording.percent(missing) == wording.minutes(missing) == "–"
    assert (wording.percent(0.05), wording.minutes(15)) == ("5.0%", "15.0")


def test_a_flag_has_direction_and_severity() -> None:
    assert wording.flag("closure", np.int16(3)) == "closure, severity extreme"


@pytest.mark.parametrize(
    ("days", "text"),
    [(1.2, "1 day"), (180.4, "180 days"), (365, "365 days"), (366, "a year"), (float("inf"), "a year")],
)
def test_a_return_period_above_a_year_is_not_quoted(days: float, text: str) -> None:
    assert wording.rarity(days) == (f"once in {text}" if days < 366 else f"rarer than once {text}")
