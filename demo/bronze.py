"""Put the year's CSV into the demo's lake: the packaged flights, or a link to the user's own file."""

from __future__ import annotations

from pathlib import Path

from demo import flights
from utils.errors import InvalidInput, Missing
from utils.sources.bronze import check_csv
from utils.storage.keys import bronze_keys


def _place(lake: Path, key: str, year: int) -> Path:
    """Return the path of `key` after removing all other files of the year."""
    path = lake / key
    path.parent.mkdir(parents=True, exist_ok=True)
    for other in bronze_keys(year):
        if other != key:
            (lake / other).unlink(missing_ok=True)
    return path


def use_own_file(lake: Path, year: int, csv: Path) -> str:
    """Make `csv` the year's bronze file, as a link, so that a file of any size needs no time and no disk space.

    Raises DelaywatchError, and replaces nothing, if the file does not exist, its name does not end like a CSV, or it
    does not begin with flights of the year.
    """
    csv = csv.expanduser().absolute()
    try:
        is_file = csv.is_file()
    except OSError:
        is_file = True  # not readable for this user; `check_csv` raises the error
    if not is_file:
        raise Missing(f"{csv} does not exist; set the path of a CSV, for example CSV=~/Downloads/{year}.csv.")
    plain, compressed = bronze_keys(year)
    key = next(
        (key for key, ending in ((plain, ".csv"), (compressed, ".csv.gz")) if csv.name.lower().endswith(ending)), None
    )
    if key is None:
        raise InvalidInput(f"{csv} must be a .csv or .csv.gz file; unpack or rename it.")
    check_csv(csv, year)
    place = _place(lake, key, year)
    link = place.with_name(f".{place.name}.link")
    link.unlink(missing_ok=True)
    link.symlink_to(csv)
    link.replace(place)
    return f"{csv}, linked as {key}"


def use_packaged_flights(lake: Path, year: int) -> str:
    """Make the real New York flights of 2013 the bronze file of that year; leave every other year as it is."""
    if year != flights.YEAR:
        return ""
    place = _place(lake, bronze_keys(flights.YEAR)[0], flights.YEAR)
    if place.is_file() and not place.is_symlink():
        return "departures from New York, written by an earlier demo"
    rows = flights.write_bronze(place)
    return f"{rows:,} real departures from New York"
