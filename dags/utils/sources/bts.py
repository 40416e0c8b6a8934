"""Get the monthly on-time zips of the Bureau of Transportation Statistics and write the year's CSV from them.

Each zip contains a CSV of 109 named columns and a readme. Months come from the Bureau's server or from a folder, where
they are recognised by content, not by file name. `download` transfers files; `fetch` writes into bronze.
"""

from __future__ import annotations

import calendar
import csv
import hashlib
import logging
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from utils import schemas
from utils.errors import DelaywatchError, InvalidInput, Missing, Unavailable, cannot_read
from utils.reporting import wording
from utils.sources import archive
from utils.sources.download import Client, File, Progress, Version

FIRST_MONTH = (1987, 10)
PUBLISHED_WITHIN_DAYS = 183  # after the end of a month; later, waiting does not help
BLOCK_BYTES = 1 << 19  # per parse step of Arrow, which reads up to 32 blocks ahead
MAX_LISTED = 5  # skipped files named in an error
NAME = "On_Time_Reporting_Carrier_On_Time_Performance_1987_present_{year}_{month}.zip"  # month without leading zero

# Bronze column: column in the zips. Kaggle's names are those of the Bureau's download form, in which OP_CARRIER is the
# IATA code. Reporting_Airline is OP_UNIQUE_CARRIER, which numbers carriers whose code was reused later: "PA (1)".
COLUMNS: Mapping[str, str] = {
    "FL_DATE": "FlightDate",
    "OP_CARRIER": "IATA_CODE_Reporting_Airline",
    "OP_CARRIER_FL_NUM": "Flight_Number_Reporting_Airline",
    "ORIGIN": "Origin",
    "DEST": "Dest",
    "CRS_DEP_TIME": "CRSDepTime",
    "DEP_TIME": "DepTime",
    "DEP_DELAY": "DepDelay",
    "TAXI_OUT": "TaxiOut",
    "WHEELS_OFF": "WheelsOff",
    "WHEELS_ON": "WheelsOn",
    "TAXI_IN": "TaxiIn",
    "CRS_ARR_TIME": "CRSArrTime",
    "ARR_TIME": "ArrTime",
    "ARR_DELAY": "ArrDelay",
    "CANCELLED": "Cancelled",
    "CANCELLATION_CODE": "CancellationCode",
    "DIVERTED": "Diverted",
    "CRS_ELAPSED_TIME": "CRSElapsedTime",
    "ACTUAL_ELAPSED_TIME": "ActualElapsedTime",
    "AIR_TIME": "AirTime",
    "DISTANCE": "Distance",
    "CARRIER_DELAY": "CarrierDelay",
    "WEATHER_DELAY": "WeatherDelay",
    "NAS_DELAY": "NASDelay",
    "SECURITY_DELAY": "SecurityDelay",
    "LATE_AIRCRAFT_DELAY": "LateAircraftDelay",
}
_BRONZE = pa.schema([(name, pa.string()) for name in (*COLUMNS, schemas.EMPTY_COLUMN)])

log = logging.getLogger(__name__)


def months(year: int) -> list[int]:
    """Return the months of the year in the Bureau's data, ascending: all, except in 1987."""
    return [month for month in range(1, 13) if (year, month) >= FIRST_MONTH]


def month_names(year: int, numbers: Sequence[int]) -> str:
    """Return the months in words: "March 2026 and May 2026"."""
    return wording.listed([f"{calendar.month_name[month]} {year}" for month in numbers])


def month_url(base: str, year: int, month: int) -> str:
    """Return the URL of the month's zip below `base`."""
    return f"{base}/{NAME.format(year=year, month=month)}"


def download(
    client: Client,
    base: str,
    year: int,
    folder: Path,
    *,
    so_far: bool,
    today: date,
    progress: Progress | None = None,
) -> dict[int, File]:
    """Download the zips of the year into `folder`, check their CRC and return them by month, ascending.

    The last month is requested first: if it is not published yet, no other request is sent. Raises Missing for a
    missing month; with so_far, only if no month is published.
    """
    files: dict[int, File] = {}
    for month in reversed(months(year)):
        url = month_url(base, year, month)

        def check(path: Path, url: str = url) -> None:
            with open_month(path, url, Unavailable) as text:
                deque(archive.chunks(text), maxlen=0)  # zipfile checks the CRC at the end

        file = client.download(url, folder / f"{year}-{month:02}.zip", check, progress)
        if file:
            files[month] = file
        elif not so_far:
            raise _not_there(url, year, month, later=min(files, default=None), today=today)
    if not files:
        raise Missing(f"{base} has no month of {year}; choose another year, or correct DELAYWATCH_BTS_URL.")
    return dict(sorted(files.items()))


