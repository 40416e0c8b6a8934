"""Draw the two figures of an airport's year as PNG bytes. Does no file I/O and does not use pyplot.

Each process keeps one canvas per kind of figure: the parts that all airports of a year share (frame, months, labels)
are drawn once, and only the artists with changing data are drawn per airport. Every day is exactly three pixels wide,
so that bars need no anti-aliasing, all days are equally visible and the image compresses well.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import io
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator
from matplotlib.transforms import Bbox, IdentityTransform, blended_transform_factory
from PIL import Image, ImageColor

from utils.errors import InvalidInput
from utils.parallel import in_processes
from utils.reporting.palette import (
    BAND,
    CANCELLED,
    DEPARTED,
    EARLY,
    EDGE,
    EXPECTED,
    EXTREME,
    GRID,
    HATCH,
    INK,
    MILD,
    NO_FLIGHTS,
    NOT_JUDGED,
    OBSERVED,
    PAPER,
    STRONG,
)
from utils.reporting.wording import METRIC_NAMES, MONTHS, share

if TYPE_CHECKING:
    import pandas as pd  # for types only: worker processes start faster without pandas

Array = npt.NDArray[Any]

WIDTH_PX, HEIGHT_PX = 1200, 450
KINDS = ("daily_flights", "daily_delay")
AIRPORTS_PER_WORKER = 20  # with fewer, starting a worker takes longer than it saves


class Mark(NamedTuple):
    """Marker of a flagged day: the shape says its kind. colour None: the colour of the severity."""

    shape: str
    colour: str | None
    noun: str
    plural: str


class Level(NamedTuple):
    """Size and colours of a severity. They also differ in lightness and size, so that nobody depends on the hue."""

    size_px: int
    fill: str
    edge: str


MARKS = {
    "late": Mark("^", None, "late", "late"),
    "closure": Mark("s", None, "closure", "closures"),
    "early": Mark("v", EARLY, "early", "early"),
}
EARLY_CODE = 1 + list(MARKS).index("early")  # in _AirportYear.direction
LEVELS = {
    "mild": Level(14, MILD, EDGE),
    "strong": Level(17, STRONG, PAPER),
    "extreme": Level(24, EXTREME, PAPER),
}
BAND_LABEL = "usual range"
STRIPS: dict[str, dict[str, Any]] = {
    "no flights": {"facecolor": NO_FLIGHTS, "edgecolor": HATCH, "hatch": "//"},
    "not judged": {"facecolor": NOT_JUDGED},
}

_LEFT_PX, _BOTTOM_PX, _TALL_PX, _DAY_PX = 92, 60, 306, 3  # position and height of the axes, and width of a day
_DRAWING = threading.Lock()  # the threads of a process share its canvases


@dataclass(frozen=True)
class _AirportYear:
    """One airport's calendar year as arrays with one element per day; small and quick to send to a worker."""

    origin: str
    year: int
    metric: str
    scheduled: Array
    cancelled: Array
    observed: Array
    expected: Array
    lower: Array
    upper: Array
    direction: Array  # 0 not flagged, else 1 + position in MARKS
    severity: Array
    is_judged: Array


def daily_flights(days: pd.DataFrame, verdicts: pd.DataFrame, year: int) -> bytes:
    """Return a PNG of one airport's scheduled flights per day, with cancelled flights on top and abnormal days marked.

    days: rows of AIRPORT_DAYS; verdicts: rows of ANOMALIES of one detector; both of one airport. The x axis is the
    whole calendar year; a day without a row is a day without flights. The same rows give the same bytes. Raises
    DelaywatchError if the rows are not of one airport and of `year`.
    """
    return _draw("daily_flights", _single(days, verdicts, year))


def daily_delay(days: pd.DataFrame, verdicts: pd.DataFrame, year: int) -> bytes:
    """Return a PNG of one airport's observed and expected delay (the verdicts' metric), the band and abnormal days.

    Parameters and errors as in `daily_flights`.
    """
    return _draw("daily_delay", _single(days, verdicts, year))


