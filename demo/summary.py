"""The output of a demo: number of flights, abnormal days, and where to find the results."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from demo import warehouse
from utils import detectors
from utils.reporting import pages
from utils.storage import keys
from utils.storage.lake import Lake

WORST = LARGEST = 5
PYTHON = ".venv/bin/python"


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _show(console: Console, title: str, grid: Table) -> None:
    console.print(f"\n[bold cyan]{title}[/]")
    console.print(Padding(grid, (0, 0, 0, 2)))


def _shown(path: Path) -> str:
    """Return the path relative to the clone."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _opener() -> str | None:
    """Return the command that opens a file on this desktop, or None without a desktop."""
    if platform.system() == "Darwin":
        return "open"
    has_screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return "xdg-open" if has_screen and shutil.which("xdg-open") else None


def _flagged(verdicts: pa.Table) -> int:
    return int(pc.sum(verdicts["is_anomaly"]).as_py() or 0)


def show_results(console: Console, source: Lake, year: int) -> None:
    """Print the year's figures from the lake: flights, airport-days, abnormal days per detector, events, worst days."""
    quality, days = source.read_quality(year), source.read_airport_days(year)
    verdicts = {name: source.read_anomalies(year, name) for name in source.detectors_with_verdicts(year)}
    published = verdicts[detectors.PUBLISHED]

    flights = _grid()
    for label, field in (
        ("read", "rows_read"),
        ("kept", "rows_kept"),
        ("duplicate", "rows_duplicate"),
        ("rejected", "rows_rejected"),
    ):
        flights.add_row(label, f"{quality[field]:>11,}")
    for warning in quality["warnings"]:
        flights.add_row("warning", warning)
    _show(console, f"Flights of {year}", flights)

    abnormal = _grid()
    for name in sorted(verdicts, key=lambda name: (name != detectors.PUBLISHED, name)):
        note = "  the published verdict" if name == detectors.PUBLISHED else ""
        abnormal.add_row(name, f"{_flagged(verdicts[name]):>5,}{note}")
    airports = pc.count_distinct(days["origin"]).as_py()
    _show(console, f"Abnormal among {days.num_rows:,} airport-days of {airports:,} airports, by detector", abnormal)

    events = _grid()
    largest = pages.largest_events(source.read_table(keys.explanation_key(year, "events")).to_pandas(), LARGEST)
    for number, name in enumerate(largest["name"], start=1):
        events.add_row(f"{number}", name)
    if events.row_count:
        _show(console, "Largest events", events)

    worst = _grid()
    judged = published.to_pandas(date_as_object=False)
    worst_days = pages.worst_days(days.to_pandas(date_as_object=False), judged, WORST)
    for number, sentence in enumerate(worst_days["sentence"], start=1):
        worst.add_row(f"{number}", sentence)
    is_judged = judged["status"] == "ok"
    none = "no day is abnormal" if is_judged.any() else "unknown, because every airport has too few days or flights"
    _show(console, "Worst days" if worst.row_count else f"Worst days: {none}", worst)


def show_places(console: Console, folder: Path, year: int) -> None:
    """Print the paths of plots, parquet, database and site, with a command that shows each; the site comes last."""
    root, opener = folder / "lake", _opener()
    site, plots, days = root / keys.site_key(), root / keys.plots_folder(year), root / keys.airport_days_key(year)
    where = "is_anomaly ORDER BY severity DESC, score DESC NULLS LAST LIMIT 5"
    query = f"SELECT id, sentence FROM flights.agg_dep_delay_by_date WHERE {where}"  # noqa: S608 # nosec B608 # two constants
    is_default = folder == Path(__file__).resolve().parent.parent / ".demo"
    psql = (
        "make demo-psql SQL="
        if is_default
        else f"PYTHONPATH=dags {PYTHON} -m demo psql --folder '{_shown(folder)}' -c "
    )
    places = (
        ("plots", plots, f"{opener} '{_shown(plots)}'" if opener else f"ls '{_shown(plots)}'/*"),
        ("parquet", days, f"{PYTHON} -c \"import pandas; print(pandas.read_parquet('{_shown(days)}'))\""),
        ("database", warehouse.data_folder(folder), f'{psql}"{query}"'),
        ("site", site, f"{opener} '{_shown(site)}'" if opener else site.as_uri()),
    )
    console.print("\n[bold cyan]Results[/]")
    for label, path, command in places:
        console.print(f"  [bold]{label:<10}[/]  {escape(_shown(path))}", soft_wrap=True)
        console.print(f"  {'':<10}  [green]{escape(command)}[/]", soft_wrap=True)


def show_changes(console: Console, changed: Sequence[str] | None) -> None:
    """Print what the run changed. changed: names of files and tables, None on a first run."""
    if changed is None:
        console.print("\nA second run changes nothing. Run the demo again to see the proof.")
    elif not changed:
        console.print(
            "\n[bold green]Nothing changed:[/] every file of silver, gold and plots has the same bytes as before this "
            "run, and Postgres did not write any row again. Only the record of the run is new."
        )
    else:
        tables = [name for name in changed if name.startswith("flights.")]
        names = [f"{len(changed) - len(tables):,} files of the lake", *tables]
        console.print(f"\n[bold]Changed[/] since the previous run: {', '.join(names)}.")
