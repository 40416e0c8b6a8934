"""Read dags/subscriptions.yaml: who gets which messages about a finished year, and on which channel."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from utils import yaml_file
from utils.analysis.airports import REGION_NAMES, coordinates
from utils.errors import InvalidInput
from utils.reporting import wording
from utils.schemas import SEVERITIES

FILE = Path(__file__).resolve().parents[2] / "subscriptions.yaml"
ALL_AIRPORTS = "all"


def _region(name: str) -> str:
    if name not in REGION_NAMES:
        raise ValueError
    return name


def _iso(value: object) -> object:
    """Refuse other texts that pydantic reads as a date, such as seconds since 1970."""
    if isinstance(value, str) and not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        raise ValueError
    return value


Code = Annotated[str, Field(pattern="^[A-Z0-9]{3}$")]
Region = Annotated[str, AfterValidator(_region)]


class Subscription(BaseModel):
    """One subscriber. The descriptions are the hints in errors. airports: None means all, or those of `regions`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,39}$")] = Field(
        description="write up to 40 lower-case letters, digits, - and _"
    )
    channel: Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,63}$")] = Field(
        description="write the name of a connection (lower-case letters, digits and _), which has the URL"
    )
    airports: Annotated[
        Annotated[frozenset[Code], Field(min_length=1)] | None,
        BeforeValidator(lambda value: None if value == ALL_AIRPORTS else value),
    ] = Field(default=None, description="write all, or a list of codes such as [JFK, LGA]")
    regions: Annotated[frozenset[Region], Field(min_length=1)] = Field(
        default=frozenset(), description=f"write a list of these: {', '.join(REGION_NAMES)}"
    )
    severity: Literal["mild", "strong", "extreme"] = Field(
        default="extreme", description="write mild, strong or extreme"
    )
    send: Literal["each", "digest"] = Field(default="each", description="write each or digest")
    snooze_until: Annotated[date, BeforeValidator(_iso)] | None = Field(
        default=None, description="write a date such as 2026-01-07"
    )

    @model_validator(mode="after")
    def _has_one_area(self) -> Self:
        if len(self.model_fields_set & {"airports", "regions"}) != 1:
            raise ValueError
        return self

    @property
    def min_severity(self) -> int:
        """Return the least severity as in schemas.EVENTS."""
        return SEVERITIES.index(self.severity)

    @property
    def severities(self) -> str:
        """Return the severities that are sent: `extreme`, `strong or extreme`; empty for all."""
        return "" if self.min_severity == 1 else wording.listed(SEVERITIES[self.min_severity :], "or")

    @property
    def area(self) -> str:
        """Return the airports for a sentence: ` at JFK and LGA`, ` in Texas`; empty for all."""
        if self.regions:
            return f" in {wording.listed(sorted(self.regions))}"
        return f" at {wording.listed(sorted(self.airports))}" if self.airports else ""

    def covered(self, origins: Iterable[str]) -> set[str]:
        """Return the airports among `origins` that the subscriber wants; an unknown airport is in no region."""
        if self.regions:
            known = coordinates(origins)
            return set(known.loc[known["region"].isin(self.regions), "origin"])
        return set(origins) & self.airports if self.airports else set(origins)

    def is_snoozed(self, today: date) -> bool:
        """Return True before `snooze_until`."""
        return self.snooze_until is not None and today < self.snooze_until


# The recipients in .env: DELAYWATCH_ALERT_EMAIL and DELAYWATCH_ALERT_WEBHOOK. They also get failures and warnings.
DEFAULT = Subscription(name="default", channel="alert_webhook", airports=None)


def read(path: Path) -> list[Subscription]:
    """Return the subscriptions of a file like dags/subscriptions.yaml, in file order; an empty file has none.

    Raises InvalidInput with file and line for an invalid entry, and Missing if the file does not exist. No message
    contains the value of `channel` or a URL, because a URL that is written there by mistake is a secret.
    """
    root = yaml_file.read(path, "subscriptions.yaml", as_text=True)
    blocks = yaml_file.entries(path, root, list, "- name: a name")
    found: dict[str, Subscription] = {}
    for number, block in enumerate(blocks):
        line = yaml_file.line_of(blocks, number)
        subscription = _subscription(path, block, line)
        if subscription.name in {DEFAULT.name, *found}:
            raise InvalidInput(
                f"{path}, line {line}: the name {subscription.name} is in use; choose another. {DEFAULT.name} means "
                "the recipients in .env."
            )
        found[subscription.name] = subscription
    return list(found.values())


def _subscription(path: Path, block: Any, line: int) -> Subscription:
    """Return the subscription of one entry of the file, which begins in `line`. Raises InvalidInput."""
    given = yaml_file.entries(path, block, dict, "name, channel, airports, severity, send: value", line)
    fields = Subscription.model_fields
    unknown = [name for name in given if name not in fields]
    if unknown:
        where = yaml_file.line_of(given, unknown[0])
        raise InvalidInput(
            f"{path}, line {where}: {yaml_file.shown(unknown[0])} is not a key; use {', '.join(fields)}."
        )
    missing = [name for name, field in fields.items() if field.is_required() and name not in given]
    if missing:
        raise InvalidInput(f"{path}, line {line}: the subscription has no {', '.join(missing)}; add it.")
    try:
        return Subscription.model_validate(given)
    except ValidationError as error:
        place = error.errors(include_input=False)[0]["loc"]
    if not place:
        raise InvalidInput(
            f"{path}, line {line}: the subscription must have either airports or regions; add airports: all, or keep "
            "one of them."
        )
    name = str(place[0])
    value, line = given[name], yaml_file.line_of(given, name)
    if len(place) > 1 and isinstance(place[1], int):
        value, line = value[place[1]], yaml_file.line_of(value, place[1])
    shown = "cannot be used" if name == "channel" else f"is {yaml_file.shown(value)}"
    hint = fields[name].description
    raise InvalidInput(f"{path}, line {line}: {name} {shown}; {hint}.")
