"""The drawings of the pages as numbers, classes and SVG paths; `templates/drawings.html.j2` puts them into elements.

Shape says the kind of a day (triangle late, square closure, diamond both), colour its severity, size a number. Ordinary
days have a quiet blue scale. x is in percent of the width or in days, so that text keeps its size on a phone and no
style attribute is needed. Equal days share one path: a year of days takes 2 to 4 kB.
"""

from __future__ import annotations

import calendar
import datetime as dt
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from utils.reporting.wording import MONTHS
from utils.schemas import SEVERITIES

DELAY_STEPS = (5, 10, 20, 40)  # minutes of effective delay where the quiet scale q0 to q4 changes
COUNT_STEPS = (1, 3, 6, 12, 24)  # abnormal airports where the accent scale n1 to n5 changes
NO_DATA, TOO_FEW = "hole", "u"  # classes of days without flights, and with too few to judge
BARCODE_FOOT, BARCODE_HEIGHT = 33, 38
WIDESPREAD_SHARE = 0.1  # of the flights at abnormal airports; from here on a spike is strong
CHART_HEIGHT = 100  # of observed and expected delay
HOURS_FOOT, HOURS_HEIGHT = 150, 130
HOUR_CLASSES = ("c", "q4", "q3", "q1")  # cancelled, over an hour late, 15 to 60 minutes late, on time
PILE = 14  # dots on top of each other in a swarm


class Flag(NamedTuple):
    """A day with a link: its class, whether the airport was closed, its title. href None: no link."""

    css: str
    is_closed: bool
    title: str
    href: str | None


Days = Mapping[dt.date, "str | Flag"]  # the class of an ordinary day, or its flag


def delay_class(minutes: float) -> str:
    """Return the class of an effective delay in whole minutes, as the pages show it."""
    return NO_DATA if math.isnan(minutes) else f"q{sum(round(minutes) >= step for step in DELAY_STEPS)}"


def count_class(airports: int) -> str:
    """Return the class of a number of abnormal airports, 1 or more."""
    return f"n{sum(airports >= step for step in COUNT_STEPS)}"


def shape(kind: str) -> str:
    """Return the symbol of a direction or of the kind of an event."""
    return kind if kind in ("closure", "mixed") else "early" if kind == "early" else "late"


def severity_name(severity: float) -> str:
    """Return `usual`, `mild`, `strong` or `extreme`."""
    return SEVERITIES[int(severity)] if severity else "usual"


# Bars in table cells: x and width in percent


def percent(value: float, top: float) -> float:
    """Return a value as percent of `top`, between 0 and 100; 0 if it is missing."""
    if not top or math.isnan(value):
        return 0.0
    return max(0.0, min(100.0, 100 * value / top))


def excess_bars(values: Iterable[float]) -> list[dict[str, Any]]:
    """Return bars from zero to the right (more than usual) or left, on the axis that the values share."""
    known = [0.0 if math.isnan(value) else value for value in values]
    low, high = min([0.0, *known]), max([1.0, *known])
    zero = -low / (high - low) * 100
    bars = []
    for value in known:
        width = abs(value) / (high - low) * 100
        left, css = (zero, "q4") if value >= 0 else (zero - width, "q2")
        bars.append({"x": left, "width": width, "zero": zero, "css": css})
    return bars


def bullet(row: Any, top: float) -> dict[str, float | None]:
    """Return the usual range, the expected and the observed value in percent of `top`; None if they are missing."""
    place = {
        name: None if (value := getattr(row, name)) is None or math.isnan(value) else percent(value, top)
        for name in ("lower", "upper", "expected", "observed")
    }
    has_band = place["lower"] is not None and place["upper"] is not None
    return place | {"band": place["upper"] - place["lower"] if has_band else None}  # type: ignore[operator]


# Calendars


def months(year: int, days: Days, missing: Sequence[int]) -> list[dict[str, Any]]:
    """Return the twelve months as drawings; missing months in a row become one entry with `gap`."""
    drawn: list[dict[str, Any]] = []
    for is_missing, numbers in itertools.groupby(range(1, 13), lambda number: number in missing):
        if not is_missing:
            drawn += [_month(year, number, days) for number in numbers]
            continue
        first, *_, last = [*numbers] * 2
        name = calendar.month_name[first] + (f" to {calendar.month_name[last]}" if last > first else "")
        drawn.append({"gap": name, "span": last - first + 1, "column": (first - 1) % 6 + 1})
    return drawn


