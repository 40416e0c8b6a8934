"""The DAG that downloads years: when it waits, what it writes to bronze, and which runs it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.builders import flight
from tests.dag.conftest import call, context_of
from tests.servers.bureau import Bureau, month_path, serving, year_of_zips
from utils.errors import InvalidInput, Missing, Unavailable
from utils.settings import Settings
from utils.sources.fetch import into_bronze

SCHEDULED = context_of("scheduled", interval_start=datetime(2015, 1, 1, tzinfo=UTC))
BY_HAND = b"a file that a person put there"


@pytest.fixture
def bureau(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bureau]:
    """A Bureau that has published 2015."""
    with serving(Bureau()) as server:
        server.files = year_of_zips([flight(FL_DATE=f"2015-{month:02}-04") for month in range(1, 13)])
        monkeypatch.setenv("DELAYWATCH_BTS_URL", f"{server.url}/PREZIP")
        yield server


@pytest.fixture
def monthly(read_dags: Callable[[], Any], bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The DAGs, parsed with the monthly schedule, and a Bureau that has also published January and February 2016."""
    bureau.publish(flight(FL_DATE=f"2016-{month:02}-04") for month in (1, 2))
    monkeypatch.setenv("DELAYWATCH_MONTHLY", "1")
    return read_dags()


def scheduled(year: int, month: int) -> Any:
    return context_of("scheduled", interval_start=datetime(year, month, 1, tzinfo=UTC))


def wait(dags: Any, context: Any) -> Any:
    return call(dags["fetch_bronze"].get_task("wait_for_publication"), context)


def fetch(dags: Any, context: Any) -> list[int]:
    """Run the sensor and `fetch`; return the years that `run_year` starts."""
    targets = wait(dags, context).xcom_value
    results = [call(dags["fetch_bronze"].get_task("fetch"), context, **target) for target in targets]
    return [result["year"] for result in results if result]


