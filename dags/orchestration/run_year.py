"""The year of a DAG run: the field `year` of the trigger form, reading it from a run, starting a run of it. No DAG."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from airflow import sdk
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk.exceptions import AirflowSkipException

from utils.errors import InvalidInput
from utils.settings import Settings
from utils.storage.keys import FIRST_YEAR, LAST_YEAR, check_year

FIRST_EXAMPLE_YEAR = 2009  # the first year of Kaggle's dataset
PATTERN = "^(198[7-9]|199[0-9]|20[0-9]{2}|2100)$"  # FIRST_YEAR to LAST_YEAR
INTERVAL_RUN_TYPES = ("scheduled", "backfill")


def is_monthly() -> bool:
    """Return True if the year is fetched and scored month by month. The DAG files call it when Airflow parses them."""
    return os.environ.get("DELAYWATCH_MONTHLY") == "1"


class RunYear(TriggerDagRunOperator):
    """Start `flight_anomalies` for the year in `conf`; skip if it is None. If cleared, it repeats the same run."""

    def __init__(self, **options: Any) -> None:  # noqa: D107
        super().__init__(trigger_dag_id="flight_anomalies", logical_date=None, reset_dag_run=True, **options)

    def execute(self, context: Any) -> None:  # noqa: D102
        if self.conf is None:
            raise AirflowSkipException("There is no year to run.")
        self.trigger_run_id = f"{self.conf['year']}_{context['run_id']}"
        super().execute(context)


def field(description: str) -> sdk.Param:
    """Return the field `year`. It suggests the years from 2009 to last year and accepts FIRST_YEAR to LAST_YEAR.

    The examples are fixed, because the form is built where the lake cannot be reached. The field accepts a string,
    because Airflow 3.3 shows no examples in a number field; the command line and the API may send an integer.
    """
    return sdk.Param(
        None,
        description=description,
        type=["null", "string", "integer"],
        examples=[str(year) for year in range(FIRST_EXAMPLE_YEAR, datetime.now(UTC).year)],
        pattern=PATTERN,
        minimum=FIRST_YEAR,
        maximum=LAST_YEAR,
    )


def find(context: Any) -> int | None:
    """Return the year of a run, or None if it has none.

    It is the parameter `year`. Without the parameter, a scheduled run or a backfill has the year of its data interval;
    for other runs the logical date is only the start time, so they have no year.
    """
    parameter = context["params"]["year"]
    if parameter is not None:
        return check_year(int(parameter))
    if context["dag_run"].run_type in INTERVAL_RUN_TYPES:
        return check_year(context["data_interval_start"].year)
    return None


def require(context: Any, settings: Settings) -> int:
    """Return the year of a run. Raises InvalidInput with the years in bronze if it has none."""
    from utils.pipeline import refine  # slow to import, and the DAG files import this module

    year = find(context)
    if year is None:
        years = ", ".join(map(str, refine.bronze_years(settings))) or "no year yet"
        raise InvalidInput(
            f"This run has no year. Trigger the DAG again and set the parameter year; "
            f"01_bronze/ of {settings.lake} has {years}."
        )
    return year
