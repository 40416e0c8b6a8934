"""Whole runs of a year in this process, with `dag.test()`, a lake in a folder and a real Postgres."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import sql
from tests.dag.conftest import CLOSED, STEPS
from tests.servers.receivers import webhook
from tests.steps import YEAR
from utils.monitoring import subscriptions
from utils.storage import keys


def states(run: Any) -> dict[str, tuple[str, int]]:
    """Return state and number of tries of every task instance, by the name that Airflow shows."""
    return {
        f"{instance.task_id} {instance.rendered_map_index or ''}".strip(): (str(instance.state), instance.try_number)
        for instance in run.get_task_instances()
    }


def test_a_run_publishes_its_year_and_sends_one_message_each_even_if_the_mail_server_is_down(
    read_dags: Callable[[], Any],
    lake: Path,
    bronze_csv: bytes,
    empty_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session

    (lake / f"01_bronze/{YEAR}.csv").write_bytes(bronze_csv)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", empty_database)
    monkeypatch.setenv("DELAYWATCH_ALERT_EMAIL", "ops@here.org")
    monkeypatch.setenv("DELAYWATCH_SMTP", "smtp://127.0.0.1:1")
    subscribers = tmp_path / "subscriptions.yaml"
    subscribers.write_text("- name: boston\n  channel: slack_boston\n  airports: [BOS]\n  send: digest\n")
    monkeypatch.setattr(subscriptions, "FILE", subscribers)
    with webhook() as hook, webhook() as slack:
        monkeypatch.setenv("DELAYWATCH_ALERT_WEBHOOK", hook.url)
        connection = {"conn_type": "http", "host": slack.url.removesuffix("/secret"), "password": "secret"}
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_BOSTON", json.dumps(connection))
        run = read_dags()["flight_anomalies"].test(run_conf={"year": str(YEAR), "detectors": ["three_sigma"]})

    detecting = ("detect three_sigma", "detect delaywatch")
    assert states(run) == dict.fromkeys((*detecting, *(step for step in STEPS if step != "detect")), ("success", 1))
    counts = sql(empty_database, "SELECT count(*), sum(scheduled) FROM flights.airport_days")
    assert counts == [(2 * 365, 26 * 365)]
    verdict = f"SELECT verdict FROM flights.agg_dep_delay_by_date WHERE id = 'BOS{CLOSED.replace('-', '')}'"
    assert sql(empty_database, verdict) == [("closure",)]
    assert sql(empty_database, "SELECT year, run_id FROM flights.runs") == [(YEAR, run.run_id)]
    assert (lake / keys.site_year_key(YEAR)).is_file()

    with create_session() as session:
        events = session.query(AssetEvent).filter(AssetEvent.source_run_id == run.run_id).all()
        announced = {event.asset.name: event.extra for event in events}
    assets = ("delaywatch_gold_airport_days", "delaywatch_warehouse_flights")
    assert announced == {asset: {"year": YEAR} for asset in assets}

    (message,) = hook.texts
    assert message.startswith(f"*Delaywatch {YEAR}: ")
    assert f"/dags/flight_anomalies/runs/{run.run_id[:10]}" in message
    assert "/tasks/" not in message  # the link shows the run, not its last task
    assert f"Lake: {lake.as_uri()}" in message
    assert (lake / keys.alerts_key(YEAR)).is_file()
    assert "mail server 127.0.0.1:1" in caplog.text
    (digest,) = slack.texts
    assert digest.startswith(f"*Delaywatch: December {YEAR} at BOS*\n")
