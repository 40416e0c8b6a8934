"""The tables and pictures of the benchmark, and their page: results.md.j2 has the text."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.detection import data, measures
from benchmarks.detection.contestants import OURS, PACKAGE, Contestant
from benchmarks.detection.data import Year
from benchmarks.detection.measures import FEW, MEASURES, PERIODS_DAYS, PLANTED, WIDE, Measure, Result
from utils.detectors import PUBLISHED
from utils.reporting import palette
from utils.tuning import metrics, pictures
from utils.tuning.metrics import Estimate

NAME = "results.md"
TEMPLATE = Path(__file__).with_name("results.md.j2")
DRAWN = {  # in the picture of precision and recall, with its colour
    PUBLISHED: palette.EXPECTED,
    "signed three sigma, effective delay": palette.INK,
    "signed three sigma, mean delay": "#999999",
    "PyOD IForest, four columns": "#D55E00",
    "PyOD HBOS, four columns": "#E69F00",
    "STL residual, effective delay": "#009E73",
    "AutoARIMA, effective delay": "#CC79A7",
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
PIXELS_PER_INCH = 90


@dataclass(frozen=True)
class Facts:
    """All that the page shows."""

    contestants: Mapping[str, Contestant]
    results: Mapping[str, Result]
    cpu_s: Mapping[str, float]  # for a national year
    years: Sequence[Year]
    known_days: int
    replicates: int


def summary(facts: Facts) -> str:
    """Return the printed tables."""
    return "\n\n".join(filter(None, [_main_table(facts), _values_table(facts), _own_table(facts)]))


def write(facts: Facts, folder: Path) -> None:
    """Write results.md and its pictures."""
    figures = {
        "precision-recall": _draw_curves(facts),
        "return-periods": _draw_periods(facts),
        "agreement": _draw_agreement(facts),
    }
    drawn = {name: figure for name, figure in figures.items() if figure}
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=PIXELS_PER_INCH, metadata={"Software": None})
    packages = sorted({"numpy", "pandas"}.union(*(each.packages for each in facts.contestants.values())))
    words = {
        "published": PUBLISHED,
        "today": date.today().isoformat(),
        "versions": ", ".join(f"{name} {version(name)}" for name in packages),
        "python": platform.python_version(),
        "years": {group: _years(facts, group) for group in (WIDE, FEW, PLANTED)},
        "tuned": sorted(year.name for year in facts.years if data.is_tuned(year.name)),
        "known_days": facts.known_days,
        "replicates": facts.replicates,
        "few_airports": metrics.FEW_AIRPORTS,
        "block_days": metrics.BLOCK_DAYS,
        "budget": f"{metrics.FLAGS_PER_YEAR:g}",
        "closed_share": f"{measures.CLOSED_SHARE:.0%}",
        "closed_flights": measures.CLOSED_FLIGHTS,
        "main": _main_table(facts),
        "values": _values_table(facts),
        "own": _own_table(facts),
        "periods": _periods_table(facts),
        "pictures": list(drawn),
        "contestants": {name: each.about for name, each in facts.contestants.items()},
    }
    template = jinja2.Template(
        TEMPLATE.read_text(encoding="utf-8"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    (folder / NAME).write_text(template.render(words), encoding="utf-8")


def _years(facts: Facts, group: str) -> str:
    """Return the reported years of a group with their number of airports."""
    years = [year for year in facts.years if measures.group_of(year) == group and not data.is_tuned(year.name)]
    return ", ".join(f"{year.name} ({year.airports})" for year in years)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table: columns with a heading are right-aligned, the others left. Empty without rows."""
    lines = [" | ".join(row) for row in rows]
    rule = " | ".join("--:" if name else ":--" for name in head)
    return "\n".join(f"| {line} |" for line in [" | ".join(head), rule, *lines]) if lines else ""


def _percent(estimate: Estimate | None) -> str:
    return "-" if estimate is None or np.isnan(estimate.value) else f"{100 * estimate.value:.1f}"


def _measured(facts: Facts) -> list[Measure]:
    """Return the measures for which there are years."""
    return [
        measure
        for measure in MEASURES
        if any((measure.years, measure.title) in result.estimates for result in facts.results.values())
    ]


def _main_table(facts: Facts) -> str:
    """Return the published detector against the best of other packages, and against three sigma on the same series."""
    packages = [name for name, each in facts.contestants.items() if each.group == PACKAGE]
    rows = []
    for number, measure in enumerate(_measured(facts), start=1):
        estimates = {name: result.estimates[measure.years, measure.title] for name, result in facts.results.items()}
        known = {name: estimates[name].value for name in packages if not np.isnan(estimates[name].value)}
        best = max(known, key=known.__getitem__, default="")
        cells = [_against(estimates, best), _against(estimates, measure.reference)]
        shown = [_percent(estimates.get(PUBLISHED)), f"{cells[0][0]} {best}", cells[0][1], *cells[1]]
        rows.append([str(number), f"{measure.years}: {measure.title}", *shown])
    head = ["", "", PUBLISHED, "best of other packages", "ratio", "signed three sigma, same series", "ratio"]
    return _table(head, rows)


def _against(estimates: Mapping[str, Estimate], name: str) -> tuple[str, str]:
    """Return the value of a contestant, and the ratio of the published detector to it."""
    if name not in estimates or PUBLISHED not in estimates:
        return _percent(estimates.get(name)), "-"
    ratio = estimates[PUBLISHED].ratio(estimates[name])
    return _percent(estimates[name]), f"{ratio.value:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"


