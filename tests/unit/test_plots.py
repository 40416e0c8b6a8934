"""The two figures of an airport's year: what they show, and that drawing is repeatable."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from utils import schemas
from utils.reporting import plots

Frames = tuple[pd.DataFrame, pd.DataFrame]
Draw = Callable[[pd.DataFrame, pd.DataFrame, int], bytes]
DRAW: dict[str, Draw] = {"daily_flights": plots.daily_flights, "daily_delay": plots.daily_delay}
LEGEND_BOTTOM_PX = 85


def airport_year(origin: str = "JFK", first: str = "2013-01-01", last: str = "2013-12-31", flights: int = 40) -> Frames:
    """Days and verdicts of an airport whose days are all alike."""
    dates = pd.date_range(first, last).date
    days = pd.DataFrame({"origin": origin, "fl_date": dates, "scheduled": flights, "cancelled": 0})
    verdicts = pd.DataFrame(
        {
            "origin": origin,
            "fl_date": dates,
            "metric": "mean_effective_delay_min",
            "observed": 12.0,
            "expected": 10.0,
            "lower": -5.0,
            "upper": 30.0,
            "is_anomaly": False,
            "direction": None,
            "severity": 0,
            "status": "ok",
        }
    ).astype({"direction": object})
    return days, verdicts


def flagged(fl_date: str, direction: str) -> Frames:
    """A year with one flagged day."""
    days, verdicts = airport_year()
    is_day = verdicts["fl_date"] == dt.date.fromisoformat(fl_date)
    changes = {"is_anomaly": True, "direction": direction, "severity": 2, "observed": 80.0}
    return days, verdicts.assign(**{name: verdicts[name].mask(is_day, value) for name, value in changes.items()})


def has_colour(png: bytes, colour: str) -> npt.NDArray[np.bool_]:
    """A mask of the pixels below the legend with exactly this colour."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))[LEGEND_BOTTOM_PX:]
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.asarray((pixels == wanted).all(axis=-1))


def count(png: bytes, colour: str) -> int:
    return int(has_colour(png, colour).sum())


@pytest.fixture(params=list(DRAW))
def draw(request: pytest.FixtureRequest) -> Draw:
    return DRAW[request.param]


def test_the_bytes_depend_only_on_the_rows(draw: Draw) -> None:
    """Not on figures drawn before, on the style of the user or on the type of the dates."""
    days, verdicts = flagged("2013-07-01", "late")
    first = draw(days, verdicts, 2013)
    stamped_days, stamped = (frame.assign(fl_date=pd.to_datetime(frame["fl_date"])) for frame in (days, verdicts))

    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30, "text.color": "white", "savefig.dpi": 300}):
        before = dict(mpl.rcParams)
        for other in DRAW.values():
            other(*airport_year("LGA", "2014-06-01", "2014-06-03", flights=2), 2014)
        second = draw(stamped_days, stamped, 2013)
        after = dict(mpl.rcParams)

    assert second == first
    assert after == before
    assert b"Software" not in first


@pytest.mark.parametrize("direction", schemas.DIRECTIONS)
def test_a_direction_has_its_own_colour_and_shape(draw: Draw, direction: str) -> None:
    png = draw(*flagged("2013-02-09", direction), 2013)

    assert [name for name, mark in plots.MARKS.items() if count(png, mark.colour) > 30] == [direction]
    assert len({mark.shape for mark in plots.MARKS.values()}) == len(schemas.DIRECTIONS)


def test_marks_are_above_their_days() -> None:
    first, second = (plots.daily_delay(*flagged(day, "late"), 2013) for day in ("2013-02-09", "2013-11-30"))

    places = [np.flatnonzero(has_colour(png, plots.MARKS["late"].colour).any(axis=0)).mean() for png in (first, second)]
    days = (dt.date(2013, 11, 30) - dt.date(2013, 2, 9)).days
    assert places[1] - places[0] == pytest.approx(3 * days, abs=1)  # a day is 3 pixels wide


def test_days_without_flights_are_hatched_with_or_without_a_row(draw: Draw) -> None:
    days, verdicts = airport_year()
    is_april = days["fl_date"].map(lambda day: day.month == 4)
    is_empty = {"observed": np.nan, "expected": np.nan, "lower": np.nan, "upper": np.nan, "status": "no_flights"}
    april_verdicts = verdicts.assign(**{name: verdicts[name].mask(is_april, value) for name, value in is_empty.items()})

    without_rows = draw(days[~is_april], verdicts[~is_april], 2013)
    with_rows = draw(days.assign(scheduled=days["scheduled"].mask(is_april, 0)), april_verdicts, 2013)

    assert count(draw(days, verdicts, 2013), plots.NO_FLIGHTS) < 1_000  # edges of letters
    assert count(without_rows, plots.NO_FLIGHTS) > 10_000
    assert with_rows == without_rows


def test_cancelled_flights_have_their_share_of_the_bars() -> None:
    days, verdicts = airport_year()
    flown, half = (plots.daily_flights(days.assign(cancelled=n), verdicts, 2013) for n in (0, 20))

    assert count(flown, plots.CANCELLED) == 0
    assert count(half, plots.CANCELLED) == pytest.approx(count(half, plots.DEPARTED), rel=0.05)


def test_a_year_is_drawn_by_airport_and_kind() -> None:
    parts = [airport_year(origin, last="2013-03-31") for origin in ("LGA", "JFK")]
    days, verdicts = (pd.concat(frames) for frames in zip(*parts, strict=True))

    drawn = list(plots.render_year(days, verdicts, 2013, workers=1))

    lga, jfk = parts
    assert drawn == [
        *(("JFK", kind, DRAW[kind](*jfk, 2013)) for kind in plots.KINDS),
        *(("LGA", kind, DRAW[kind](*lga, 2013)) for kind in plots.KINDS),
    ]