def _month(year: int, number: int, days: Days) -> dict[str, Any]:
    """Return one month with Monday to Sunday as columns: paths of ordinary days by class, flags and dates.

    The unit is one day. Dates are only drawn where they fit, in tenths.
    """
    first = dt.date(year, number, 1)
    runs, flags, dates = _Runs(), [], []
    for day in range(1, calendar.monthrange(year, number)[1] + 1):
        slot = first.weekday() + day - 1
        y, x = divmod(slot, 7)
        state = days.get(dt.date(year, number, day), NO_DATA)
        css = state.css if isinstance(state, Flag) else state
        if isinstance(state, Flag):
            flags.append({"x": x, "y": y, "flag": state})
            runs.interrupt()
        else:
            runs.add(css, x, y)
        dates.append({"x": x, "y": y, "day": day, "is_dark": css in ("n4", "n5")})
    return {"name": MONTHS[number - 1], "runs": runs.paths(), "flags": flags, "dates": dates}


class _Runs:
    """Cells beside each other with the same class, as horizontal strokes of one path by class."""

    def __init__(self) -> None:
        self._paths: dict[str, str] = {}
        self._end: tuple[str, int, int] | None = None  # class and position where a stroke can go on

    def add(self, css: str, x: int, y: int) -> None:
        continued = self._end == (css, x, y)
        self._paths[css] = self._paths.get(css, "") + ("+" if continued else f"M{x} {y}+")
        self._end = (css, x + 1, y)

    def interrupt(self) -> None:
        self._end = None

    def paths(self) -> dict[str, str]:
        """Return the paths by class, steps after each other joined: + + + becomes h3."""
        return {css: re.sub(r"\++", lambda steps: f"h{len(steps[0])}", path) for css, path in self._paths.items()}


def barcode(
    year: int, delay: Mapping[dt.date, float], share: Mapping[dt.date, float], missing: Sequence[int]
) -> dict[str, Any]:
    """Return a year as a strip, a pixel per day.

    The foot shows the day's effective delay by its class. A spike shows the share of the flights that were at abnormal
    airports; its height grows with the root of the share, so that small shares remain visible.
    """
    first = dt.date(year, 1, 1)
    foot, spikes = _Runs(), {"n3": "", "s2": ""}
    for number in range(dt.date(year, 12, 31).timetuple().tm_yday):
        day = first + dt.timedelta(days=number)
        is_missing = day.month in missing or day not in delay
        foot.add(NO_DATA if is_missing else delay_class(delay[day]), number, BARCODE_FOOT)
        if part := share.get(day, 0.0):
            css = "n3" if part < WIDESPREAD_SHARE else "s2"
            spikes[css] += f"M{number} 27v-{2 + 24 * part**0.5:.0f}h1V27z"
    edges = [(dt.date(year, month, 1) - first).days for month in range(2, 13)]
    grid = "".join(f"M{edge} 0v{BARCODE_HEIGHT}" for edge in edges)
    return {"foot": foot.paths(), "spikes": {css: path for css, path in spikes.items() if path}, "grid": grid}


# Charts of days


class Point(NamedTuple):
    """A day of a chart of observed and expected delay. flag: None on ordinary days."""

    day: dt.date
    observed: float
    expected: float
    upper: float
    flag: Flag | None


def delay_top(points: Sequence[Point]) -> float:
    """Return the top of the axis: the highest observed value, at least 40, as a multiple of 20 minutes."""
    highest = max((point.observed for point in points if not math.isnan(point.observed)), default=0.0)
    return 20.0 * max(2, math.ceil(highest / 20))


def delay_chart(points: Sequence[Point], labels: Iterable[tuple[dt.date, str, str]]) -> dict[str, Any]:
    """Return observed delay as dots, the expected as a line, the usual range as a band, flagged days as marks.

    points: days in a row. labels: date, text and class of each label of the x axis.
    """
    top, count = delay_top(points), len(points)

    def height(minutes: float) -> int | None:
        return None if math.isnan(minutes) else round(CHART_HEIGHT * (1 - percent(minutes, top) / 100))

    places = {point.day: 100 * (number + 0.5) / count for number, point in enumerate(points)}
    return {
        "count": count,
        "top": top,
        "band": _band(_smooth(height(point.upper) for point in points)),
        "line": _steps(_smooth(height(point.expected) for point in points)),
        "dots": _dots((number, height(point.observed)) for number, point in enumerate(points) if not point.flag),
        "flags": [
            {"x": places[point.day], "y": height(point.observed), "flag": point.flag}
            for point in points
            if point.flag and not math.isnan(point.observed)
        ],
        "labels": [{"x": places[day], "text": text, "css": css} for day, text, css in labels if day in places],
    }


