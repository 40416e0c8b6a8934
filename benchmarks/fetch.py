"""Convert one month of the Bureau's zip to the columns of bronze: `bts.write_csv` against plain pandas.

Run `python benchmarks/fetch.py --help` for the options. Both read the same zip of 109 columns and write the same CSV,
whose bytes are compared before times are printed. No network is used.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "dags")]

from benchmarks.contest import Cost, cost, show

YEAR, MONTH = 2015, 7
DISTINCT = 20_000  # distinct flights; repeating them does not affect the time of reading and writing text


def make_month(to: Path, flights: int) -> None:
    """Write a zip in the Bureau's layout with at least `flights` flights of July 2015."""
    from tests.builders import flight
    from tests.servers.bureau import month_csv, zip_of

    rows = [
        flight(FL_DATE=f"{YEAR}-{MONTH:02}-{n % 31 + 1:02}", OP_CARRIER_FL_NUM=str(n % 9000 + 1))
        for n in range(DISTINCT)
    ]
    header, _, lines = month_csv(rows).partition(b"\n")
    to.write_bytes(zip_of(header + b"\n" + lines * -(-flights // DISTINCT)))


def ours(package: Path, out: Path) -> None:
    """Convert the months as `python -m utils fetch` does after the download."""
    from utils.sources import bts
    from utils.sources.download import File, Version

    bts.write_csv({MONTH: File(package, package.as_uri(), Version(), package.stat().st_size, sha256="")}, YEAR, out)


def pandas(package: Path, out: Path) -> None:
    """Convert the month as one frame of text."""
    import csv
    import zipfile

    import pandas as pd

    from utils import schemas
    from utils.sources import bts

    with zipfile.ZipFile(package) as archive, archive.open(archive.namelist()[0]) as text:
        frame = pd.read_csv(text, usecols=list(bts.COLUMNS.values()), dtype=str, keep_default_na=False)
    frame = frame[list(bts.COLUMNS.values())].set_axis(list(bts.COLUMNS), axis=1)
    frame[schemas.EMPTY_COLUMN] = ""
    frame.to_csv(out, index=False, quoting=csv.QUOTE_NONE)


CONTESTANTS = {"delaywatch": ours, "pandas": pandas}


def main() -> None:
    """Print seconds, memory and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flights", type=int, default=600_000, help="of the month; a busy one has so many")
    parser.add_argument("--rounds", type=int, default=3, help="medians are printed")
    parser.add_argument("--run", nargs=3, metavar=("NAME", "ZIP", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, package, out = options.run
        CONTESTANTS[name](Path(package), Path(out))
        return

    folder = Path(tempfile.mkdtemp(prefix="delaywatch-bench-"))
    try:
        package = folder / "month.zip"
        # In a process of its own, because a child's peak memory starts at the size of its parent.
        maker = multiprocessing.get_context("spawn").Process(target=make_month, args=(package, options.flights))
        maker.start()
        maker.join()
        out = {name: folder / f"{name}.csv" for name in CONTESTANTS}
        costs: dict[str, list[Cost]] = {name: [] for name in CONTESTANTS}
        for _ in range(options.rounds):
            for name, rounds in costs.items():
                rounds.append(cost(__file__, name, package, out[name]))
        written = [path.read_bytes() for path in out.values()]
        assert written[0] == written[1], "the two wrote different files"
        lines = written[0].count(b"\n") - 1
    finally:
        shutil.rmtree(folder)
    print(f"{lines:,} flights, equal files of {len(written[0]) / 1e6:,.0f} MB; medians of {options.rounds}")
    show(costs)


if __name__ == "__main__":
    main()