def render_year(
    days: pd.DataFrame, verdicts: pd.DataFrame, year: int, workers: int
) -> Iterator[tuple[str, str, bytes]]:
    """Yield (origin, kind, PNG) for every airport of `days`, by origin and then in the order of KINDS.

    Uses at most one worker per AIRPORTS_PER_WORKER airports; with none or one, this process draws. Raises InvalidInput
    if a row is of another year or has no day, and the errors of `in_processes`.
    """
    workers = min(workers, days["origin"].nunique() // AIRPORTS_PER_WORKER)
    airports = zip(_airport_years(days, verdicts, year))
    for origin, images in in_processes(_draw_both, airports, workers, f"drew plots of {year}"):
        for kind, image in zip(KINDS, images, strict=True):
            yield origin, kind, image


# Rows to arrays


def _single(days: pd.DataFrame, verdicts: pd.DataFrame, year: int) -> _AirportYear:
    airports = list(_airport_years(days, verdicts, year))
    if len(airports) != 1:
        raise InvalidInput(f"A figure shows one airport, not {len(airports)}; filter the rows by origin.")
    return airports[0]


def _airport_years(days: pd.DataFrame, verdicts: pd.DataFrame, year: int) -> Iterator[_AirportYear]:
    length = (dt.date(year + 1, 1, 1) - dt.date(year, 1, 1)).days
    day_rows, verdict_rows = _rows_by_origin(days, year, length), _rows_by_origin(verdicts, year, length)
    unknown = sorted(set(verdict_rows) - set(day_rows))
    if unknown:
        raise InvalidInput(
            f"Verdicts exist for {', '.join(unknown)}, but no days in {year}; run gold and detect again."
        )

    counts = {name: days[name].to_numpy() for name in ("scheduled", "cancelled")}
    values = {n: verdicts[n].to_numpy("float32", na_value=np.nan) for n in ("observed", "expected", "lower", "upper")}
    flagged = verdicts["is_anomaly"].to_numpy(bool)
    named = verdicts["direction"].to_numpy(object)
    direction = sum(
        (i * (flagged & (named == name)) for i, name in enumerate(MARKS, start=1)), np.zeros(len(flagged), int)
    )
    severity = verdicts["severity"].to_numpy()
    judged = verdicts["status"].to_numpy(object) == "ok"
    metrics = verdicts["metric"].to_numpy(object)

    def spread(rows: tuple[Array, Array], column: Array, empty: float) -> Array:
        positions, day = rows
        out = np.full(length, empty, column.dtype)
        out[day] = column[positions]
        return out

    no_rows = (np.empty(0, int), np.empty(0, int))
    for origin, rows in day_rows.items():
        verdict = verdict_rows.get(origin, no_rows)
        yield _AirportYear(
            origin=origin,
            year=year,
            metric=str(metrics[verdict[0][0]]) if len(verdict[0]) else next(iter(METRIC_NAMES)),
            **{name: spread(rows, column, 0) for name, column in counts.items()},
            **{name: spread(verdict, column, np.nan) for name, column in values.items()},
            direction=spread(verdict, direction, 0),
            severity=spread(verdict, severity, 0),
            is_judged=spread(verdict, judged, False),
        )


def _rows_by_origin(frame: pd.DataFrame, year: int, length: int) -> dict[str, tuple[Array, Array]]:
    """Return positions and days of the year (from 0) of each airport's rows, airports in alphabetical order."""
    if frame.empty:
        return {}
    day = (frame["fl_date"].to_numpy().astype("datetime64[D]") - np.datetime64(f"{year}-01-01", "D")).astype(int)
    if day.min() < 0 or day.max() >= length:
        raise InvalidInput(f"The figures of {year} cannot show rows of another year; filter the rows by fl_date.")
    origins, code = np.unique(frame["origin"].to_numpy().astype(str), return_inverse=True)
    order = np.argsort(code, kind="stable")
    bounds = np.searchsorted(code[order], np.arange(len(origins) + 1))
    groups = (order[a:b] for a, b in itertools.pairwise(bounds))
    return {str(origin): (rows, day[rows]) for origin, rows in zip(origins, groups, strict=True)}


# Arrays to pixels


class _Series(NamedTuple):
    """The artists of one kind of figure."""

    keys: dict[str, Any]  # legend handles by label
    artists: list[Artist]
    # Set the artists' data to an airport's; return the height of each day's mark and the limits of the y axis.
    update: Callable[[_AirportYear], tuple[Array, float, float]]


@dataclass(frozen=True)
class _Sheet:
    """The canvas of one kind and year: the pixels that all airports share, and the artists that change."""

    canvas: Any  # FigureCanvasAgg, which has no types; the same holds for the collections below
    axes: Axes
    background: Any
    series: _Series
    strips: dict[str, Any]
    marks: dict[str, Any]
    title: Text
    summary: Text
    y_label: Text
    keys: dict[str, Any]  # handles of all possible legend entries, by label
    legend_pixels: dict[tuple[str, ...], Any]  # by the texts shown: few combinations occur


def _draw_both(airport: _AirportYear) -> tuple[str, list[bytes]]:
    return airport.origin, [_draw(kind, airport) for kind in KINDS]


def _draw(kind: str, airport: _AirportYear) -> bytes:
    with _DRAWING:
        sheet = _sheet(kind, airport.year)
        heights, low, high = sheet.series.update(airport)
        sheet.axes.set_ylim(low, high)
        sheet.title.set_text(f"{airport.origin} {airport.year}")
        sheet.summary.set_text(_summary(airport))
        metric = METRIC_NAMES.get(airport.metric, airport.metric)
        sheet.y_label.set_text("flights per day" if kind == "daily_flights" else f"{metric}, minutes")
        present = _place_strips(sheet, airport) | _place_marks(sheet, airport, np.nan_to_num(heights, nan=low))

        sheet.canvas.restore_region(sheet.background)
        labels = {label: label for label in sheet.keys if label in present | set(sheet.series.keys)}
        if BAND_LABEL in labels:
            labels[BAND_LABEL] = _coverage(airport)
        _show_legend(sheet, labels)
        ground = [*sheet.strips.values(), sheet.axes.yaxis, *sheet.series.artists]
        for artist in [*ground, *sheet.marks.values(), sheet.title, sheet.summary, sheet.y_label]:
            sheet.axes.draw_artist(artist)
        return _png(np.asarray(sheet.canvas.buffer_rgba()))


def _place_strips(sheet: _Sheet, airport: _AirportYear) -> set[str]:
    """Show the days without a verdict; return the labels of the visible strips."""
    is_empty = airport.scheduled == 0
    for label, mask in zip(STRIPS, (is_empty, ~is_empty & ~airport.is_judged), strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int))).reshape(-1, 2)
        sheet.strips[label].set_verts(_boxes(edges[:, 0], edges[:, 1], np.zeros(len(edges)), np.ones(len(edges))))
        sheet.strips[label].set_visible(len(edges) > 0)
    return {label for label, strip in sheet.strips.items() if strip.get_visible()}


