"""Base class of the detectors' parameter models: strict types, and readable errors for invalid values.

Each detector's module defines its parameters, bounds and defaults. Types that several detectors use are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from utils.errors import InvalidInput


class Parameters(BaseModel):
    """Parameters of one detector. Types are strict, except that a whole number is accepted as a float."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def checked(cls, detector: str, given: Mapping[str, object]) -> Self:
        """Return the parameters, with defaults for those that are not in `given`.

        Raises InvalidInput with the detector, the parameter, its value and the allowed values.
        """
        try:
            return cls.model_validate({**given})
        except ValidationError as error:
            name = error.errors()[0]["loc"][0]
            if name not in cls.model_fields:
                known = ", ".join(cls.model_fields)
                raise InvalidInput(f"{detector} has no parameter {name}; use one of {known}.") from None
            allowed = _allowed(cls.model_json_schema()["properties"][name])
            raise InvalidInput(f"{detector}: {name} is {given[str(name)]!r}; it must be {allowed}.") from None

    @classmethod
    def table(cls) -> list[dict[str, object]]:
        """Return one row per parameter: its name, default, allowed values and meaning."""
        return [
            {
                "parameter": name,
                "default": schema["default"],
                "allowed": _allowed(schema),
                "meaning": schema.get("description", ""),
            }
            for name, schema in cls.model_json_schema()["properties"].items()
        ]


MinFlights = Annotated[int, Field(ge=1, le=1_000, description="fewest scheduled flights of a day that is scored")]
MinDays = Annotated[int, Field(ge=2, le=366, description="fewest days for fitting of an airport that is scored")]
PastOnly = Annotated[bool, Field(description="true: score from earlier days only, for alerts")]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1, description="seed of every random draw")]


def _ascending(levels: tuple[float, ...]) -> tuple[float, ...]:
    if list(levels) != sorted(levels):
        raise ValueError("the levels do not ascend")
    return levels


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value  # YAML gives lists


_Level = TypeVar("_Level")
# The scores from which a day is mild, strong and extreme: `Levels[Annotated[float, Field(ge=1, le=365)]]`.
Levels = Annotated[tuple[_Level, _Level, _Level], BeforeValidator(_tuple), AfterValidator(_ascending)]


def _allowed(schema: Mapping[str, Any]) -> str:
    """Return the values that the JSON schema of a parameter allows, in words: `a whole number from 2 to 366`."""
    if schema["type"] == "boolean":
        return "true or false"
    if schema["type"] == "array":
        items = schema["prefixItems"]
        low, high = items[0]["minimum"], items[0]["maximum"]
        return f"a list of {len(items)} ascending numbers from {low:g} to {high:g}, such as {schema['default']}"
    kind = "a whole number" if schema["type"] == "integer" else "a number"
    return f"{kind} from {schema['minimum']:g} to {schema['maximum']:g}"
