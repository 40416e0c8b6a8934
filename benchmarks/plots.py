"""660 figures of a year: `plots.render_year` on all cores against one plain pyplot figure after the other.

    python benchmarks/plots.py [--plots 660] [--sample 24] [--workers N]

Both draw the same made-up airports in one run; pyplot draws a sample, and its time is scaled to all figures.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import psutil
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "dags"))

from utils.reporting import plots

YEAR = 2018


def made_up_year(airports: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return days and verdicts of `airports` airports of all sizes, as the figures need; a tenth fly in summer only."""
    random = np.random.default_rng(2)
    dates = pd.date_range(f"{YEAR}-01-01", f"{YEAR}-12-31")
    days, verdicts = [], []
    for number in range(airports):
        shown = dates[150:260] if number % 10 == 9 else dates
        scheduled = random.poisson(1000 * 0.985**number + 2, len(shown))
        bad = random.random(len(shown)) < 0.03
        cancelled = random.binomial(scheduled, np.where(bad, 0.3, 0.015))
        delay = random.gamma(2, 5, len(shown)) + np.where(bad, random.uniform(20, 90, len(shown)), 0) - 2
        judged = scheduled >= 5
        key = {"origin": f"{number:03d}", "fl_date": shown}
        days.append(pd.DataFrame(key | {"scheduled": scheduled, "cancelled": cancelled}))
        flagged = bad & judged
        direction = pd.Series(np.where(cancelled > 0.3 * scheduled, "closure", "late"), dtype=object)
        verdicts.append(
            pd.DataFrame(
                key
                | {
                    "metric": "mean_effective_delay_min",
                    "observed": np.where(scheduled > 0, delay, np.nan),
                    "expected": np.where(judged, 8 + 3 * np.sin(np.arange(len(shown)) / 20), np.nan),
                    "lower": np.where(judged, -6, np.nan),
                    "upper": np.where(judged, 24 + 30 / np.sqrt(scheduled + 1), np.nan),
                    "is_anomaly": flagged,
                    "direction": direction.where(flagged, None),
                    "severity": np.where(flagged, random.integers(1, 4, len(shown)), 0),
                    "status": np.where(judged, "ok", np.where(scheduled > 0, "insufficient_data", "no_flights")),
                }
            )
        )
    return pd.concat(days, ignore_index=True), pd.concat(verdicts, ignore_index=True)


def naive_flights(days: pd.DataFrame, verdicts: pd.DataFrame) -> bytes:
    """Draw the bars with plain pyplot."""
    figure, axes = plt.subplots(figsize=(12, 4.5), dpi=100)
    axes.bar(days["fl_date"], days["scheduled"], color=np.where(verdicts["is_anomaly"], "tab:red", "tab:blue"))
    return _naive_png(figure, axes, f"{days['origin'].iloc[0]} {YEAR}", "flights per day")


def naive_delay(days: pd.DataFrame, verdicts: pd.DataFrame) -> bytes:
    """Draw the lines with plain pyplot."""
    figure, axes = plt.subplots(figsize=(12, 4.5), dpi=100)
    axes.fill_between(verdicts["fl_date"], verdicts["lower"], verdicts["upper"], alpha=0.3, label="usual range")
    axes.plot(verdicts["fl_date"], verdicts["observed"], label="observed")
    axes.plot(verdicts["fl_date"], verdicts["expected"], label="expected")
    bad = verdicts[verdicts["is_anomaly"]]
    axes.scatter(bad["fl_date"], bad["observed"], color="tab:red", zorder=3, label="abnormal")
    axes.legend()
    return _naive_png(figure, axes, f"{days['origin'].iloc[0]} {YEAR}", "minutes")


def _naive_png(figure: Figure, axes: Axes, title: str, label: str) -> bytes:
    axes.set_title(title)
    axes.set_ylabel(label)
    out = io.BytesIO()
    figure.savefig(out)
    plt.close(figure)
    return out.getvalue()


def main() -> None:
    """Print time per figure, ratio, size and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plots", type=int, default=660)
    parser.add_argument("--sample", type=int, default=24, help="figures that pyplot draws")
    parser.add_argument("--workers", type=int, default=psutil.cpu_count() or 1)
    options = parser.parse_args()
    plt.switch_backend("agg")
    days, verdicts = made_up_year(options.plots // 2)
    process = psutil.Process()

    by_origin = dict(iter(days.groupby("origin"))), dict(iter(verdicts.groupby("origin")))
    chosen = list(by_origin[0])[:: max(1, len(by_origin[0]) * 2 // options.sample)]
    naive_flights(by_origin[0][chosen[0]], by_origin[1][chosen[0]])  # load imports and fonts
    took = []
    for origin in chosen:
        for draw in (naive_flights, naive_delay):
            start = time.perf_counter()
            draw(by_origin[0][origin], by_origin[1][origin])
            took.append(time.perf_counter() - start)
    naive_ms = 1000 * statistics.fmean(took)

    before = process.memory_info().rss
    start, cpu = time.perf_counter(), os.times()
    sizes, children, own = [], [], []
    tenth = max(1, options.plots // 10)
    for number, (_, _, png) in enumerate(plots.render_year(days, verdicts, YEAR, options.workers)):
        sizes.append(len(png))
        if number % tenth == tenth - 1:
            own.append(process.memory_info().rss)
            children.append(max((child.memory_info().rss for child in process.children()), default=0))
    wall = time.perf_counter() - start
    used = sum(after - before for after, before in zip(os.times()[:4], cpu[:4], strict=True))
    ours_ms = 1000 * wall / len(sizes)
    mib = 1 << 20
    median, largest = statistics.median(sizes) / 1024, max(sizes) / 1024
    print(f"{len(sizes)} figures, {options.workers} workers: {wall:.1f} s wall, {used:.1f} s CPU, their start included")
    print(
        f"pyplot      {naive_ms:7.1f} ms a figure (mean of {len(took)}; {naive_ms * len(sizes) / 1000:.0f} s for all)"
    )
    print(f"render_year {ours_ms:7.1f} ms a figure")
    print(f"ratio       {ours_ms / naive_ms:7.3f}  (target 0.25)")
    print(f"size        {median:7.1f} KiB median, {largest:.1f} KiB largest (target 60)")
    print(
        f"own memory  {before / mib:7.0f} MiB before, {own[0] / mib:.0f} after a tenth, {own[-1] / mib:.0f} at the end"
    )
    print(f"a worker    {children[0] / mib:7.0f} MiB after a tenth, {children[-1] / mib:.0f} at the end")


if __name__ == "__main__":
    main()