def _place_marks(sheet: _Sheet, airport: _AirportYear, heights: Array) -> set[str]:
    """Mark every flagged day; return the labels of the visible marks."""
    present = set()
    for code, (name, mark) in enumerate(MARKS.items(), start=1):
        days = np.flatnonzero(airport.direction == code)
        days = days[np.argsort(airport.severity[days], kind="stable")]  # draw the most severe last, on top
        level = np.clip(airport.severity[days], 1, len(LEVELS)) - 1
        sheet.marks[name].set_offsets(np.column_stack([days + 0.5, heights[days]]))
        sheet.marks[name].set_sizes(np.square([look.size_px for look in LEVELS.values()])[level])
        sheet.marks[name].set_facecolor(np.array([mark.colour or look.fill for look in LEVELS.values()])[level])
        sheet.marks[name].set_edgecolor(np.array([look.edge for look in LEVELS.values()])[level])
        sheet.marks[name].set_visible(len(days) > 0)
        present |= {list(LEVELS)[i] for i in level} | ({name} if len(days) else set())
    return present


def _coverage(airport: _AirportYear) -> str:
    """Return the legend's text of the usual range: the share of the days that are inside it, if any day has one."""
    has_band = np.isfinite(airport.lower) & np.isfinite(airport.upper) & np.isfinite(airport.observed)
    if not has_band.any():
        return BAND_LABEL
    is_inside = (airport.observed >= airport.lower) & (airport.observed <= airport.upper)
    return f"usual: {share(is_inside[has_band].mean())} of days"


def _summary(airport: _AirportYear) -> str:
    if not airport.is_judged.any():
        return "not judged"
    counts = {mark: int((airport.direction == code).sum()) for code, mark in enumerate(MARKS.values(), start=1)}
    total = sum(counts.values())
    if not total:
        return "no abnormal days"
    parts = ", ".join(f"{n} {mark.noun if n == 1 else mark.plural}" for mark, n in counts.items() if n)
    return f"{total} abnormal day{'s' if total > 1 else ''}: {parts}"


def _boxes(left: Array, right: Array, bottom: Array, top: Array) -> Array:
    """Return the corners of upright boxes, shape (boxes, 4, 2), without boxes that have a missing edge."""
    corners = np.stack([left, bottom, left, top, right, top, right, bottom], axis=1).reshape(-1, 4, 2).astype(float)
    whole: Array = corners[np.isfinite(corners).all(axis=(1, 2))]
    return whole


