"""Which airport-days incidents and feedback exclude, and the fingerprint of the excluded days."""

from __future__ import annotations

from datetime import date, timedelta

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.analysis.exclusions import Incident, exclusions, fingerprint

FEW = settings(max_examples=40)
STORM = Incident(frozenset({"JFK", "LGA"}), date(2013, 2, 8), date(2013, 2, 9), "snow")

DAYS = st.integers(0, 5).map(lambda number: date(2013, 2, 6) + timedelta(days=number))
AIRPORTS = st.sampled_from(["JFK", "LGA", "LAX"])
AIRPORT_DAYS = st.lists(st.tuples(AIRPORTS, DAYS), unique=True, min_size=1)
INCIDENTS = st.lists(
    st.tuples(st.none() | st.frozensets(AIRPORTS, min_size=1), DAYS, DAYS).map(
        lambda drawn: Incident(drawn[0], min(drawn[1:]), max(drawn[1:]), "drawn")
    ),
    max_size=3,
)
MARKS = st.sampled_from([(False, False), (True, False), (False, True)])


def frame_of(airport_days: list[tuple[str, date]]) -> pd.DataFrame:
    return pd.DataFrame(airport_days, columns=["origin", "fl_date"])


@FEW
@given(airport_days=AIRPORT_DAYS, incidents=INCIDENTS, feedback=st.lists(st.tuples(AIRPORTS, DAYS), max_size=3))
def test_an_incident_excludes_its_airports_from_first_to_last_day_and_feedback_one_airport_day(
    airport_days: list[tuple[str, date]], incidents: list[Incident], feedback: list[tuple[str, date]]
) -> None:
    index = [10 * number for number in range(len(airport_days), 0, -1)]
    days = frame_of(airport_days).set_axis(index)

    marks = exclusions(days, incidents, frame_of(feedback))

    assert marks.index.tolist() == index
    assert marks["is_expected"].tolist() == [key in feedback for key in airport_days]
    assert marks["is_excluded"].tolist() == [
        any(one.first <= day <= one.last and origin in (one.airports or {origin}) for one in incidents)
        for origin, day in airport_days
    ]


def test_the_fingerprint_has_the_excluded_days_in_order_and_is_empty_without_them() -> None:
    """It is hashed in existing lakes, so its form must not change."""
    days = frame_of([("LGA", date(2013, 2, 9)), ("JFK", date(2013, 2, 9)), ("LAX", date(2013, 2, 8))])
    feedback = days[2:]

    marked = days.assign(**exclusions(days, [STORM], feedback))

    assert fingerprint(marked) == '{"2013-02-08":["LAX expected"],"2013-02-09":["JFK","LGA"]}'
    assert fingerprint(days.assign(is_excluded=False, is_expected=False)) == ""


@FEW
@given(airport_days=AIRPORT_DAYS, data=st.data())
def test_two_sets_of_excluded_days_have_equal_fingerprints_only_if_they_are_equal(
    airport_days: list[tuple[str, date]], data: st.DataObject
) -> None:
    days = frame_of(airport_days)
    one, other = (
        pd.DataFrame(
            data.draw(st.lists(MARKS, min_size=len(days), max_size=len(days))), columns=["is_excluded", "is_expected"]
        )
        for _ in range(2)
    )

    is_same = fingerprint(days.join(one)) == fingerprint(days.join(other)[::-1])

    assert is_same == one.equals(other)
