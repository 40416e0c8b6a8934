"""/flights/api/: rows equal those of SQL, as JSON and CSV, in pages; parameters are checked."""

from __future__ import annotations

import csv
import io

import pytest

from tests.conftest import sql
from tests.integration.web.conftest import Visit
from utils import schemas
from utils.settings import Settings
from utils.web.api import as_csv


def rows_of(admin: Visit, path: str) -> list[dict[str, object]]:
    answer = admin.get(f"/flights/api/{path}")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["rows"])


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("days?limit=2000", "SELECT count(*), sum(scheduled), sum(cancelled) FROM flights.airport_days"),
        (
            "days?airport=EWR&limit=2000",
            "SELECT count(*), sum(scheduled), sum(cancelled) FROM flights.airport_days WHERE origin = 'EWR'",
        ),
        (
            "days?airport=EWR&day=2015-02-08",
            "SELECT count(*), sum(scheduled), sum(cancelled) FROM flights.airport_days "
            "WHERE origin = 'EWR' AND fl_date = '2015-02-08'",
        ),
        (
            "days?is_abnormal=true",
            "SELECT count(*), sum(scheduled), sum(cancelled) FROM flights.anomaly_reasons WHERE direction <> 'early'",
        ),
        ("reasons?year=2015", "SELECT count(*), sum(scheduled), sum(cancelled) FROM flights.anomaly_reasons"),
        ("events?year=2015", "SELECT count(*), sum(scheduled), sum(cancelled) FROM flights.events"),
        ("airports", "SELECT 3, sum(scheduled), sum(cancelled) FROM flights.airport_days"),
        ("years", "SELECT 1, sum(scheduled), sum(cancelled) FROM flights.airport_days"),
        ("days?year=2014", "SELECT 0, 0, 0"),
        ("events?event=20150208-XXX", "SELECT 0, 0, 0"),
    ],
)
def test_rows_equal_sql(admin: Visit, done: Settings, path: str, query: str) -> None:
    rows = rows_of(admin, path)

    sums = [sum(int(str(row[name])) for row in rows) for name in ("scheduled", "cancelled")]
    assert [(len(rows), *sums)] == sql(done.warehouse, query)


def test_a_day_has_the_columns_and_values_of_the_view(admin: Visit, done: Settings) -> None:
    (row,) = rows_of(admin, "days?airport=EWR&day=2015-02-08")

    (expected,) = sql(
        done.warehouse,
        "SELECT score, expected, verdict, sentence, event FROM flights.agg_dep_delay_by_date WHERE id = 'EWR20150208'",
    )
    assert tuple(row[name] for name in ("score", "expected", "verdict", "sentence", "event")) == expected
    assert row["fl_date"] == "2015-02-08"
    assert set(schemas.AIRPORT_DAYS.names) < row.keys()


def test_csv_has_the_same_rows_as_json(admin: Visit) -> None:
    answer = admin.get("/flights/api/days?airport=EWR&format=csv")

    table = list(csv.DictReader(io.StringIO(answer.text)))
    rows = rows_of(admin, "days?airport=EWR")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "days.csv" in answer.headers["Content-Disposition"]
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows] == table


def test_pages_of_rows_join_to_the_whole(admin: Visit) -> None:
    whole, parts, offset = rows_of(admin, "days?airport=EWR"), [], 0
    while offset is not None:
        body = admin.get(f"/flights/api/days?airport=EWR&limit=150&offset={offset}").json()
        parts += body["rows"]
        offset = body["next_offset"]

    assert parts == whole
    assert len(whole) == 365


@pytest.mark.security
@pytest.mark.parametrize(
    "parameters",
    [
        *(
            "airport=ewr",
            "airport=EWR'--",
            "airport=%00",
            "airport=EWRXX",
            "year=1",
            "year=x",
            "year=2015.0",
            "year=1e3",
        ),
        *("day=2015-02-30", "day=0", "day=1422748800", "day=20150208", "limit=0", "limit=5001", "limit=-1", "limit=x"),
        *("offset=-1", "offset=99999999999", "format=xml", "is_abnormal=maybe", "limit=+5", "limit=1_0"),
    ],
)
def test_an_invalid_parameter_is_named_and_its_value_is_not_repeated(admin: Visit, parameters: str) -> None:
    answer = admin.get(f"/flights/api/days?{parameters}")

    name, _, value = parameters.partition("=")
    assert answer.status_code == 422
    assert [fault["parameter"] for fault in answer.json()["detail"]] == [name]
    assert answer.headers["Content-Type"] == "application/json"
    assert len(value) < 5 or value not in answer.text


def test_the_description_names_every_table_and_parameter(admin: Visit) -> None:
    paths = admin.get("/flights/api/openapi.json").json()["paths"]

    assert {path.removeprefix("/flights/api/") for path in paths} == {"days", "reasons", "events", "airports", "years"}
    names = {parameter["name"] for parameter in paths["/flights/api/days"]["get"]["parameters"]}
    assert names == {"airport", "year", "day", "is_abnormal", "limit", "offset", "format"}
    page = admin.get("/flights/api/docs").text
    assert [path for path in paths if path not in page] == []


@pytest.mark.security
def test_a_text_that_a_spreadsheet_would_execute_is_marked() -> None:
    text = as_csv([{"note": '=HYPERLINK("x")', "number": -1.5}], ["note", "number"])

    assert list(csv.reader(io.StringIO(text)))[1] == ['\'=HYPERLINK("x")', "-1.5"]
