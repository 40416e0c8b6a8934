"""Airport-days that are not used for fitting: incidents that a person keeps in a file, and feedback `expected`.

Such a day is scored and flagged like any other. An incident, which may concern many airports, is left out of every fit.
Feedback concerns one airport: it is left out of the fit of that airport alone. The feedback itself comes from the
warehouse, see `warehouse/feedback.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from utils import yaml_file
from utils.errors import DelaywatchError

FIELDS = ("airports", "first", "last", "note")
EVERYWHERE = "all"
LONGEST = timedelta(days=366)  # of an incident; a longer one is a slip of the pen, or no incident


@dataclass(frozen=True)
class Incident:
    """Days, both ends included, on which some airports were disturbed for a reason that is known."""

    airports: frozenset[str] | None  # None: all
    first: date
    last: date
    note: str


def read(path: Path) -> list[Incident]:
    """The incidents of a file like dags/incidents.yaml, in its order; an empty file has none.

    Raises DelaywatchError naming the file and the line of whatever cannot be used.
    """
    blocks = yaml_file.items(path, yaml_file.read(path, "incidents.yaml"), "- airports: all or a list")
    return [_incident(path, block) for block in blocks]


def exclusions(days: pd.DataFrame, incidents: Sequence[Incident], expected_days: pd.DataFrame) -> pd.DataFrame:
    """Return the columns `is_excluded` and `is_expected` of the detectors' contract, with the index of `days`.

    days: one row per airport and day, with `origin` and `fl_date`. expected_days: the airport-days, `origin` and
    `fl_date`, with the feedback `expected`; those that `days` does not have are ignored.
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
    """Return the excluded airport-days of a year as text that does not depend on their order; empty without any.

    days: airport-days with the columns of `exclusions`. Verdicts depend on these columns as they do on a detector's
    parameters, so the text is part of their `params_hash`. It says which days, and whether an incident or only feedback
    excludes them. A reworded note, or an incident at an airport without flights, changes nothing.
    """
    rows = days[days["is_excluded"] | days["is_expected"]]
    origins: pd.Series = rows["origin"].astype(str) + np.where(rows["is_excluded"], "", " expected")
    airports_of: dict[str, list[str]] = {}
    for origin, day in sorted(zip(origins, _dates(rows).dt.strftime("%Y-%m-%d"), strict=True)):
        airports_of.setdefault(day, []).append(origin)
    return json.dumps(airports_of, sort_keys=True, separators=(",", ":")) if airports_of else ""


def _dates(days: pd.DataFrame) -> pd.Series:
    return pd.to_datetime(days["fl_date"]).astype("datetime64[ns]")


def _incident(path: Path, block: yaml.Node) -> Incident:
    given = {}
    for name, line, node in yaml_file.entries(path, block, "airports, first, last, note: value"):
        if name not in FIELDS:
            raise DelaywatchError(f"{path}, line {line}: an incident has no {name}; it has {', '.join(FIELDS)}.")
        given[name] = node
    here = yaml_file.line_of(block)
    missing = [name for name in FIELDS if name not in given and name != "last"]
    if missing:
        raise DelaywatchError(f"{path}, line {here}: this incident lacks {', '.join(missing)}; write it down.")
    first = _date(path, "first", given["first"])
    last = _date(path, "last", given["last"]) if "last" in given else first
    if not timedelta(0) <= last - first < LONGEST:
        how = "ends before it begins" if last < first else f"lasts {(last - first).days + 1:,} days"
        raise DelaywatchError(
            f"{path}, line {yaml_file.line_of(given['last'])}: the incident {how}, from {first} to {last}; correct "
            f"first or last, which may be {LONGEST.days} days in all."
        )
    return Incident(_airports(path, given["airports"]), first, last, _text(path, "note", given["note"]))


def _airports(path: Path, node: yaml.Node) -> frozenset[str] | None:
    if isinstance(node, yaml.ScalarNode) and node.value == EVERYWHERE:
        return None
    codes = node.value if isinstance(node, yaml.SequenceNode) else []
    for code in codes:
        # by its text: what YAML makes of OFF or NO, if an airport were called so, is no text
        if not (isinstance(code, yaml.ScalarNode) and re.fullmatch("[A-Z0-9]{3}", code.value)):
            raise DelaywatchError(
                f"{path}, line {yaml_file.line_of(code)}: {yaml_file.value_of(code)!r} is no airport; write its three "
                "capital letters or digits, such as JFK."
            )
    if not codes:
        raise DelaywatchError(
            f"{path}, line {yaml_file.line_of(node)}: airports is {yaml_file.value_of(node)!r}; it must be "
            f"{EVERYWHERE}, or a list such as [JFK, LGA]."
        )
    return frozenset(code.value for code in codes)


def _date(path: Path, name: str, node: yaml.Node) -> date:
    try:
        return date.fromisoformat(node.value)
    except (TypeError, ValueError):
        raise DelaywatchError(
            f"{path}, line {yaml_file.line_of(node)}: {name} is {yaml_file.value_of(node)!r}; it must be a day, such "
            "as 2013-02-08."
        ) from None


def _text(path: Path, name: str, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
        raise DelaywatchError(f"{path}, line {yaml_file.line_of(node)}: {name} is empty or no text; say what happened.")
    return str(node.value).strip()