def _flight_bars(length: int) -> _Series:
    departed: Any = PolyCollection([], antialiased=False, linewidth=0)
    cancelled: Any = PolyCollection([], antialiased=False, linewidth=0, facecolor=CANCELLED)
    colours = to_rgba_array([DEPARTED, *(look.fill for look in LEVELS.values()), EARLY])
    left = np.arange(length, dtype=float)
    right = left + 2 / _DAY_PX  # one pixel of background between the bars

    def update(airport: _AirportYear) -> tuple[Array, float, float]:
        split = airport.scheduled - airport.cancelled
        departed.set_verts(_boxes(left, right, np.zeros(length), split))
        is_early = airport.direction == len(MARKS)
        departed.set_facecolor(
            colours[np.where(is_early, len(colours) - 1, airport.severity * (airport.direction > 0))]
        )
        cancelled.set_verts(_boxes(left, right, split, airport.scheduled))
        top = max(float(airport.scheduled.max()), 1.0)
        return np.full(length, 1.08 * top), 0.0, 1.16 * top

    keys = {"departed": Patch(facecolor=DEPARTED), "cancelled": Patch(facecolor=CANCELLED)}
    return _Series(keys, [departed, cancelled], update)


def _delay_lines(length: int) -> _Series:
    noon = np.arange(length) + 0.5
    band: Any = PolyCollection([], antialiased=False, linewidth=0, facecolor=BAND)
    expected = Line2D(noon, noon, color=EXPECTED, linewidth=3, drawstyle="steps-mid")
    observed = Line2D(noon, noon, color=OBSERVED, linewidth=1, marker="o", markersize=3.4, markeredgewidth=0)
    observed.set_antialiased(False)  # anti-aliasing a year's zigzag would take 40% of the file

    def update(airport: _AirportYear) -> tuple[Array, float, float]:
        band.set_verts(_boxes(noon - 0.5, noon + 0.5, airport.lower, airport.upper))
        expected.set_ydata(airport.expected)
        observed.set_ydata(airport.observed)
        # The band of a day with few flights may be very wide: the axis does not include all of it.
        reach = np.nanquantile(airport.upper, 0.9) if np.isfinite(airport.upper).any() else np.nan
        values = np.concatenate([airport.observed, airport.expected, [reach]])
        high, low = float(np.nanmax(values, initial=10.0)), float(np.nanmin(values, initial=0.0))
        return airport.observed, low - 0.04 * (high - low), high + 0.12 * (high - low)

    keys = {"observed": observed, "expected": expected, BAND_LABEL: Patch(facecolor=BAND)}
    return _Series(keys, [band, expected, observed], update)


_SERIES = dict(zip(KINDS, (_flight_bars, _delay_lines), strict=True))


@functools.lru_cache(maxsize=len(KINDS))
def _sheet(kind: str, year: int) -> _Sheet:
    """Return the canvas of a kind and year with the artists that its airports share; ignores the user's style."""
    length = dt.date(year, 12, 31).timetuple().tm_yday
    right = _LEFT_PX + length * _DAY_PX
    with _own_style():
        figure = Figure(figsize=(WIDTH_PX / 72, HEIGHT_PX / 72), dpi=72, facecolor=PAPER)  # 1 point = 1 pixel
        canvas: Any = FigureCanvasAgg(figure)
        frame = (_LEFT_PX / WIDTH_PX, _BOTTOM_PX / HEIGHT_PX, (right - _LEFT_PX) / WIDTH_PX, _TALL_PX / HEIGHT_PX)
        axes = figure.add_axes(frame, xlim=(0, length), facecolor=PAPER)
        _dress(axes, year)

        def text(x: float, y: float, **look: Any) -> Text:
            return figure.text(x / WIDTH_PX, y / HEIGHT_PX, "", color=INK, parse_math=False, animated=True, **look)

        title = text(_LEFT_PX, HEIGHT_PX - 12, fontsize=27, weight="bold", va="top")
        summary = text(right, HEIGHT_PX - 15, fontsize=21, ha="right", va="top")
        y_label = text(8, _BOTTOM_PX + _TALL_PX / 2, fontsize=19, rotation=90, va="center")
        tall = blended_transform_factory(axes.transData, axes.transAxes)
        strips = {
            label: PolyCollection([], transform=tall, antialiased=False, linewidth=0, **look)
            for label, look in STRIPS.items()
        }
        marks = {  # not clipped: half of a mark on 1 Jan or 31 Dec is beside the axes
            name: axes.scatter([], [], marker=mark.shape, linewidth=1.6, clip_on=False) for name, mark in MARKS.items()
        }
        series = _SERIES[kind](length)
        keys = series.keys | _common_keys()
        for artist in [*strips.values(), *series.artists]:
            axes.add_artist(artist)
        for changing in [*strips.values(), *series.artists, *marks.values(), axes.yaxis]:
            changing.set_animated(True)
        canvas.draw()
        background = canvas.copy_from_bbox(figure.bbox)
    return _Sheet(canvas, axes, background, series, strips, marks, title, summary, y_label, keys, {})


