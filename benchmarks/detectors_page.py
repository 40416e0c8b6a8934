"""The tables of benchmarks/detectors.py and their page, whose text is in detectors.md.j2."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from benchmarks import measurements, trials
from benchmarks.measurements import COLUMNS, HUBS, Bench, Result
from utils.detectors import NAMES, PUBLISHED
from utils.settings import cores
from utils.tuning import evaluation
from utils.tuning.evaluation import Estimate

TEMPLATE = Path(__file__).with_name("detectors.md.j2")
PACKAGES = ("numpy", "pandas", "scikit-learn", "pyod", "statsmodels")
BUDGETS = (5, 10, 20)  # a known day counts as found among this many worst days of an airport-year
NEAR = 1.15  # ratio to the best outsider below which the page reports a close outsider
LEVEL_SHIFT = "pandemic level shift"  # a kind of events.csv: a new level for weeks, not days

Results = Mapping[str, Result]


def summary(results: Results) -> str:
    """Return the printed tables: all detectors, the targets, the known days."""
    tables = [_main_table(results), _targets_table(results), _known_table(results)]
    return "\n\n".join(table for table in tables if table)


def page(results: Results, bench: Bench, took_s: float) -> str:
    """Return the text of benchmarks/detectors.md."""
    real = [trial for trial in bench.trials.values() if trial.truth is None]
    made = [trial for trial in bench.trials.values() if trial.truth is not None]
    words = {
        "published": PUBLISHED,
        "today": date.today().isoformat(),
        "minutes": f"{took_s / 60:.0f}",
        "cores": cores(),
        "processor": _processor(),
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "network": bench.network,
        "real": ", ".join(f"{trial.name} ({trial.airports})" for trial in real),
        "planted": ", ".join(f"{trial.name} ({trial.airports})" for trial in made),
        "planted_days": _per_airport(bench, "C planted"),
        "abnormal_days": _per_airport(bench, "C"),
        "half": trials.TUNED_HALF,
        "tuned_years": ", ".join(sorted(trials.TUNED)),
        "replicates": bench.replicates,
        "few": evaluation.FEW_AIRPORTS,
        "block_days": evaluation.BLOCK_DAYS,
        "budget": f"{evaluation.FLAGS_PER_YEAR:g}",
        "min_flights": evaluation.MIN_FLIGHTS,
        "hub_flights": evaluation.HUB_FLIGHTS,
        "tiny_flights": evaluation.TINY_FLIGHTS,
        "columns": COLUMNS,
        "main": _main_table(results),
        "tuned": _tuned_table(results),
        "targets": _targets_table(results),
        "ratios": _ratio_table(results),
        "near": _near(results),
        "agreement": _agreement_table(results),
        "sizes": {group: _size_table(results, group) for group in measurements.GROUPS},
        "kinds": _kind_table(results),
        "areas": _places_table(results, lambda result: result.by_area),
        "years": _places_table(results, lambda result: result.by_year),
        "known": _known_table(results),
        "ranks": _ranks_table(results),
        "known_days": int((bench.known["kind"] != LEVEL_SHIFT).sum()),
    }
    template = jinja2.Template(
        TEMPLATE.read_text(encoding="utf-8"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    return str(template.render(words))


def _per_airport(bench: Bench, ranking: str) -> str:
    """Return the number of abnormal days per airport in a synthetic year."""
    days = [
        task.labels["is_abnormal"].sum() / bench.trials[task.trial].airports for task in bench.tasks.get(ranking, ())
    ]
    return f"{np.mean(days):.1f}" if days else ""


def _cell(estimate: Estimate | None) -> str:
    """Format an estimate in percent with its interval: `46.2 (44-48)`."""
    if estimate is None or np.isnan(estimate.value):
        return "-"
    return f"{100 * estimate.value:.1f} ({100 * estimate.low:.0f}-{100 * estimate.high:.0f})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, padded to be readable as text: first column left-aligned, the others right-aligned."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    rule = [":" + "-" * (width - 1) if not place else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    padded = [
        [text.rjust(width) if place else text.ljust(width) for place, (text, width) in enumerate(zip(line, widths))]  # noqa: B905
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]])


def _best(results: Results, names: Iterable[str], value: Callable[[Result], Estimate | None]) -> str | None:
    """Return the name with the highest value, or None without values."""
    known = {
        name: estimate.value for name in names if (estimate := value(results[name])) and not np.isnan(estimate.value)
    }
    return max(known, key=known.__getitem__) if known else None


def _tuned_table(results: Results) -> str:
    """Return the columns of the main table on the data that our own detector was tuned on."""
    titles = [column.title for column in COLUMNS if any(column.title in result.tuned for result in results.values())]
    rows = [[name, *(_cell(result.tuned.get(title)) for title in titles)] for name, result in results.items()]
    return _table(["", *titles], rows) if titles else ""


def _main_table(results: Results) -> str:
    """Return the table of all detectors, with the ratio of the published detector to the best other in each column."""
    rows = [
        [name, *(_cell(result.main.get(column.title)) for column in COLUMNS), _storms(result), f"{result.cpu_s:.2f}"]
        for name, result in results.items()
    ]
    others = [name for name in results if name != PUBLISHED]
    if PUBLISHED in results and others:
        ratios = [_ratio(results, column.title, others)[0] for column in COLUMNS]
        shown = [f"{ratio.value:.2f} x" if ratio else "-" for ratio in ratios]
        rows.append([f"**{PUBLISHED} / best other**", *shown, "", ""])
    return _table(["", *(column.title for column in COLUMNS), "C storms", "CPU s"], rows)


def _ratio(results: Results, title: str, names: Sequence[str]) -> tuple[Estimate | None, str]:
    """Return the ratio of the published detector to the best of `names` in a column, and the name of the best."""
    best = _best(results, names, lambda result: result.main.get(title))
    ours = results[PUBLISHED].main.get(title)
    return (ours.ratio(results[best].main[title]), best) if best and ours else (None, "")


def _storms(result: Result) -> str:
    seen, planted = result.storms
    return f"{seen} of {planted}" if planted else "-"


def _others_of_ours(results: Results) -> list[str]:
    return [name for name in results if name in NAMES and name != PUBLISHED]


def _ratio_table(results: Results) -> str:
    """Return the ratios of the published detector to the best of each group of others, with paired intervals."""
    if PUBLISHED not in results:
        return ""
    outsiders = [name for name in results if name not in NAMES]
    groups = {
        "best other of ours": _others_of_ours(results),
        "best outsider on the mean delay": [name for name in outsiders if name.endswith("mean delay")],
        "best outsider on more columns": [name for name in outsiders if not name.endswith("mean delay")],
    }
    rows = []
    for column in COLUMNS:
        ratios = [_ratio(results, column.title, names) for names in groups.values()]
        if any(ratio for ratio, _ in ratios):
            rows.append([column.title, *(f"{ratio} {name}" if ratio else "-" for ratio, name in ratios)])
    return _table(["", *groups], rows) if rows else ""


def _near(results: Results) -> list[str]:
    """Return one sentence for each column in which the best outsider with our detector's columns reaches NEAR."""
    outsiders = [name for name in results if name not in NAMES and not name.endswith("mean delay")]
    sentences = []
    for column in COLUMNS if PUBLISHED in results else ():
        ratio, best = _ratio(results, column.title, outsiders)
        if ratio and not ratio.value >= NEAR:
            ours, theirs = (_cell(results[name].main[column.title]) for name in (PUBLISHED, best))
            caveat = "" if ratio.low > 1 else "; the bracket of the ratio contains 1, so the difference may be chance"
            sentences.append(f"`{column.title}`: {best} has {theirs}, {PUBLISHED} {ours}{caveat}.")
    return sentences


