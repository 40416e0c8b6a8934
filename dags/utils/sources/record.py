"""The record beside the year's CSV in bronze: source, size and SHA-256 of the CSV and of every file it was made from.

A year whose last months are not published yet has a record that says so. A CSV without a record that fits it counts as
whole: whoever put it there knows what it is.
"""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

from utils.settings import Settings
from utils.sources.bronze import MAX_LOST_SHARE, lost_flights
from utils.storage import keys
from utils.storage.lake import Lake
from utils.storage.parquet import encode_json

Record = dict[str, Any]


def has_whole_year(settings: Settings, year: int) -> bool:
    """Whether bronze has the year, and not only as far as it was published when it was fetched."""
    lake = Lake(settings)
    return year in lake.bronze_years() and unfinished_bytes(lake, year) is None


def write(lake: Lake, year: int, record: Record) -> None:
    """Write the record of the year's CSV."""
    lake.store.put(keys.fetch_record_key(year), encode_json(record))


def of_csv(lake: Lake, year: int) -> Record | None:
    """Return the record of the CSV that is there; None if it was not fetched or has been replaced."""
    found = read(lake, year)
    return found[0] if found and found[0]["bytes"] == found[1] else None


def unfinished_bytes(lake: Lake, year: int) -> int | None:
    """Return the size of the year's CSV in bronze if it is known not to be whole, None if it is whole or nobody knows.

    It is known by the CSV's own record, or by that of a later part of the year whose CSV did not get there.
    """
    found = read(lake, year)
    if found is None:
        return None
    record, size = found
    return size if not record["is_whole"] and size in (record["bytes"], record.get("bytes_before")) else None


def read(lake: Lake, year: int) -> tuple[Record, int] | None:
    """Return the record beside the year's CSV, of that CSV or not, and the CSV's size; None unless both can be used."""
    csv_key, data = keys.bronze_keys(year)[0], lake.store.get(keys.fetch_record_key(year))
    if data is None or not lake.has(csv_key):
        return None
    try:
        record: Record = json.loads(data)
        _ = record["bytes"], record["source"], record["is_whole"], record["files"]
    except (ValueError, KeyError, TypeError):
        return None
    with closing(lake.store.open(csv_key)) as csv:
        return record, csv.size


def is_earlier_version(before: Record, size: int, after: Record) -> bool:
    """Return whether the CSV in bronze, of `size` bytes, is one that an earlier fetch from the same source wrote."""
    return before["source"] == after["source"] and size in (before["bytes"], before.get("bytes_before"))


def lost(before: Record, after: Record) -> str:
    """Return what a newer version of the year lacks, in words; by the size of the file if months are not known."""
    old = before.get("flights_by_month") or {}
    if not old and after["bytes"] < (1 - MAX_LOST_SHARE) * before["bytes"]:
        return f"the file has {after['bytes']:,} bytes instead of {before['bytes']:,}"
    return lost_flights(old, after["flights_by_month"])
