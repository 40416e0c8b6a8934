"""Which years flights can be from."""

from __future__ import annotations

from utils.errors import InvalidInput

FIRST_YEAR, LAST_YEAR = 1987, 2100  # the Bureau of Transportation Statistics publishes from October 1987 on


def check_year(year: int) -> int:
    """Return the year. Raises InvalidInput if flights cannot be from it."""
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise InvalidInput(f"{year} is not a year of this dataset; choose one from {FIRST_YEAR} to {LAST_YEAR}.")
    return year