def _agreement_table(results: Results) -> str:
    """Return the shares of flags on all real days that two detectors share; symmetric, as both set as many."""
    ours = [name for name in results if name in NAMES]
    if any(results[name].flagged.empty for name in results):
        return ""
    rows = [
        [name, *("" if name == other else _shared(results[name].flagged, results[other].flagged) for other in ours)]
        for name in results
    ]
    return _table(["", *ours], rows)


def _shared(one: pd.DataFrame, other: pd.DataFrame) -> str:
    return f"{100 * float(evaluation.precision(evaluation.confirmed(one, other))):.0f}"


def _targets_table(results: Results) -> str:
    """Return the targets of the published detector, its results, and whether they reach the targets."""
    if PUBLISHED not in results:
        return ""
    ours = results[PUBLISHED]
    rows: list[list[str]] = []

    def add(target: str, measured: str, *, is_met: bool) -> None:
        rows.append([target, measured, "met" if is_met else "missed"])

    for title in ("A ap network", "A ap"):
        ratio, best = _ratio(results, title, _others_of_ours(results))
        if ratio:
            add(f"{title} 1.7 times the best other of ours", f"{ratio} {best}", is_met=ratio.value >= 1.7)
    if precision := ours.main.get("C prec"):
        add("C precision 70%", _cell(precision), is_met=precision.value >= 0.7)
        add("9 of 10 planted storms", _storms(ours), is_met=ours.storms[0] >= 0.9 * ours.storms[1])
    theirs = results["three_sigma"].by_area if "three_sigma" in results else {}
    more = {area: ours.by_area[area].value - theirs[area].value for area in theirs if area.endswith(HUBS)}
    if more:
        lowest = min(more, key=more.__getitem__)
        below = sum(points < 0 for points in more.values())
        area = lowest.removesuffix(HUBS)
        shown = f"{below} of {len(more)} below; smallest difference {100 * more[lowest]:+.1f} at {area}"
        add("B ap not below three_sigma in areas of hubs", shown, is_met=not below)
    add("0.5 s CPU for a national year", f"{ours.cpu_s:.2f} s", is_met=ours.cpu_s <= 0.5)
    return _table(["target", "measured", ""], rows)


