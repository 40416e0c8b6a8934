"""The two figures of an airport's year: what a reader sees on them, and that drawing them is repeatable."""

from __future__ import annotations

import datetime as dt
import io
import subprocess
import sys
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from utils import schemas
from utils.errors import DelaywatchError
from utils.reporting import plots

Frames = tuple[pd.DataFrame, pd.DataFrame]
DRAW = {"daily_flights": plots.daily_flights, "daily_delay": plots.daily_delay}


def airport_year(origin: str = "JFK", first: str = "2013-01-01", last: str = "2013-12-31", flights: int = 40) -> Frames:
    """Days and verdicts of an airport on which every day is like every other."""
    shown = [stamp.date() for stamp in pd.date_range(first, last)]
    days = pd.DataFrame({"origin": origin, "fl_date": shown, "scheduled": flights, "cancelled": 0})
    verdicts = pd.DataFrame(
        {
            "origin": origin,
            "fl_date": shown,
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


def flagged(frames: Frames, day: str, direction: str, severity: int = 2) -> Frames:
    days, verdicts = frames
    verdicts = verdicts.copy()
    row = verdicts["fl_date"] == dt.date.fromisoformat(day)
    verdicts.loc[row, "is_anomaly"] = True
    verdicts.loc[row, "direction"] = direction
    verdicts.loc[row, "severity"] = severity
    verdicts.loc[row, "observed"] = 80.0
    return days, verdicts


def pixels(png: bytes) -> npt.NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def count(png: bytes, colour: str) -> int:
    """Pixels of exactly this colour below the legend, which shows some colours too."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((pixels(png)[85:] == wanted).all(axis=-1).sum())


@pytest.fixture(params=list(DRAW))
def draw(request: pytest.FixtureRequest) -> Any:
    return DRAW[request.param]


def test_a_figure_is_a_png_of_the_promised_size_and_weight(draw: Any) -> None:
    png = draw(*flagged(airport_year(), "2013-02-09", "closure", 3), 2013)

    image = Image.open(io.BytesIO(png))
    assert (image.format, image.size) == ("PNG", (plots.WIDTH_PX, plots.HEIGHT_PX))
    assert len(png) <= 60 * 1024


def test_the_noisiest_year_still_weighs_no_more_than_60_kib(draw: Any) -> None:
    days, verdicts = airport_year()
    random = np.random.default_rng(1)
    days["scheduled"] = random.integers(1, 1000, len(days))
    verdicts["observed"] = random.uniform(-10, 120, len(days))
    verdicts["upper"] = random.uniform(30, 120, len(days))
    verdicts["is_anomaly"] = random.random(len(days)) < 0.2
    verdicts["direction"] = random.choice(schemas.DIRECTIONS, len(days))
    verdicts["severity"] = random.integers(1, 4, len(days))

    assert len(draw(days, verdicts, 2013)) <= 60 * 1024


def test_the_same_rows_give_the_same_bytes_whatever_was_drawn_before_and_whatever_style_is_set(draw: Any) -> None:
    busy = flagged(airport_year(), "2013-07-01", "late")
    first = draw(*busy, 2013)
    draw(*airport_year("LGA", "2013-06-01", "2013-06-03", flights=2), 2013)
    plots._sheet.cache_clear()
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30, "text.color": "white", "savefig.dpi": 300}):
        again = draw(*busy, 2013)

    assert again == first
    assert b"Software" not in first


def test_drawing_leaves_pyplot_and_its_settings_alone(draw: Any) -> None:
    before = dict(mpl.rcParams)
    program = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from tests.unit.test_plots import airport_year, DRAW\n"
        f"DRAW[{draw.__name__!r}](*airport_year(), 2013)\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    plots._sheet.cache_clear()
    draw(*airport_year(), 2013)

    assert dict(mpl.rcParams) == before
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"


@pytest.mark.parametrize("direction", schemas.DIRECTIONS)
def test_each_direction_is_marked_in_its_own_colour_and_no_other(draw: Any, direction: str) -> None:
    png = draw(*flagged(airport_year(), "2013-02-09", direction), 2013)

    shown = {name for name, mark in plots.MARKS.items() if count(png, mark.colour) > 30}
    assert shown == {direction}


def test_a_mark_stands_over_its_day() -> None:
    png = plots.daily_delay(*flagged(airport_year(), "2013-02-09", "late"), 2013)

    wanted = [int(plots.MARKS["late"].colour[i : i + 2], 16) for i in (1, 3, 5)]
    columns = np.flatnonzero((pixels(png)[85:] == wanted).all(axis=-1).any(axis=0))
    day_of_year = dt.date(2013, 2, 9).timetuple().tm_yday
    assert columns.mean() == pytest.approx(plots._LEFT_PX + (day_of_year - 0.5) * plots._DAY_PX, abs=1)


def test_directions_differ_in_shape_as_well_as_in_colour() -> None:
    assert set(plots.MARKS) == set(schemas.DIRECTIONS)
    assert len({mark.shape for mark in plots.MARKS.values()}) == len(plots.MARKS)
    assert len({mark.colour for mark in plots.MARKS.values()}) == len(plots.MARKS)


def test_a_severer_day_has_a_larger_and_fuller_mark() -> None:
    sizes = [
        count(
            plots.daily_delay(*flagged(airport_year(), "2013-05-05", "late", severity), 2013),
            plots.MARKS["late"].colour,
        )
        for severity in (1, 2, 3)
    ]

    assert sizes == sorted(set(sizes))
    assert tuple(plots.LEVELS) == schemas.SEVERITIES[1:]


def test_days_without_rows_are_hatched_and_a_whole_year_has_no_hatch(draw: Any) -> None:
    summer = draw(*airport_year(first="2013-06-01", last="2013-08-31"), 2013)
    whole = draw(*airport_year(), 2013)

    assert count(whole, plots.NO_FLIGHTS) < 1_000  # edges of letters
    assert count(summer, plots.NO_FLIGHTS) > 100_000
    line_through_january = pixels(summer)[200, plots._LEFT_PX + 3 : plots._LEFT_PX + 90]
    assert len(np.unique(line_through_january, axis=0)) > 2


def test_a_day_with_zero_flights_looks_like_a_day_without_a_row(draw: Any) -> None:
    days, verdicts = airport_year()
    gap = days["fl_date"].map(lambda day: day.month == 4)
    days.loc[gap, "scheduled"] = 0
    verdicts.loc[gap, ["observed", "expected", "lower", "upper"]] = np.nan
    verdicts.loc[gap, "status"] = "no_flights"

    assert draw(days, verdicts, 2013) == draw(days[~gap], verdicts[~gap], 2013)


def test_a_day_with_too_few_flights_is_shown_as_not_judged(draw: Any) -> None:
    days, verdicts = airport_year(flights=2)
    verdicts[["expected", "lower", "upper"]] = np.nan
    verdicts["status"] = "insufficient_data"

    assert count(draw(days, verdicts, 2013), plots.NOT_JUDGED) > 10_000


def test_cancelled_flights_are_drawn_apart_from_departed_ones() -> None:
    days, verdicts = airport_year()
    none = plots.daily_flights(days, verdicts, 2013)
    half = plots.daily_flights(days.assign(cancelled=20), verdicts, 2013)

    assert count(none, plots.CANCELLED) == 0
    assert count(half, plots.CANCELLED) == pytest.approx(count(half, plots.DEPARTED), rel=0.05)


@pytest.mark.parametrize(
    ("first", "last"), [("2012-01-01", "2012-12-31"), ("2012-12-31", "2012-12-31"), ("2012-02-28", "2012-03-01")]
)
def test_any_number_of_days_from_one_to_366_is_drawn(draw: Any, first: str, last: str) -> None:
    png = draw(*airport_year(first=first, last=last), 2012)

    assert Image.open(io.BytesIO(png)).size == (plots.WIDTH_PX, plots.HEIGHT_PX)


@pytest.mark.filterwarnings("error")
def test_a_year_of_nulls_is_drawn_without_a_warning(draw: Any) -> None:
    days, verdicts = airport_year(flights=0)
    verdicts[["observed", "expected", "lower", "upper"]] = np.nan
    verdicts["status"] = "no_flights"

    assert count(draw(days, verdicts, 2013), plots.NO_FLIGHTS) > 100_000


def test_dates_may_be_objects_or_timestamps(draw: Any) -> None:
    days, verdicts = airport_year()
    stamped = [frame.assign(fl_date=pd.to_datetime(frame["fl_date"])) for frame in (days, verdicts)]

    assert draw(*stamped, 2013) == draw(days, verdicts, 2013)


def test_a_code_that_looks_like_a_formula_is_shown_as_it_is(draw: Any) -> None:
    shown = draw(*airport_year(r"$\frac{1}$"), 2013)

    assert shown != draw(*airport_year("1"), 2013)


def test_rows_of_two_airports_or_of_none_are_refused(draw: Any) -> None:
    days, verdicts = airport_year()
    with pytest.raises(DelaywatchError, match="rows are of 2; filter them by origin"):
        draw(pd.concat([days, days.assign(origin="LGA")]), verdicts, 2013)
    with pytest.raises(DelaywatchError, match="rows are of 0"):
        draw(days.iloc[:0], verdicts.iloc[:0], 2013)


def test_rows_of_another_year_are_refused(draw: Any) -> None:
    with pytest.raises(DelaywatchError, match="2014 is of another year"):
        draw(*airport_year(), 2014)


def network(airports: int) -> Frames:
    codes = [f"A{number:02d}" for number in range(airports)]
    parts = [airport_year(code, last="2013-03-31", flights=10 + len(codes)) for code in reversed(codes)]
    return pd.concat([days for days, _ in parts]), pd.concat([verdicts for _, verdicts in parts])


def test_a_year_is_rendered_by_airport_and_kind_with_the_bytes_of_the_single_figures() -> None:
    days, verdicts = network(3)

    drawn = list(plots.render_year(days, verdicts, 2013, workers=1))

    assert [(origin, kind) for origin, kind, _ in drawn] == [(o, k) for o in ("A00", "A01", "A02") for k in plots.KINDS]
    for origin, kind, png in drawn:
        assert png == DRAW[kind](days[days["origin"] == origin], verdicts[verdicts["origin"] == origin], 2013)


def test_workers_give_the_same_figures_in_the_same_order_as_one_process() -> None:
    days, verdicts = network(2 * plots.AIRPORTS_PER_WORKER + 1)

    assert list(plots.render_year(days, verdicts, 2013, 2)) == list(plots.render_year(days, verdicts, 2013, 1))


def test_a_verdict_on_an_airport_without_days_is_refused() -> None:
    days, verdicts = airport_year()

    with pytest.raises(DelaywatchError, match="verdicts on JFK but no days"):
        list(plots.render_year(days.assign(origin="LGA"), verdicts, 2013, workers=1))
