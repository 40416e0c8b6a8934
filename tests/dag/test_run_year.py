"""The year of a run: what the trigger form accepts, and which year a run of each type is for."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dag.test_run import states
from utils.storage.keys import FIRST_YEAR, LAST_YEAR

pytestmark = pytest.mark.filterwarnings("ignore")  # Airflow's own
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def year_of(run_type: str, asked: object = None, interval_start: datetime | None = None) -> int | None:
    from orchestration import run_year

    run = SimpleNamespace(run_type=run_type, run_after=NOW)
    return run_year.find({"params": {"year": asked}, "dag_run": run, "data_interval_start": interval_start})


def test_only_scheduled_runs_and_backfills_take_the_year_of_their_data_interval(airflow: None) -> None:
    from airflow.utils.types import DagRunType

    years = {
        run_type.value: year_of(run_type, interval_start=datetime(2018, 1, 1, tzinfo=UTC)) for run_type in DagRunType
    }

    assert {run_type for run_type, year in years.items() if year} == {"scheduled", "backfill"}
    assert set(years.values()) == {2018, None}


@pytest.mark.parametrize("run_type", ["manual", "scheduled", "backfill", "operator_triggered"])
@pytest.mark.parametrize("asked", [2013, "2013"], ids=["number, as by the API", "text, as by the form"])
def test_the_parameter_decides_in_every_run(airflow: None, run_type: str, asked: object) -> None:
    assert year_of(run_type, asked, datetime(2018, 1, 1, tzinfo=UTC)) == 2013


@given(st.integers(0, 9999) | st.sampled_from([FIRST_YEAR - 1, FIRST_YEAR, LAST_YEAR, LAST_YEAR + 1]))
def test_the_form_accepts_the_years_of_the_dataset_as_text_and_as_a_number(airflow: None, year: int) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    from orchestration import run_year

    accepted = []
    for value in (year, str(year)):
        with suppress(ParamValidationError):
            accepted.append(run_year.field("").resolve(value))

    assert accepted == ([year, str(year)] if FIRST_YEAR <= year <= LAST_YEAR else [])


def test_the_form_suggests_2009_to_last_year(airflow: None) -> None:
    from orchestration import run_year

    suggested = [int(year) for year in run_year.field("").schema["examples"]]

    assert suggested == list(range(2009, datetime.now(UTC).year))


@pytest.mark.parametrize("name", ["flight_anomalies", "fetch_bronze"])
@pytest.mark.parametrize("logical_date", [datetime.now(UTC), None], ids=["as by the UI", "as by the API"])
def test_a_manual_run_without_a_year_fails_at_once_and_lists_the_years_in_bronze(
    dags: dict[str, Any], lake: Path, capfd: pytest.CaptureFixture[str], name: str, logical_date: datetime | None
) -> None:
    (lake / "01_bronze/2011.csv.gz").write_bytes(b"")

    run = dags[name].test(logical_date=logical_date, run_conf={})

    ended = states(run)
    first = next(iter(dags[name].topological_sort())).task_id
    assert run.state == "failed"
    assert ended.pop(first) == ("failed", 1)
    assert ended.pop("clear_scratch", ("success", 1)) == ("success", 1)
    assert set(ended.values()) == {("upstream_failed", 0)}
    assert "has 2011, 2015." in capfd.readouterr().out