@contextlib.contextmanager
def _own_style() -> Iterator[None]:
    """Use Matplotlib's default style inside the context, whatever style the user has set."""
    with mpl.rc_context():
        mpl.rcdefaults()
        yield


def _dress(axes: Axes, year: int) -> None:
    """Draw the frame, the grid, the months and the label of the x axis."""
    firsts = [dt.date(year, month, 1) for month in range(1, 13)] + [dt.date(year + 1, 1, 1)]
    edges = [(first - firsts[0]).days for first in firsts]
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.xaxis.set_major_locator(FixedLocator(edges))
    axes.xaxis.set_major_formatter(FixedFormatter([""] * len(edges)))
    axes.xaxis.set_minor_locator(FixedLocator([(start + end) / 2 for start, end in itertools.pairwise(edges)]))
    axes.xaxis.set_minor_formatter(FixedFormatter(MONTHS))
    axes.tick_params(axis="x", which="major", length=8, color=INK)
    axes.tick_params(axis="x", which="minor", length=0, labelsize=20, labelcolor=INK, pad=7)
    axes.tick_params(axis="y", length=0, labelsize=20, labelcolor=INK, pad=7, grid_color=GRID, grid_linewidth=1)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.grid(True)
    axes.yaxis.get_major_ticks(8)  # create the ticks now, in our style, instead of when a figure first needs them
    axes.set_xlabel(f"local date in {year}", fontsize=18, color=INK, labelpad=2)


def _common_keys() -> dict[str, Any]:
    """Return the legend handles that both kinds of figures use."""

    def dot(shape: str, size: float, fill: str, edge: str) -> Line2D:
        return Line2D([], [], ls="", marker=shape, markersize=size, markerfacecolor=fill, markeredgecolor=edge)

    marks = {name: dot(mark.shape, 14, mark.colour or STRONG, PAPER) for name, mark in MARKS.items()}
    levels = {name: dot("o", look.size_px - 2, look.fill, look.edge) for name, look in LEVELS.items()}
    strips = {label: Patch(linewidth=0, **look) for label, look in STRIPS.items()}
    return marks | levels | strips


def _show_legend(sheet: _Sheet, labels: dict[str, str]) -> None:
    """Draw the legend on the canvas, which must contain only the background. labels: the texts by key of the sheet."""
    texts = tuple(labels.values())
    pixels = sheet.legend_pixels.get(texts)
    if pixels:
        sheet.canvas.restore_region(pixels)
        return
    with _own_style():
        legend = Legend(
            sheet.axes,
            [sheet.keys[label] for label in labels],
            texts,
            loc="upper left",
            bbox_to_anchor=(_LEFT_PX, HEIGHT_PX - 46),
            bbox_transform=IdentityTransform(),
            ncols=len(labels),
            fontsize=18 if len(labels) < 9 else 15,  # nine entries are wider than the axes
            frameon=False,
            borderaxespad=0,
            borderpad=0,
            handlelength=1.1,
            handletextpad=0.4,
            columnspacing=0.9,
        )
    sheet.axes.draw_artist(legend)
    strip = Bbox([[0, _BOTTOM_PX + _TALL_PX + 4], [WIDTH_PX, HEIGHT_PX - 42]])
    sheet.legend_pixels[texts] = sheet.canvas.copy_from_bbox(strip)


def _png(rgba: Array) -> bytes:
    """Encode pixels of shape (height, width, 4) as a PNG with the colours of `_palette`, 40% of the size in RGB."""
    out = io.BytesIO()
    image = Image.fromarray(rgba).convert("RGB").quantize(palette=_palette(), dither=Image.Dither.NONE)
    image.save(out, "png", compress_level=6)
    return out.getvalue()


@functools.cache
def _palette() -> Image.Image:
    """Return a PIL image with the colours of the figures and 216 evenly spaced ones for anti-aliased edges."""
    marks = [MILD, STRONG, EXTREME, EARLY]
    solid = [PAPER, INK, GRID, DEPARTED, CANCELLED, EXPECTED, BAND, OBSERVED, NO_FLIGHTS, HATCH, NOT_JUDGED, *marks]
    colours = [*map(ImageColor.getrgb, solid), *itertools.product(range(0, 256, 51), repeat=3)]
    image = Image.new("P", (1, 1))
    image.putpalette(list(itertools.chain.from_iterable(colours)))
    return image
