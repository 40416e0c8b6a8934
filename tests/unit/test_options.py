"""The years of a command line."""

from __future__ import annotations

from utils.cli import options


def test_years_are_ranges_lists_and_repeated_options() -> None:
    assert options.years_of(["2009:2011", "2011,2018"]) == [2009, 2010, 2011, 2018]
