"""The JSON record of a fetch, next to the year's CSV in bronze: source, size and SHA-256 of the CSV and of its files.

The record of a year of which not all months are published has `is_whole` false and names its `missing_months`. A CSV
without a matching record counts as a whole year, because a person put it there.
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
    """Return True if bronze has the whole year, not only its first months."""
    lake = Lake(settings)
    return year in lake.bronze_years() and unfinished_bytes(lake, year) is None


def write(lake: Lake, year: int, record: Record) -> None:
    """Write the record of the year's CSV."""
    lake.store.put(keys.fetch_record_key(year), encode_json(record))


def of_csv(lake: Lake, year: int) -> Record | None:
    """Return the record of the current CSV; None if the CSV was not fetched or has been replaced."""
    entry = read(lake, year)
    return entry[0] if entry and entry[0]["bytes"] == entry[1] else None


def unfinished_bytes(lake: Lake, year: int) -> int | None:
    """Return the size of the year's CSV in bronze if a record says that it is not whole, else None.

    The record may belong to this CSV or to a later version of the year whose upload failed.
    """
    entry = read(lake, year)
    if entry is None:
        return None
    record, size = entry
    return size if not record["is_whole"] and size in (record["bytes"], record.get("bytes_before")) else None


def read(lake: Lake, year: int) -> tuple[Record, int] | None:
    """Return the record, which may belong to another CSV, and the size of the CSV; None unless both are usable."""
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


def is_from(source: str, record: Record, size: int) -> bool:
    """Return True if the CSV of `size` bytes in bronze came from a fetch of this source."""
    return bool(record["source"] == source) and size in (record["bytes"], record.get("bytes_before"))


def years_to_update(settings: Settings, year: int) -> list[int]:
    """Return the years that a monthly fetch from the Bureau updates: this year and the year before, if bronze has it.

    A year whose CSV in bronze is not from the Bureau is not updated.
    """
    lake = Lake(settings)
    entries = {each: read(lake, each) for each in (year, year - 1)}
    updated = [each for each, entry in entries.items() if entry and is_from("bts", *entry)]
    return [year, *updated] if year not in lake.bronze_years() else updated


def csv_sha256(settings: Settings, year: int) -> str | None:
    """Return the SHA-256 of the year's CSV in bronze if it was fetched, else None."""
    record = of_csv(Lake(settings), year)
    return record["sha256"] if record else None


def lost(before: Record, after: Record) -> str:
    """Return in words which flights the newer version lacks; compare file sizes if months are unknown."""
    old = before.get("flights_by_month") or {}
    if not old and after["bytes"] < (1 - MAX_LOST_SHARE) * before["bytes"]:
        return f"the file has {after['bytes']:,} bytes instead of {before['bytes']:,}"
    return lost_flights(old, after["flights_by_month"])