def _not_there(url: str, year: int, month: int, *, later: int | None, today: date) -> Missing:
    """Return the error for a month that the server answers with 404; the message depends on the month's age."""
    name = f"{calendar.month_name[month]} {year}"
    fetch = f"`python -m utils fetch --year {year}"
    by_hand = (
        "correct DELAYWATCH_BTS_URL if the address has changed, or download the months in a browser and load them with "
        f"{fetch} --source bts --from FOLDER`"
    )
    end = date(year, month, calendar.monthrange(year, month)[1])
    if later is not None:
        when = (
            f"although {calendar.month_name[later]} is; fetch again later (complete files are kept), fetch the other "
            f"months with {fetch} --so-far`, {by_hand}"
        )
    elif end >= today:
        when = f"because {name} is not over yet; fetch the published months with {fetch} --so-far`"
    elif (today - end).days <= PUBLISHED_WITHIN_DAYS:
        when = (
            f"yet; the Bureau publishes a month about two months after its end. Wait for {name}, or fetch the "
            f"published months with {fetch} --so-far`"
        )
    else:
        when = f"although {name} ended on {end}; {by_hand}"
    return Missing(f"{url} is not published {when}.")


def write_csv(files: Mapping[int, File], year: int, to: Path, *, are_downloads: bool = False) -> dict[int, int]:
    """Write the flights in the order of `files` as one CSV with the 28 Kaggle columns; return flights by month.

    Values are copied unchanged ("0659" for a time, "-3.00" for a delay); null is an empty field. Columns without data
    (taxi times before 1995, causes before June 2003) are null.
    are_downloads: delete a bad file, so that the next fetch downloads it again.
    Raises InvalidInput if a zip does not contain the flights of its month, OSError if the disk is full.
    """
    rows: dict[int, int] = {}
    with to.open("wb") as file:
        file.write(",".join(_BRONZE.names).encode() + b"\n")
        options = pa_csv.WriteOptions(include_header=False, quoting_style="none")  # values with commas raise an error
        with pa_csv.CSVWriter(file, _BRONZE, write_options=options) as writer:
            for month, source in files.items():
                try:
                    rows[month] = _write_month(writer, source, f"{year}-{month:02}-")
                except (DelaywatchError, pa.ArrowInvalid) as error:
                    if are_downloads:
                        source.path.unlink(missing_ok=True)
                    if isinstance(error, DelaywatchError):
                        raise
                    raise InvalidInput(
                        f"{source.url} contains a line that is not a flight ({str(error)[:200]}); open it to see why, "
                        "or fetch again later."
                    ) from None
    return rows


