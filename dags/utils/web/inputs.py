"""Types of the parts of an address: a year, an airport, a day, an event. Anything else is not found."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator, BeforeValidator

from utils.storage.keys import FIRST_YEAR, LAST_YEAR

AIRPORT = r"^[A-Z0-9]{3,4}$"
EVENT = r"^[0-9]{8}-[A-Z0-9]{3,4}$"
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def day_of(text: object) -> dt.date:
    """Return the date of a text such as 2013-02-08. Raises ValueError for any other form; pydantic accepts numbers."""
    if not isinstance(text, str) or not _DATE.fullmatch(text):
        raise ValueError("write a date such as 2013-02-08")
    day = dt.date.fromisoformat(text)
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"write a date from {FIRST_YEAR} to {LAST_YEAR}")
    return day


def first_day_of(event: str) -> dt.date:
    """Return the date at the start of an identifier such as 20130208-LGA. Raises ValueError if it is no date."""
    return day_of(f"{event[:4]}-{event[4:6]}-{event[6:8]}")


def _event(text: str) -> str:
    """Return the identifier of an event. Raises ValueError if it does not start with a date."""
    first_day_of(text)
    return text


def _digits(text: object) -> object:
    """Raise ValueError for the texts of an integer that pydantic accepts besides digits, such as 1_0 or +1."""
    if isinstance(text, str) and not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError("write a whole number")
    return text


Year = Annotated[int, BeforeValidator(_digits), Path(ge=FIRST_YEAR, le=LAST_YEAR)]
Airport = Annotated[str, Path(pattern=AIRPORT)]
Day = Annotated[dt.date, BeforeValidator(day_of), Path()]
Event = Annotated[str, AfterValidator(_event), Path(pattern=EVENT)]

# Parameters of the API; None selects all.
YearQuery = Annotated[
    Annotated[int, BeforeValidator(_digits)] | None,
    Query(ge=FIRST_YEAR, le=LAST_YEAR, description="Calendar year."),
]
AirportQuery = Annotated[str | None, Query(pattern=AIRPORT, description="Code of the airport, such as LGA.")]
DayQuery = Annotated[Annotated[dt.date, BeforeValidator(day_of)] | None, Query(description="A date: 2013-02-08.")]
EventQuery = Annotated[str | None, Query(pattern=EVENT, description="Identifier of an event: 20130208-LGA.")]
Limit = Annotated[
    Annotated[int, BeforeValidator(_digits)] | None,
    Query(ge=1, le=5000, description="Rows of the answer at most. Default: 1000 as JSON, 5000 as CSV."),
]
Offset = Annotated[
    Annotated[int, BeforeValidator(_digits)], Query(ge=0, le=10_000_000, description="Rows to skip first.")
]
