"""Explain the flagged days of a full-size year: `attribution.explain` against plain pandas.

Run `python benchmarks/reasons.py --help` for the options. Both read the same silver from a lake in a folder and compute
the parts of every flagged day by carrier, destination and cause with their usual values; ours also checks the flights
against gold and writes the sentences. The numbers are compared before times are printed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "dags")]

from benchmarks.contest import Cost, cost, show
from benchmarks.refinery import YEAR, make_year
from utils.settings import Settings, cores

DETECTOR = "delaywatch"


def ours(settings: Settings, out: Path) -> None:
    """Explain the days as the pipeline does, on the lake's own silver, part by part."""
    import pandas as pd
    import pyarrow.parquet as pq

    from utils.analysis import attribution
    from utils.storage.lake import Lake

    lake = Lake(settings)
    days = lake.read_airport_days(YEAR).to_pandas(date_as_object=False)
    verdicts = lake.read_anomalies(YEAR, DETECTOR).to_pandas(date_as_object=False)
    # The expectations are part of the detector's cost; here they only appear in a sentence.
    expected = pd.DataFrame(dict.fromkeys(attribution.EXPECTED_COLUMNS, 10.0), index=days.index)
    _, factors = attribution.explain(lake.read_silver(YEAR, attribution.FLIGHT_COLUMNS), days, verdicts, expected)
    pq.write_table(factors, out)


def pandas(settings: Settings, out: Path) -> None:
    """Compute the parts from the whole year in one frame, grouped by day and name."""
    import pandas as pd

    from utils import schemas
    from utils.analysis import attribution
    from utils.storage.lake import Lake

    lake, key, measures = Lake(settings), ["origin", "fl_date"], ["delay_min", "cancelled"]
    days = lake.read_airport_days(YEAR).to_pandas(date_as_object=False)
    verdicts = lake.read_anomalies(YEAR, DETECTOR).to_pandas(date_as_object=False)
    flags = verdicts.loc[verdicts["is_anomaly"], key].assign(is_flagged=True)
    paths = [settings.lake.removeprefix("file://") + "/" + part for part in lake.silver_parts(YEAR)]
    flights = pd.concat([pd.read_parquet(path, columns=list(attribution.FLIGHT_COLUMNS)) for path in paths])
    for name in ("origin", "dest", "op_carrier"):
        flights[name] = flights[name].astype(str)
    flights["fl_date"] = pd.to_datetime(flights["fl_date"])
    flights["delay_min"] = flights["dep_delay"].clip(lower=0).fillna(0).where(~flights["cancelled"], 0)
    flights = flights.merge(flags, on=key, how="left")
    is_flagged = flights["is_flagged"].eq(True)
    ordinary, flagged = flights[~is_flagged], flights[is_flagged]
    rate = ordinary.groupby("origin")[measures].mean()
    frames = []
    for dimension, column in (("carrier", "op_carrier"), ("destination", "dest")):
        usual = ordinary.groupby(["origin", column])[measures].sum()
        usual["flights"] = ordinary.groupby(["origin", column]).size()
        parts = flagged.groupby([*key, column])[measures].sum()
        parts["scheduled"] = flagged.groupby([*key, column]).size()
        parts = parts.reset_index().merge(usual.reset_index(), on=["origin", column], how="left", suffixes=("", "_sum"))
        for measure in measures:
            prior = attribution.PRIOR_FLIGHTS * parts["origin"].map(rate[measure])
            usual_rate = (parts[f"{measure}_sum"].fillna(0) + prior) / (
                parts["flights"].fillna(0) + attribution.PRIOR_FLIGHTS
            )
            parts[f"excess_{measure}"] = parts[measure] - parts["scheduled"] * usual_rate
        if dimension == "destination":
            parts["weight"] = (parts["excess_delay_min"] + 120 * parts["excess_cancelled"]).abs()
            parts = (
                parts.sort_values(["weight", "dest"], ascending=[False, True])
                .groupby(key)
                .head(attribution.MAX_PARTS["destination"])
            )
        frames.append(parts.assign(dimension=dimension, name=parts[column]))
    days = days.merge(flags, on=key, how="left")
    is_flagged = days["is_flagged"].eq(True)
    sums = days[~is_flagged].groupby("origin").sum(numeric_only=True)
    for cause in schemas.CAUSES:
        parts = days.loc[is_flagged, [*key, "scheduled"]].assign(dimension="cause", name=cause)
        for measure, column in zip(measures, (f"{cause}_min", f"cancelled_{cause}"), strict=True):
            if column in days:
                usual_rate = parts["origin"].map(sums[column] / sums["scheduled"])
                parts[measure] = days.loc[is_flagged, column]
                parts[f"excess_{measure}"] = parts[measure] - parts["scheduled"] * usual_rate
        frames.append(parts)
    names = [*key, "dimension", "name", *measures, *(f"excess_{measure}" for measure in measures)]
    pd.concat(frames)[names].to_parquet(out)


CONTESTANTS = {"delaywatch": ours, "pandas": pandas}


def check_equal(first: Path, second: Path) -> int:
    """Return the number of parts. Raises AssertionError if the two results differ by more than rounding."""
    import numpy as np
    import pandas as pd

    key = ["origin", "fl_date", "dimension", "name"]
    frames = []
    for path in (first, second):
        frame = pd.read_parquet(path)
        frames.append(frame.assign(fl_date=pd.to_datetime(frame["fl_date"])).set_index(key).sort_index())
    assert frames[0].index.equals(frames[1].index)
    for name in ("delay_min", "cancelled", "excess_delay_min", "excess_cancelled"):
        mine, theirs = (frame[name].to_numpy(dtype=np.float64, na_value=np.nan) for frame in frames)
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-2, err_msg=name)
    return len(frames[0])


def settings_of(lake: Path) -> Settings:
    """Return the settings of a lake in a folder."""
    return Settings(lake=lake.as_uri(), warehouse="", threads=cores())


def main() -> None:
    """Print seconds, memory and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=7_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="medians are printed")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "delaywatch-bench")
    parser.add_argument("--run", nargs=3, metavar=("NAME", "LAKE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, lake, out = options.run
        CONTESTANTS[name](settings_of(Path(lake)), Path(out))
        return

    from utils.pipeline import detect, refine

    options.scratch.mkdir(parents=True, exist_ok=True)
    csv = make_year(options.scratch, options.rows)
    lake = Path(tempfile.mkdtemp(dir=options.scratch))
    try:
        (lake / "01_bronze").mkdir()
        os.link(csv, lake / "01_bronze" / f"{YEAR}.csv")
        settings = settings_of(lake)
        refine.write_silver(settings, YEAR)
        refine.write_gold(settings, YEAR)
        detect.write_anomalies(settings, YEAR, DETECTOR)
        out = {name: lake / f"{name}.parquet" for name in CONTESTANTS}
        costs: dict[str, list[Cost]] = {name: [] for name in CONTESTANTS}
        for _ in range(options.rounds):
            for name, rounds in costs.items():
                rounds.append(cost(__file__, name, lake, out[name]))
        parts = check_equal(*out.values())
    finally:
        shutil.rmtree(lake)
    print(f"{options.rows:,} flights, {parts:,} parts of flagged days, equal; medians of {options.rounds}")
    show(costs)


if __name__ == "__main__":
    main()
