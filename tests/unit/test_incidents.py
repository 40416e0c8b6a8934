"""Known incidents: what a person may write into the file, and which airport-days it excludes."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.analysis import exclusions
from utils.analysis.exclusions import Incident
from utils.errors import InvalidInput, Missing

SHIPPED = Path(__file__).parents[2] / "dags" / "incidents.yaml"
NOBODY = pd.DataFrame({"origin": [], "fl_date": []})
STORM = Incident(frozenset({"JFK", "LGA"}), date(2013, 2, 8), date(2013, 2, 9), "snow")
GROUND_STOP = Incident(None, date(2013, 2, 11), date(2013, 2, 11), "everywhere")


def days(*rows: tuple[str, str]) -> pd.DataFrame:
    """Airport-days as gold has them: `origin` and `fl_date`, a day written 2013-02-08."""
    origins, dates = zip(*rows, strict=True)
    return pd.DataFrame({"origin": origins, "fl_date": pd.to_datetime(list(dates))})


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "incidents.yaml"
    path.write_text(text)
    return path


# Which days


def test_an_incident_excludes_its_airports_from_its_first_to_its_last_day() -> None:
    year = days(
        ("JFK", "2013-02-07"), ("JFK", "2013-02-08"), ("JFK", "2013-02-09"), ("JFK", "2013-02-10"),
        ("LGA", "2013-02-08"), ("LAX", "2013-02-08"), ("LAX", "2013-02-11"),
    )  # fmt: skip

    found = exclusions.exclusions(year, [STORM, GROUND_STOP], NOBODY)

    assert found["is_excluded"].tolist() == [False, True, True, False, True, False, True]


def test_a_day_with_feedback_expected_is_expected_at_its_airport_alone() -> None:
    year = days(("JFK", "2013-02-08"), ("JFK", "2013-02-09"), ("LGA", "2013-02-08"))
    expected = days(("JFK", "2013-02-08"), ("JFK", "2012-02-09"), ("ORD", "2013-02-09")).assign(opinion="expected")

    found = exclusions.exclusions(year, [], expected)

    assert found["is_expected"].tolist() == [True, False, False]
    assert not found["is_excluded"].any()


def test_no_incident_and_no_feedback_exclude_nothing() -> None:
    found = exclusions.exclusions(days(("JFK", "2013-02-08")), [], NOBODY)

    assert found.to_dict("records") == [{"is_excluded": False, "is_expected": False}]
    assert [str(dtype) for dtype in found.dtypes] == ["bool", "bool"]


@pytest.mark.parametrize("kind", ["datetime64[s]", "datetime64[ns]", "object"])
def test_dates_of_any_kind_mean_the_same_day(kind: str) -> None:
    year, expected = days(("JFK", "2013-02-08"), ("JFK", "2013-02-10")), days(("JFK", "2013-02-10"))
    if kind == "object":
        year["fl_date"] = year["fl_date"].dt.date
    of_kind = year.astype({"fl_date": kind, "origin": "category"})

    found = exclusions.exclusions(of_kind, [STORM], expected)

    assert found["is_excluded"].tolist() == [True, False]
    assert found["is_expected"].tolist() == [False, True]


DAYS = st.integers(0, 5).map(lambda number: date(2013, 2, 6) + timedelta(days=number))
AIRPORTS = st.sampled_from(["JFK", "LGA", "LAX"])
YEARS = st.lists(st.tuples(AIRPORTS, DAYS), unique=True, min_size=1)
INCIDENTS = st.lists(
    st.tuples(st.none() | st.frozensets(AIRPORTS, min_size=1), DAYS, DAYS).map(
        lambda drawn: Incident(drawn[0], min(drawn[1:]), max(drawn[1:]), "drawn")
    ),
    max_size=3,
)


@given(year=YEARS, known=INCIDENTS, said=st.lists(st.tuples(AIRPORTS, DAYS), max_size=3))
def test_an_incident_excludes_the_days_that_it_names_and_feedback_those_that_it_is_on(
    year: list[tuple[str, date]], known: list[Incident], said: list[tuple[str, date]]
) -> None:
    index = [10 * number for number in range(len(year), 0, -1)]
    frame = pd.DataFrame(year, columns=["origin", "fl_date"], index=index)

    found = exclusions.exclusions(frame, known, pd.DataFrame(said, columns=["origin", "fl_date"]))

    assert found.index.tolist() == index
    assert found["is_expected"].tolist() == [row in said for row in year]
    assert found["is_excluded"].tolist() == [
        any(one.first <= day <= one.last and (one.airports is None or origin in one.airports) for one in known)
        for origin, day in year
    ]


# Their fingerprint


def marked(year: pd.DataFrame, known: list[Incident], expected: pd.DataFrame) -> pd.DataFrame:
    return year.assign(**exclusions.exclusions(year, known, expected))


def test_the_fingerprint_does_not_depend_on_the_order_of_days() -> None:
    year = days(("LGA", "2013-02-09"), ("JFK", "2013-02-10"), ("JFK", "2013-02-09"), ("LGA", "2013-02-08"))
    backwards = year.iloc[::-1]

    texts = [exclusions.fingerprint(marked(one, [STORM], NOBODY)) for one in (year, backwards)]

    assert texts == ['{"2013-02-08":["LGA"],"2013-02-09":["JFK","LGA"]}'] * 2


def test_a_year_without_excluded_days_has_an_empty_fingerprint() -> None:
    year = days(("LAX", "2013-02-08"), ("JFK", "2014-02-08"))

    assert exclusions.fingerprint(marked(year, [STORM], NOBODY)) == ""


def test_a_reworded_incident_does_not_change_the_fingerprint_and_feedback_on_another_day_does() -> None:
    year = days(("JFK", "2013-02-08"), ("LAX", "2013-02-08"))
    reworded = Incident(frozenset({"JFK", "ORD"}), date(2013, 2, 1), date(2013, 2, 8), "a blizzard")
    at_jfk, at_lax = (days((origin, "2013-02-08")) for origin in ("JFK", "LAX"))

    storm, renamed, storm_and_feedback, feedback_elsewhere, feedback_alone = (
        exclusions.fingerprint(marked(year, known, expected))
        for known, expected in (
            ([STORM], NOBODY),
            ([reworded], NOBODY),
            ([STORM], at_jfk),
            ([STORM], at_lax),
            ([], at_jfk),
        )
    )

    assert storm == renamed == storm_and_feedback
    assert len({storm, feedback_elsewhere, feedback_alone}) == 3


KINDS = st.sampled_from([(False, False), (True, False), (False, True)])


@given(year=YEARS, flags=st.data())
def test_two_sets_of_excluded_days_share_a_fingerprint_only_when_they_are_the_same(
    year: list[tuple[str, date]], flags: st.DataObject
) -> None:
    frame = pd.DataFrame(year, columns=["origin", "fl_date"])
    one, other = (
        pd.DataFrame(
            flags.draw(st.lists(KINDS, min_size=len(year), max_size=len(year))), columns=["is_excluded", "is_expected"]
        )
        for _ in range(2)
    )

    is_same = exclusions.fingerprint(frame.join(one)) == exclusions.fingerprint(frame.join(other))

    assert is_same == one.equals(other)


# The file


def test_the_shipped_incidents_can_be_read_and_each_names_its_source() -> None:
    found = exclusions.read(SHIPPED)

    first_of_2001, sandy = found[0], found[1]
    assert (first_of_2001.airports, first_of_2001.first, first_of_2001.last) == (
        None,
        date(2001, 9, 11),
        date(2001, 9, 14),
    )
    assert sandy.airports is not None
    assert {"JFK", "LGA", "EWR", "PHL", "BOS"} <= sandy.airports
    assert SHIPPED.read_text().count("# Source: ") == len(found)


def test_the_shipped_incidents_leave_the_spring_of_2020_to_the_baselines() -> None:
    spring = days(("SFO", "2020-03-20"), ("JFK", "2020-04-15"))

    assert not exclusions.exclusions(spring, exclusions.read(SHIPPED), NOBODY)["is_excluded"].any()


def test_an_incident_of_one_day_needs_no_last_one(tmp_path: Path) -> None:
    path = written(tmp_path, "- airports: [JFK, 1G4]\n  first: 2013-02-08\n  note: ' snow '\n")

    assert exclusions.read(path) == [
        Incident(frozenset({"JFK", "1G4"}), date(2013, 2, 8), date(2013, 2, 8), "snow"),
    ]


def test_an_airport_whose_code_means_something_to_yaml_is_an_airport(tmp_path: Path) -> None:
    text = "- airports: [OFF, YES, 123, 1E4, 010]\n  first: '2013-02-08'\n  last: 2013-02-09\n  note: 1:30\n"

    found = exclusions.read(written(tmp_path, text))[0]

    assert found.airports == frozenset({"OFF", "YES", "123", "1E4", "010"})
    assert found.note == "1:30"


@pytest.mark.parametrize("text", ["", "# nothing known\n", "[]\n", "---\n"])
def test_a_file_without_incidents_has_none(tmp_path: Path, text: str) -> None:
    assert exclusions.read(written(tmp_path, text)) == []


GOOD = "- airports: all\n  first: 2013-02-08\n  last: 2013-02-09\n  note: snow\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("airports: all\n", "line 1: lines must have the form `- airports: all or a list`"),
        (GOOD + "- snow\n", "line 5: lines must have the form `airports, first, last, note: value`"),
        (GOOD + "- airports: all\n  frist: 2013-02-08\n", "line 6: an incident has no frist; it has airports, first,"),
        (GOOD + "- airports: all\n  note: snow\n", "line 5: this incident lacks first; write it down"),
        (GOOD + "-\n", "line 5: this incident lacks airports, first, note; write it down"),
        (GOOD.replace("all", "[JFK, jfk]"), "line 1: 'jfk' is no airport; write its three capital letters"),
        (GOOD.replace("all", "[JFK, [LGA]]"), "line 1: ['LGA'] is no airport"),
        (GOOD.replace("all", "\n  - JFK\n  - JF\n "), "line 3: 'JF' is no airport"),
        (GOOD.replace("all", "JFK"), "line 1: airports is 'JFK'; it must be all, or a list such as [JFK, LGA]"),
        (GOOD.replace("all", "[]"), "line 1: airports is []; it must be all, or a list"),
        (GOOD.replace("all", ""), "line 1: airports is ''; it must be all, or a list"),
        (GOOD.replace("2013-02-08", "8 February"), "line 2: first is '8 February'; it must be a day, such as 2013-"),
        (GOOD.replace("2013-02-08", "2013"), "line 2: first is '2013'; it must be a day, such as 2013-02-08"),
        (GOOD.replace("2013-02-08", "[]"), "line 2: first is []; it must be a day, such as 2013-02-08"),
        (GOOD.replace("2013-02-08", "2013-02-30"), "line 2: first is '2013-02-30'; it must be a day"),
        (GOOD.replace("2013-02-09", "2013-02-07"), "line 3: the incident ends before it begins, from 2013-02-08 to"),
        (GOOD.replace("2013-02-09", "2031-02-09"), "line 3: the incident lasts 6,576 days, from 2013-02-08 to 2031"),
        (GOOD.replace("snow", "''"), "line 4: note is empty or no text; say what happened"),
        (GOOD.replace("snow", "[snow]"), "line 4: note is empty or no text"),
        (GOOD + "  note: ice\n", 'line 5: this is not plain YAML (found duplicate key "note" with value "ice"'),
        (GOOD.replace("snow", "snow: ice"), "line 4: this is not plain YAML (mapping values are not allowed here)"),
        (GOOD.replace("snow", "!!python/name:os.sep"), "line 4: this is not plain YAML"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(InvalidInput) as caught:
        exclusions.read(path)

    assert f"{path}, {sentence}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"gone.yaml cannot be read"):
        exclusions.read(tmp_path / "gone.yaml")
