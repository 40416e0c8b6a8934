"""Airport-days that are not used for fitting: incidents from a file, and feedback `expected`.

Excluded days are scored and flagged like all others. An incident may concern many airports, and its days are excluded
from every fit. Feedback concerns one airport, and its days are excluded from the fit of that airport only.
`warehouse/feedback.py` reads the feedback.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from utils import yaml_file
from utils.errors import InvalidInput

FIELDS = ("airports", "first", "last", "note")
ALL_AIRPORTS = "all"
MAX_LENGTH = timedelta(days=366)  # maximum length of an incident; a longer one is probably a typing error


@dataclass(frozen=True)
class Incident:
    """Days, first and last included, on which some airports were disturbed for a known reason."""

    airports: frozenset[str] | None  # None: all airports
    first: date
    last: date
    note: str


def read(path: Path) -> list[Incident]:
    """Return the incidents of a file like dags/incidents.yaml, in file order; an empty file has none.

    Raises InvalidInput with file and line for an invalid entry, and Missing if the file does not exist.
    """
    root = yaml_file.read(path, "incidents.yaml", as_text=True)
    blocks = yaml_file.entries(path, root, list, "- airports: all or a list")
    return [_incident(path, block, yaml_file.line_of(blocks, number)) for number, block in enumerate(blocks)]


def exclusions(days: pd.DataFrame, incidents: Sequence[Incident], expected_days: pd.DataFrame) -> pd.DataFrame:
    """Return the columns `is_excluded` and `is_expected` of the detectors' contract, with the index of `days`.

    days: one row per airport and day, with `origin` and `fl_date`. expected_days: airport-days (`origin`, `fl_date`)
    with the feedback `expected`; those that are not in `days` are ignored.
    """
    dates = _dates(days)
    is_excluded = np.zeros(len(days), dtype=np.bool_)
    for incident in incidents:
        is_then = ((dates >= pd.Timestamp(incident.first)) & (dates <= pd.Timestamp(incident.last))).to_numpy()
        if is_then.any():
            is_excluded |= is_then if incident.airports is None else is_then & days["origin"].isin(incident.airports)
    is_expected = np.zeros(len(days), dtype=np.bool_)
    if len(expected_days):
        expected = pd.MultiIndex.from_arrays([expected_days["origin"], _dates(expected_days)])
        is_expected = pd.MultiIndex.from_arrays([days["origin"], dates]).isin(expected)
    return pd.DataFrame({"is_excluded": is_excluded, "is_expected": is_expected}, index=days.index)


def fingerprint(days: pd.DataFrame) -> str:
    """Return the excluded airport-days of a year as text that does not depend on their order; empty if there are none.

    days: airport-days with the columns of `exclusions`. Verdicts depend on these columns as on a detector's parameters,
    so the text is part of `params_hash`. It contains the days, and whether an incident or only feedback excludes them.
    A changed note, or an incident at an airport without flights, does not change it.
    """
    rows = days[days["is_excluded"] | days["is_expected"]]
    origins: pd.Series = rows["origin"].astype(str) + np.where(rows["is_excluded"], "", " expected")
    airports_of: dict[str, list[str]] = {}
    for origin, day in sorted(zip(origins, _dates(rows).dt.strftime("%Y-%m-%d"), strict=True)):
        airports_of.setdefault(day, []).append(origin)
    return json.dumps(airports_of, sort_keys=True, separators=(",", ":")) if airports_of else ""


def _dates(days: pd.DataFrame) -> pd.Series:
    return pd.to_datetime(days["fl_date"]).astype("datetime64[ns]")


def _incident(path: Path, block: Any, line: int) -> Incident:
    given = yaml_file.entries(path, block, dict, "airports, first, last, note: value", line)
    lines = {name: yaml_file.line_of(given, name) for name in given}
    for name in given:
        if name not in FIELDS:
            raise InvalidInput(
                f"{path}, line {lines[name]}: {name} is not a key of an incident; use {', '.join(FIELDS)}."
            )
    missing = [name for name in FIELDS if name not in given and name != "last"]
    if missing:
        raise InvalidInput(f"{path}, line {line}: the incident has no {', '.join(missing)}; add it.")
    airports = _airports(path, given["airports"], lines["airports"])
    days = {name: _date(path, name, given[name], lines[name]) for name in ("first", "last") if name in given}
    first, last = days["first"], days.get("last", days["first"])
    if not timedelta(0) <= last - first < MAX_LENGTH:
        how = "ends before it begins" if last < first else f"lasts {(last - first).days + 1:,} days"
        raise InvalidInput(
            f"{path}, line {lines['last']}: the incident {how}, from {first} to {last}; correct first or last. "
            f"An incident has at most {MAX_LENGTH.days} days."
        )
    return Incident(airports, first, last, _note(path, given["note"], lines["note"]))


def _airports(path: Path, given: Any, line: int) -> frozenset[str] | None:
    if given == ALL_AIRPORTS:
        return None
    if not isinstance(given, list) or not given:
        raise InvalidInput(
            f"{path}, line {line}: airports is {given!r}; it must be {ALL_AIRPORTS}, or a list such as [JFK, LGA]."
        )
    for number, code in enumerate(given):
        if not isinstance(code, str) or not re.fullmatch("[A-Z0-9]{3}", code):
            raise InvalidInput(
                f"{path}, line {yaml_file.line_of(given, number)}: {code!r} is not an airport code; write three "
                "capital letters or digits, such as JFK."
            )
    return frozenset(given)


def _date(path: Path, name: str, given: Any, line: int) -> date:
    try:
        return date.fromisoformat(given)
    except (TypeError, ValueError):
        raise InvalidInput(f"{path}, line {line}: {name} is {given!r}; it must be a date such as 2013-02-08.") from None


def _note(path: Path, given: Any, line: int) -> str:
    if not isinstance(given, str) or not given.strip():
        raise InvalidInput(f"{path}, line {line}: note is {given!r}; describe what happened.")
    return given.strip()