def _smooth(heights: Iterable[int | None]) -> list[int | None]:
    """Return the heights without steps of one unit: a height stays until the next one differs by more."""
    smooth: list[int | None] = []
    for height in heights:
        last = smooth[-1] if smooth else None
        smooth.append(last if height is not None and last is not None and abs(height - last) <= 1 else height)
    return smooth


def _steps(heights: Sequence[int | None]) -> str:
    """Return a line of steps, one unit wide each, broken where a value is missing."""
    path, at, is_open = "", 0, False
    for height, run in itertools.groupby(heights):
        width = len(list(run))
        if height is not None:
            path += f"V{height}h{width}" if is_open else f"M{at} {height}h{width}"
        at, is_open = at + width, height is not None
    return path


def _dots(places: Iterable[tuple[int, int | None]]) -> str:
    """Return a path with a dot at each place; each is relative to the one before, which is shorter."""
    path, x, y = "", 0, 0
    for to_x, to_y in places:
        if to_y is not None:
            path += f"m{to_x - x}{' ' if to_y >= y else ''}{to_y - y}z"
            x, y = to_x, to_y
    return path


def _band(heights: Sequence[int | None]) -> str:
    """Return the area from the foot to the heights, one part for each run of known heights."""
    path, at, is_open = "", 0, False
    for height, run in itertools.groupby(heights):
        width = len(list(run))
        if height is not None:
            path += f"V{height}h{width}" if is_open else f"M{at} {CHART_HEIGHT}V{height}h{width}"
        elif is_open:
            path += f"V{CHART_HEIGHT}z"
        at, is_open = at + width, height is not None
    return path + (f"V{CHART_HEIGHT}z" if is_open else "")


def month_labels(year: int) -> list[tuple[dt.date, str, str]]:
    """Return a label in the middle of each month."""
    return [(dt.date(year, month, 15), MONTHS[month - 1], "") for month in range(1, 13)]


def cycle(values: Mapping[tuple[int, int], float], years: Sequence[int]) -> dict[str, Any]:
    """Return a cycle plot: a panel per month with a dot per year in order and the month's mean; all start at 0.

    values: by (year, month), without missing ones.
    """
    top = max(values.values(), default=0.0) or 1.0
    panels = []
    for month in range(1, 13):
        own = {year: values[year, month] for year in years if (year, month) in values}
        points = [
            (round(8 + 64 * years.index(year) / max(1, len(years) - 1)), round(62 - 54 * value / top))
            for year, value in own.items()
        ]
        panels.append(
            {
                "name": MONTHS[month - 1],
                "mean": 62 - 54 * sum(own.values()) / len(own) / top if own else None,
                "line": "M" + "L".join(f"{x} {y}" for x, y in points) if points else "",
                "dots": _dots(points),
            }
        )
    return {"top": top, "panels": panels}


def hour_strip(hours: Mapping[int, Sequence[int]]) -> dict[str, Any]:
    """Return flights by scheduled hour as stacked bars. hours: numbers in the order of HOUR_CLASSES, by hour."""
    peak = max((sum(parts) for parts in hours.values()), default=0) or 1
    width = 100 / max(1, len(hours))
    bars = []
    for number, (hour, parts) in enumerate(hours.items()):
        foot, boxes = float(HOURS_FOOT), []
        for css, flights in zip(HOUR_CLASSES, parts, strict=True):
            size = HOURS_HEIGHT * flights / peak
            foot -= size
            if flights:
                boxes.append({"css": css, "y": foot, "height": max(0.5, size - 1)})
        bars.append(
            {
                "hour": hour,
                "x": number * width + 0.5,
                "centre": (number + 0.5) * width,
                "boxes": boxes,
                "flights": sum(parts),
                "top": foot,
            }
        )
    return {"bars": bars, "width": width - 1}


def swarm(sizes: Iterable[int], marked: int) -> dict[str, Any]:
    """Return one dot per event on a logarithmic scale from 0 to 1000; equal ones pile up in columns of dots.

    sizes: those of the events of several airports. marked: the size of the marked event. A column is a line with round
    dashes, 8 units apart.
    """
    most = max(2, marked, *sizes)

    def place(size: float) -> float:
        return 30 + 940 * math.log(size) / math.log(most * 1.25)

    path = ""
    for size, count in sorted(Counter(sizes).items()):
        for column in range(math.ceil(count / PILE)):
            height = min(PILE, count - column * PILE)
            path += f"M{place(size) + 13 * column:.0f} 118v-{8 * height - 7}"
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500) if tick <= most]
    return {"path": path, "marked": place(marked), "ticks": [{"x": place(tick), "text": tick} for tick in ticks]}