def _size_table(results: Results, group: str) -> str:
    titles = [column.title for column in COLUMNS if not column.ranking.startswith("B")]
    rows = [
        [name, *(_cell(result.by_size.get((group, title))) for title in titles)] for name, result in results.items()
    ]
    return _table(["", *titles], rows)


def _kind_table(results: Results) -> str:
    """Return the flagged share of each kind of planted day."""
    known = (*evaluation.PLANTED, evaluation.BACKGROUND)
    kinds = [kind for kind in known if any(kind in result.by_kind for result in results.values())]
    rows = [[name, *(_cell(result.by_kind.get(kind)) for kind in kinds)] for name, result in results.items()]
    return _table(["", *kinds], rows) if kinds else ""


def _places_table(results: Results, values: Callable[[Result], Mapping[str, Estimate]]) -> str:
    """Return one row per area or year: our detectors, and the best outsider by name."""
    ours = [name for name in results if name in NAMES]
    outsiders = [name for name in results if name not in NAMES]
    rows = []
    for place in values(next(iter(results.values()))):
        best = _best(results, outsiders, lambda result, place=place: values(result).get(place))  # type: ignore[misc]
        shown = f"{_cell(values(results[best])[place])} {best}" if best else "-"
        rows.append([place, *(_cell(values(results[name]).get(place)) for name in ours), shown])
    return _table(["", *ours, "best outsider"], rows) if rows else ""


def _is_within(known: pd.DataFrame, budget: int) -> pd.Series:
    """Return whether the rank is among the first `budget` for each year of the airport's days, rounded up."""
    is_within: pd.Series = known["rank"] <= np.ceil(budget * known["days"] / evaluation.DAYS_PER_YEAR)
    return is_within


def _known_table(results: Results) -> str:
    """Return how many of the known days are among the worst of their airport."""
    if next(iter(results.values())).known.empty:
        return ""
    rows = []
    for name, result in results.items():
        is_shift, is_sure = result.known["kind"] == LEVEL_SHIFT, result.known["sure"] == "high"
        known, sure, shift = result.known[~is_shift], result.known[~is_shift & is_sure], result.known[is_shift]
        shares = [(part, budget) for part in (known, sure) for budget in BUDGETS] + [(shift, BUDGETS[-1])]
        shares_found = [f"{_is_within(part, budget).mean():.0%}" if len(part) else "-" for part, budget in shares]
        rows.append([name, *shares_found, f"{known['rank'].median():.0f}" if len(known) else "-"])
    head = [f"{words} in {budget}" for words in ("all", "sure") for budget in BUDGETS]
    return _table(["known days", *head, f"level shift in {BUDGETS[-1]}", "median rank"], rows)


def _ranks_table(results: Results) -> str:
    """Return each known day of each airport with its rank by each of our detectors."""
    ours = [name for name in results if name in NAMES]
    known = results[ours[0]].known if ours else pd.DataFrame()
    if known.empty:
        return ""
    shown = {name: _shown_ranks(results[name].known) for name in ours}
    rows = [
        [f"{day.trial} {day.fl_date:%Y-%m-%d} {day.origin}", *(shown[name][place] for name in ours)]
        for place, day in enumerate(known.itertuples())
    ]
    return _table(["", *ours], sorted(rows))


def _shown_ranks(known: pd.DataFrame) -> list[str]:
    ranks = known["rank"].astype(int).astype(str)
    return list(np.where(_is_within(known, BUDGETS[0]), "**" + ranks + "**", ranks))


def _processor() -> str:
    """Return the processor's name, if the system has it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