def _values_table(facts: Facts) -> str:
    """Return all contestants in all measures, marked against the published detector."""
    numbered = _measured(facts)
    rows = [
        [
            name,
            *(_marked(facts, result, measure) for measure in numbered),
            f"{result.storms[0]} of {result.storms[1]}" if result.storms[1] else "-",
            f"{facts.cpu_s[name]:.2f}",
        ]
        for name, result in facts.results.items()
    ]
    return _table(["", *(str(number) for number, _ in enumerate(numbered, start=1)), "storms", "CPU s"], rows)


def _marked(facts: Facts, result: Result, measure: Measure) -> str:
    """Return a value: bold if it is better than the published detector's, with * if that may be chance."""
    estimate = result.estimates[measure.years, measure.title]
    ours = facts.results.get(PUBLISHED)
    if ours is None or ours is result or np.isnan(estimate.value):
        return _percent(estimate)
    ratio = estimate.ratio(ours.estimates[measure.years, measure.title])
    if ratio.low > 1:
        return f"**{_percent(estimate)}**"
    return _percent(estimate) + "\\*" * bool(ratio.high >= 1)


def _own_table(facts: Facts) -> str:
    """Return the flags that each of our detectors sets by its own levels."""

    def share(pair: tuple[int, int]) -> str:
        return f"{pair[0]} of {pair[1]}" if pair[1] else "-"

    rows = [
        [
            f"{group}: {name}",
            f"{own.flags_per_year:.1f}",
            share(own.closures),
            share(own.known),
            f"{own.confirmed[0] / own.confirmed[1]:.0%} of {own.confirmed[1]:,}" if own.confirmed[1] else "-",
        ]
        for group in (WIDE, FEW)
        for name, result in facts.results.items()
        if (own := result.own.get(group))
    ]
    return _table(["", "flags per airport-year", "closures", "known visible days", "confirmed"], rows)


def _periods_table(facts: Facts) -> str:
    """Return how often each stated return period occurs, in days, with its interval."""
    rows = [
        [f"{name}, {group}", *(_every(shares[days]) for days in PERIODS_DAYS)]
        for name, result in facts.results.items()
        for group, shares in result.periods.items()
    ]
    return _table(["", *map(str, PERIODS_DAYS)], rows)


def _every(share: Estimate) -> str:
    """Return the days in which an event with this share of days occurs once."""
    low, value, high = (1 / each if each > 0 else np.inf for each in (share.high, share.value, share.low))
    shown = [f"{each:,.0f}" if np.isfinite(each) else "never" for each in (value, low, high)]
    return f"{shown[0]} ({shown[1]}-{shown[2]})"


def _draw_curves(facts: Facts) -> Figure | None:
    """Draw precision against recall of the contestants in DRAWN, one panel per group of years."""
    titles = {
        WIDE: "Bad in the other half of the flights:\nmany airports ranked together",
        FEW: "The same: years of few airports",
        PLANTED: "Planted bad days",
    }
    shown = {name: result for name, result in facts.results.items() if name in DRAWN}
    groups = [group for group in titles if any(group in result.curves for result in shown.values())]
    if not groups:
        return None
    figure = Figure(figsize=(4.4 * len(groups) + 0.6, 5.2), layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, group in zip(panels, groups, strict=True):
        curves = {name: result.curves[group] for name, result in shown.items()}
        pictures.precision_recall(axes, curves, DRAWN, PUBLISHED, titles[group])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw_periods(facts: Facts) -> Figure | None:
    """Draw observed against stated return periods with their intervals, one panel per contestant."""
    shown = {name: result.periods for name, result in facts.results.items() if result.periods}
    if not shown:
        return None
    figure = Figure(figsize=(4.6 * len(shown), 4.4), layout="constrained")
    for axes, (name, groups) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        axes.plot(PERIODS_DAYS, PERIODS_DAYS, color=palette.INK, lw=1, ls="--", label="perfect")
        for number, (group, shares) in enumerate(groups.items()):
            stated = np.array([days for days in PERIODS_DAYS if shares[days].low > 0]) * 1.04 ** (number - 1)
            every = np.array(
                [
                    [1 / each for each in (share.value, share.high, share.low)]
                    for share in shares.values()
                    if share.low > 0
                ]
            )
            if len(stated):
                reach = [every[:, 0] - every[:, 1], every[:, 2] - every[:, 0]]
                axes.errorbar(stated, every[:, 0], reach, fmt="o-", capsize=3, color=COLOURS[number], label=group)
        axes.set(xscale="log", yscale="log", title=name, xlabel="stated: once in this many days")
        axes.set_xticks(PERIODS_DAYS, list(map(str, PERIODS_DAYS)))
        axes.set_yticks([*PERIODS_DAYS, 3000, 10000], [f"{days:,}" for days in (*PERIODS_DAYS, 3000, 10000)])
        axes.set_ylim(5, 20_000)
        axes.minorticks_off()
        axes.grid(color=palette.GRID)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("observed: once in this many days")
    figure.axes[0].legend(frameon=False)
    return figure


def _draw_agreement(facts: Facts) -> Figure | None:
    """Draw the share of each contestant's flags (rows) that our detectors (columns) set too."""
    flagged = {name: result.flagged for name, result in facts.results.items() if not result.flagged.empty}
    if len(flagged) < 2:
        return None
    ours = [name for name in flagged if facts.contestants[name].group == OURS]
    columns = ours or list(flagged)
    share = pd.DataFrame(
        {
            column: {row: float(metrics.precision(metrics.confirmed(flagged[row], flagged[column]))) for row in flagged}
            for column in columns
        }
    )
    figure = Figure(figsize=(2.6 + 0.95 * len(columns), 1.7 + 0.32 * len(flagged)), layout="constrained")
    text = share.map(lambda value: f"{100 * value:.0f}")
    title = "Flags that both set, %"
    pictures.shared_flags(figure.subplots(), share, text, title)
    return figure
