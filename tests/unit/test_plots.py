"""The two figures of an airport's year: what they show, and that drawing is repeatable."""

from __future__ import annotations

import datetime as dt
import io
import re
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from utils import schemas
from utils.errors import InvalidInput
from utils.reporting import palette, plots
from utils.reporting.site import render

Frames = tuple[pd.DataFrame, pd.DataFrame]
Draw = Callable[[pd.DataFrame, pd.DataFrame, int], bytes]
DRAW: dict[str, Draw] = {"daily_flights": plots.daily_flights, "daily_delay": plots.daily_delay}
LEGEND_BOTTOM_PX = 85
MAX_BYTES = 60 * 1024


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


def flagged(fl_date: str, direction: str, severity: int = 2, year: int = 2013) -> Frames:
    """A year with one flagged day."""
    days, verdicts = airport_year(first=f"{year}-01-01", last=f"{year}-12-31")
    is_day = verdicts["fl_date"] == dt.date.fromisoformat(fl_date)
    changes = {"is_anomaly": True, "direction": direction, "severity": severity, "observed": 80.0}
    return days, verdicts.assign(**{name: verdicts[name].mask(is_day, value) for name, value in changes.items()})


def not_judged(frames: Frames, status: str) -> Frames:
    days, verdicts = frames
    return days, verdicts.assign(observed=np.nan, expected=np.nan, lower=np.nan, upper=np.nan, status=status)


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


def test_the_noisiest_year_is_a_small_png(draw: Draw) -> None:
    days, verdicts = airport_year()
    random = np.random.default_rng(1)
    days["scheduled"] = random.integers(1, 1000, len(days))
    verdicts["observed"] = random.uniform(-10, 120, len(days))
    verdicts["upper"] = random.uniform(30, 120, len(days))
    verdicts["is_anomaly"] = random.random(len(days)) < 0.2
    verdicts["direction"] = random.choice(schemas.DIRECTIONS, len(days))
    verdicts["severity"] = random.integers(1, 4, len(days))

    png = draw(days, verdicts, 2013)

    image = Image.open(io.BytesIO(png))
    assert (image.format, image.size) == ("PNG", (plots.WIDTH_PX, plots.HEIGHT_PX))
    assert len(png) <= MAX_BYTES


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


def test_a_direction_has_its_own_shape_and_early_days_their_own_colour(draw: Draw) -> None:
    late, early, closure = (draw(*flagged("2013-02-09", direction), 2013) for direction in schemas.DIRECTIONS)

    assert count(late, palette.STRONG) > 30
    assert count(closure, palette.STRONG) > 30
    assert count(early, palette.EARLY) > 30
    assert count(early, palette.STRONG) == count(late, palette.EARLY) == 0
    assert len({mark.shape for mark in plots.MARKS.values()}) == len(schemas.DIRECTIONS)


def test_plots_and_pages_have_the_same_colours() -> None:
    light = render.asset("site.css").decode().partition("@media")[0]
    of_page = dict(re.findall(r"--([\w-]+): (#\w+);", light))
    names = {"s1": palette.MILD, "s2": palette.STRONG, "s3": palette.EXTREME, "edge": palette.EDGE}
    names |= {"q3": palette.DEPARTED, "cancelled": palette.CANCELLED, "observed": palette.OBSERVED}
    names |= {"expected": palette.EXPECTED, "band": palette.BAND, "gone": palette.NO_FLIGHTS}

    assert {name: of_page[name] for name in names} == {name: colour.lower() for name, colour in names.items()}


def test_marks_are_above_their_days() -> None:
    first, second = (plots.daily_delay(*flagged(day, "late"), 2013) for day in ("2013-02-09", "2013-11-30"))

    places = [np.flatnonzero(has_colour(png, palette.STRONG).any(axis=0)).mean() for png in (first, second)]
    days = (dt.date(2013, 11, 30) - dt.date(2013, 2, 9)).days
    assert places[1] - places[0] == pytest.approx(3 * days, abs=1)  # a day is 3 pixels wide


def test_a_more_severe_day_has_a_larger_and_darker_mark() -> None:
    colours = (palette.MILD, palette.STRONG, palette.EXTREME)
    pngs = [plots.daily_delay(*flagged("2013-05-05", "late", severity), 2013) for severity in (1, 2, 3)]

    sizes = [count(png, colour) for png, colour in zip(pngs, colours, strict=True)]
    assert sizes == sorted(set(sizes))
    assert [count(png, palette.EXTREME) > 0 for png in pngs] == [False, False, True]
    assert tuple(plots.LEVELS) == schemas.SEVERITIES[1:]