def runs_of_flight_anomalies() -> dict[str, tuple[Any, str]]:
    """Return parameters and state by the name of the run, for the runs that another DAG started."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        runs = session.query(DagRun).filter(
            DagRun.dag_id == "flight_anomalies", DagRun.run_type == "operator_triggered"
        )
        return {run.run_id: (run.conf, str(run.state)) for run in runs}


# --- once a year ------------------------------------------------------------------------------------------------------


def test_a_scheduled_run_waits_until_december_is_published_and_then_fetches(
    dags: Any, bureau: Bureau, lake: Path
) -> None:
    december = bureau.files.pop(month_path(2015, 12))
    assert not wait(dags, SCHEDULED).is_done

    bureau.files[month_path(2015, 12)] = december

    assert wait(dags, SCHEDULED).is_done
    assert fetch(dags, SCHEDULED) == []  # the scheduled run of flight_anomalies waits for the file
    assert (lake / "01_bronze/2015.csv").read_text().count("\n2015-") == 12


def test_a_scheduled_run_keeps_a_file_that_is_there_and_sends_no_request(dags: Any, bureau: Bureau, lake: Path) -> None:
    (lake / "01_bronze/2015.csv.gz").write_bytes(BY_HAND)

    assert wait(dags, SCHEDULED).is_done
    assert fetch(dags, SCHEDULED) == []
    assert [path.name for path in (lake / "01_bronze").iterdir()] == ["2015.csv.gz"]
    assert bureau.requests == []


def test_a_scheduled_run_of_flight_anomalies_waits_while_bronze_has_only_the_first_months(
    dags: Any, bureau: Bureau, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAYWATCH_WAREHOUSE", "postgresql://nobody@127.0.0.1:1/nothing")
    december = bureau.files.pop(month_path(2015, 12))
    into_bronze(Settings.from_environment(), 2015, so_far=True)
    assert call(dags["flight_anomalies"].get_task("wait_for_bronze"), SCHEDULED).is_done is False

    bureau.files[month_path(2015, 12)] = december
    fetch(dags, SCHEDULED)

    assert call(dags["flight_anomalies"].get_task("wait_for_bronze"), SCHEDULED).is_done is True


def test_a_manual_run_fails_instead_of_waiting_if_the_year_is_not_published(
    dags: Any, bureau: Bureau, lake: Path
) -> None:
    assert wait(dags, context_of("manual", 2016)).is_done
    with pytest.raises(Missing, match=r"_2016_12\.zip"):
        fetch(dags, context_of("manual", 2016))


def test_a_manual_run_replaces_the_file_of_a_person_only_with_replace(dags: Any, bureau: Bureau, lake: Path) -> None:
    bronze = lake / "01_bronze/2015.csv"
    bronze.write_bytes(BY_HAND)

    with pytest.raises(InvalidInput, match="replace"):
        fetch(dags, context_of("manual", 2015))
    assert bronze.read_bytes() == BY_HAND

    fetch(dags, context_of("manual", 2015, replace=True))

    assert bronze.read_bytes() != BY_HAND


# --- once a month -----------------------------------------------------------------------------------------------------


def test_the_switch_gives_fetch_bronze_a_monthly_schedule_and_flight_anomalies_none(
    read_dags: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    schedules = []
    for value in ("1", "0", ""):
        monkeypatch.setenv("DELAYWATCH_MONTHLY", value)
        dags = read_dags()
        timetables = (dags[name].timetable for name in ("fetch_bronze", "flight_anomalies"))
        schedules.append([getattr(timetable, "expression", None) for timetable in timetables])

    yearly = "0 0 1 1 *"
    assert schedules == [["0 0 1 * *", None], [yearly, yearly], [yearly, yearly]]


@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
def test_a_monthly_run_waits_for_its_month_and_fetches_the_year_so_far(
    monthly: Any, bureau: Bureau, lake: Path, run_type: str
) -> None:
    march = context_of(run_type, interval_start=datetime(2016, 3, 1, tzinfo=UTC))
    assert not wait(monthly, march).is_done

    bureau.publish([flight(FL_DATE="2016-03-04")])
    bureau.withdraw(2016, 2)

    assert fetch(monthly, march) == [2016]
    csv = (lake / "01_bronze/2016.csv").read_text()
    assert [day in csv for day in ("2016-01-04", "2016-02-04", "2016-03-04")] == [True, False, True]


def test_a_monthly_run_runs_the_years_that_changed_also_the_year_before(
    monthly: Any, bureau: Bureau, lake: Path
) -> None:
    fetch(monthly, context_of("manual", 2015))
    assert fetch(monthly, scheduled(2016, 1)) == [2016]
    assert fetch(monthly, scheduled(2016, 2)) == []

    bureau.publish([flight(FL_DATE="2015-11-04"), flight(FL_DATE="2015-11-05")])

    assert fetch(monthly, scheduled(2016, 2)) == [2015]


def test_an_interrupted_fetch_reports_the_year_when_it_is_repeated(monthly: Any, bureau: Bureau, lake: Path) -> None:
    context = scheduled(2016, 2)
    (target,) = wait(monthly, context).xcom_value
    task = monthly["fetch_bronze"].get_task("fetch")

    first, repeated = (call(task, context, **target) for _ in range(2))

    assert first == repeated == {"year": 2016}


def test_a_monthly_run_keeps_the_file_of_a_person(monthly: Any, bureau: Bureau, lake: Path) -> None:
    (lake / "01_bronze/2016.csv").write_bytes(BY_HAND)

    assert fetch(monthly, scheduled(2016, 2)) == []
    assert (lake / "01_bronze/2016.csv").read_bytes() == BY_HAND


def test_a_damaged_year_before_is_an_error_and_does_not_stop_the_year(monthly: Any, bureau: Bureau, lake: Path) -> None:
    fetch(monthly, context_of("manual", 2015))
    bureau.publish([flight(FL_DATE="2015-11-05")])
    bureau.damage_next(2015, 11)
    context, task = scheduled(2016, 2), monthly["fetch_bronze"].get_task("fetch")
    this_year, year_before = wait(monthly, context).xcom_value

    with pytest.raises(Unavailable, match=r"_2015_11\.zip"):
        call(task, context, **year_before)
    assert call(task, context, **this_year) == {"year": 2016}
    assert call(task, context, **year_before) == {"year": 2015}


def test_a_changed_file_starts_one_run_with_the_year_in_its_name_and_a_cleared_task_repeats_it(
    read_dags: Callable[[], Any], bureau: Bureau, lake: Path
) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    started, before = [], set(runs_of_flight_anomalies())
    conf, start = {"year": 2015, "so_far": True}, datetime(2026, 3, 4, tzinfo=UTC)
    bureau.withdraw(2015, 12)
    for published in ([], [flight(FL_DATE="2015-12-04")]):
        bureau.publish(published)
        fetched = read_dags()["fetch_bronze"].test(logical_date=start, run_after=start, run_conf=conf)
        started.append({name: run for name, run in runs_of_flight_anomalies().items() if name not in before})
        with create_session() as session:
            session.query(DagRun).filter(DagRun.run_id.in_(started[-1])).update({"state": "success"})
    unchanged = read_dags()["fetch_bronze"].test(run_conf=conf)

    name = f"2015_{fetched.run_id}"
    assert started == [{name: ({"year": 2015}, "queued")}] * 2
    assert {*runs_of_flight_anomalies()} - before == {name}
    states = {instance.task_id: str(instance.state) for instance in unchanged.get_task_instances()}
    assert states == {"wait_for_publication": "success", "fetch": "success", "run_year": "skipped"}