def _write_month(writer: pa_csv.CSVWriter, file: File, days: str) -> int:
    """Write the month's flights, whose dates must begin with `days`; return their number. May raise ArrowInvalid."""
    rows = 0
    with open_month(file.path, file.url) as text:
        reader = pa_csv.open_csv(
            text,
            read_options=pa_csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
            convert_options=pa_csv.ConvertOptions(
                include_columns=list(COLUMNS.values()),
                column_types=dict.fromkeys(COLUMNS.values(), pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
        for batch in reader:
            dates = batch.column(0)
            if dates.null_count or not pc.all(pc.starts_with(dates, days), min_count=0).as_py():
                raise InvalidInput(
                    f"{file.url} has flights whose date does not begin with {days}; open it to see why, or fetch again "
                    "later."
                )
            columns = [*batch.columns, pa.nulls(batch.num_rows, pa.string())]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=_BRONZE))
            rows += batch.num_rows
    if not rows:
        raise InvalidInput(f"{file.url} has no flights; open it to see why, or fetch again later.")
    return rows


@contextmanager
def open_month(path: Path, name: str, damaged: type[DelaywatchError] = InvalidInput) -> Iterator[IO[bytes]]:
    """Yield the month's CSV text from a zip, or from an unpacked .csv file.

    name: the name of the file in errors. damaged: the error class for a damaged zip. Raises InvalidInput if columns are
    missing, or the errors of `cannot_read` and `archive.open_csv`.
    """
    try:
        is_plain = not archive.is_zip(path) and path.suffix.lower() == ".csv"
    except OSError as error:
        raise cannot_read(path, error) from error
    with path.open("rb") if is_plain else archive.open_csv(path, name, damaged) as text:
        names = _fields(text.readline(1 << 16))
        if missing := [column for column in COLUMNS.values() if column not in names]:
            lacks = f"the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
            raise InvalidInput(
                f"{name} lacks {lacks if len(missing) < len(COLUMNS) else 'every column of the Bureau'}; it is not the "
                "Bureau's reporting carrier on-time performance, or the Bureau has changed its format. Download it "
                "again, or load a CSV of the year with `python -m utils bronze --year YEAR --from FILE`."
            )
        text.seek(0)
        yield text


def month_of(path: Path) -> tuple[int, int]:
    """Return year and month of the first flight. Raises InvalidInput if the file is not a month of the Bureau."""
    with open_month(path, str(path)) as text:
        names, first = _fields(text.readline(1 << 16)), _fields(text.readline(1 << 16))
    flight = dict(zip(names, first, strict=False))
    if "Year" in names and "Month" in names:
        year, month = flight.get("Year", ""), flight.get("Month", "")
    else:
        year, _, month = flight.get("FlightDate", "")[:7].partition("-")
    if not (year.isdecimal() and month.isdecimal() and 1 <= int(month) <= 12):
        raise InvalidInput(
            f"The first row of {path} has no year and month; download the file again, or move it out of the folder."
        )
    return int(year), int(month)


def months_in(folder: Path, base: str, year: int, *, so_far: bool) -> dict[int, File]:
    """Return the files of the year in `folder` by month, ascending.

    Skips files that are not months of the Bureau, with a warning. base: the address of the Bureau, for messages. Raises
    Missing for a missing month (with so_far, only if the folder has no month of the year), and InvalidInput if two
    files contain different versions of a month.
    """
    by_month, skipped = _files_by_month(folder)
    month_paths = {month: paths for (file_year, month), paths in sorted(by_month.items()) if file_year == year}
    missing = [month for month in months(year) if month not in month_paths]
    if not month_paths or (missing and not so_far):
        years = sorted({file_year for file_year, _ in by_month})
        names = month_names(year, missing)
        lacks = names if month_paths else f"month of {year}"
        others = f"; its months are of {wording.listed(years)}" if years and not month_paths else ""
        raise Missing(
            f"{folder} has no {lacks}{others}{_listed(skipped)}; download the missing months, the first from "
            f"{month_url(base, year, missing[0])}, and repeat the command"
            f"{', or read only these months of the year with --so-far' if month_paths else ''}."
        )
    return {month: _only(paths, calendar.month_name[month], year) for month, paths in month_paths.items()}


def _files_by_month(folder: Path) -> tuple[dict[tuple[int, int], list[Path]], list[str]]:
    """Return the files by year and month, and the names of skipped zips and CSVs."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".zip", ".csv"))
    except OSError as error:
        raise cannot_read(folder, error) from error
    by_month: dict[tuple[int, int], list[Path]] = defaultdict(list)
    skipped = []
    for path in paths:
        try:
            by_month[month_of(path)].append(path)
        except DelaywatchError as error:
            skipped.append(path.name)
            log.warning("Skipped a file: %s", error)
    return by_month, skipped


def _listed(skipped: list[str]) -> str:
    if not skipped:
        return ""
    shown = [*skipped[:MAX_LISTED], *([f"{len(skipped) - MAX_LISTED} more"] if len(skipped) > MAX_LISTED else [])]
    are_not = "is not a file" if len(skipped) == 1 else "are not files"
    return f" ({wording.listed(shown)} {are_not} of the Bureau, or cannot be read)"


def _only(paths: list[Path], month: str, year: int) -> File:
    """Return the first of the files. Raises InvalidInput unless all contain the same text (zipped or unpacked)."""
    first, *others = paths
    if others:
        text = _text_hash(first)
        for other in others:
            if _text_hash(other) != text:
                raise InvalidInput(f"{first} and {other} are different files of {month} {year}; delete the wrong one.")
    try:
        with first.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = first.stat().st_size
    except OSError as error:
        raise cannot_read(first, error) from error
    return File(first, first.name, Version(), size, sha256)


def _text_hash(path: Path) -> str:
    sha256 = hashlib.sha256()
    with open_month(path, str(path)) as text:
        for chunk in archive.chunks(text):
            sha256.update(chunk)
    return sha256.hexdigest()


def _fields(line: bytes) -> list[str]:
    return next(csv.reader([line.decode("utf-8-sig", errors="replace").strip()]), [])