def test_the_legend_states_the_share_of_the_days_in_the_usual_range() -> None:
    """48 and 49 of 365 days outside the range are the same share in percent, 100 days are another one."""
    days, verdicts = airport_year()
    legends = []
    for outside in (48, 49, 100):
        observed = np.where(np.arange(len(days)) < outside, 31.0, 12.0)
        png = plots.daily_delay(days, verdicts.assign(observed=observed), 2013)
        legends.append(np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))[:LEGEND_BOTTOM_PX])

    assert (legends[0] == legends[1]).all()
    assert (legends[0] != legends[2]).any()


def test_days_without_flights_are_hatched_with_or_without_a_row(draw: Draw) -> None:
    days, verdicts = airport_year()
    is_april = days["fl_date"].map(lambda day: day.month == 4)
    empty_days, empty_verdicts = not_judged(airport_year(flights=0), "no_flights")
    april_empty = [empty.where(is_april, whole) for empty, whole in ((empty_days, days), (empty_verdicts, verdicts))]

    without_rows = draw(days[~is_april], verdicts[~is_april], 2013)

    assert count(draw(days, verdicts, 2013), palette.NO_FLIGHTS) < 1_000  # edges of letters
    assert count(without_rows, palette.NO_FLIGHTS) > 10_000
    assert count(without_rows, palette.HATCH) > 1_000
    assert draw(april_empty[0].astype(days.dtypes), april_empty[1].astype(verdicts.dtypes), 2013) == without_rows


def test_a_year_without_values_is_drawn_without_a_warning(draw: Draw) -> None:
    png = draw(*not_judged(airport_year(flights=0), "no_flights"), 2013)

    assert count(png, palette.NO_FLIGHTS) > 100_000


def test_days_that_were_not_judged_have_a_strip(draw: Draw) -> None:
    png = draw(*not_judged(airport_year(flights=2), "insufficient_data"), 2013)

    assert count(png, palette.NOT_JUDGED) > 10_000


def test_cancelled_flights_have_their_share_of_the_bars() -> None:
    days, verdicts = airport_year()
    flown, half = (plots.daily_flights(days.assign(cancelled=n), verdicts, 2013) for n in (0, 20))

    assert count(flown, palette.CANCELLED) == 0
    assert count(half, palette.CANCELLED) == pytest.approx(count(half, palette.DEPARTED), rel=0.05)


def test_all_days_of_a_leap_year_are_drawn(draw: Draw) -> None:
    png = draw(*flagged("2012-12-30", "closure", year=2012), 2012)

    assert count(png, palette.STRONG) > 30


def test_a_code_that_looks_like_a_formula_is_drawn_as_text(draw: Draw) -> None:
    assert draw(*airport_year(r"$\frac{1}$"), 2013) != draw(*airport_year("1"), 2013)


@pytest.mark.parametrize("origins", [[], ["JFK", "LGA"]])
def test_a_figure_of_several_airports_or_of_none_is_refused(draw: Draw, origins: list[str]) -> None:
    days, verdicts = airport_year()

    with pytest.raises(InvalidInput, match=f"not {len(origins)}"):
        draw(pd.concat([days.iloc[:0], *(days.assign(origin=origin) for origin in origins)]), verdicts.iloc[:0], 2013)


def test_rows_of_another_year_are_refused(draw: Draw) -> None:
    with pytest.raises(InvalidInput, match="2014"):
        draw(*airport_year(), 2014)


def test_verdicts_of_an_airport_without_days_are_refused() -> None:
    days, verdicts = airport_year()

    with pytest.raises(InvalidInput, match="JFK"):
        list(plots.render_year(days.assign(origin="LGA"), verdicts, 2013, workers=1))


def test_a_year_is_drawn_by_airport_and_kind() -> None:
    parts = [airport_year(origin, last="2013-03-31") for origin in ("LGA", "JFK")]
    days, verdicts = (pd.concat(frames) for frames in zip(*parts, strict=True))

    drawn = list(plots.render_year(days, verdicts, 2013, workers=1))

    lga, jfk = parts
    assert drawn == [
        *(("JFK", kind, DRAW[kind](*jfk, 2013)) for kind in plots.KINDS),
        *(("LGA", kind, DRAW[kind](*lga, 2013)) for kind in plots.KINDS),
    ]
