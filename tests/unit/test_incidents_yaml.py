"""dags/incidents.yaml: what it means, and which errors name which line."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from utils.analysis import exclusions
from utils.analysis.exclusions import Incident
from utils.errors import InvalidInput

SHIPPED = Path(__file__).parents[2] / "dags" / "incidents.yaml"
VALID = "- airports: all\n  first: 2013-02-08\n  last: 2013-02-09\n  note: snow\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "incidents.yaml"


def test_the_shipped_incidents_are_valid_and_each_names_its_source() -> None:
    incidents = exclusions.read(SHIPPED)

    attacks, sandy = incidents[:2]
    assert (attacks.airports, attacks.first, attacks.last) == (None, date(2001, 9, 11), date(2001, 9, 14))
    assert {"JFK", "LGA", "EWR", "PHL", "BOS"} <= (sandy.airports or frozenset())
    assert not any(incident.first.year == 2020 for incident in incidents), "the baselines follow a new level"
    assert SHIPPED.read_text().count("# Source: ") == len(incidents)


def test_codes_and_notes_are_texts_even_if_yaml_has_another_meaning_for_them(path: Path) -> None:
    path.write_text("- airports: [JFK, OFF, 123, 1E4, 010]\n  first: '2013-02-08'\n  note: 1:30\n")

    day = date(2013, 2, 8)  # without `last`, an incident has one day
    assert exclusions.read(path) == [Incident(frozenset({"JFK", "OFF", "123", "1E4", "010"}), day, day, "1:30")]


@pytest.mark.parametrize(
    ("text", "line", "named"),
    [
        ("airports: all\n", 1, "- airports"),
        (VALID + "- airports: all\n  frist: 2013-02-08\n", 6, "frist"),  # codespell:ignore
        (VALID + "-\n", 5, "airports, first, note"),
        (VALID.replace("all", "[JFK, jfk]"), 1, "'jfk'"),
        (VALID.replace("all", "\n  - JFK\n  - JF\n "), 3, "'JF'"),
        (VALID.replace("all", "[]"), 1, "airports"),
        (VALID.replace("2013-02-08", "2013"), 2, "'2013'"),
        (VALID.replace("2013-02-08", "2013-02-30"), 2, "2013-02-30"),
        (VALID.replace("2013-02-09", "2013-02-07"), 3, "2013-02-07"),
        (VALID.replace("2013-02-09", "2014-02-09"), 3, "367"),
        (VALID.replace("snow", "''"), 4, "note"),
        (VALID + "  note: ice\n", 5, "note"),
        (VALID.replace("snow", "snow: ice"), 4, "YAML"),
    ],
)
def test_an_invalid_entry_is_named_with_its_line(path: Path, text: str, line: int, named: str) -> None:
    path.write_text(text)

    with pytest.raises(InvalidInput) as caught:
        exclusions.read(path)

    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
