"""The whole stack, used as its users do: `make` on the host, Chromium and programs through nginx and TLS.

The tests run in the order of this file, and each needs what those before it have left. test_edge.py tests unusual
requests to nginx, and test_bad_start.py starts that must fail. Where no image registry is reachable, the base images
are stand-ins.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import APIRequestContext, Locator, Page, Response, expect

from tests.e2e import visitor
from tests.e2e.installation import INNER_PORTS, Installation, answering, wait_until
from utils import detectors, schemas

pytestmark = pytest.mark.e2e

AIRFLOW = {"airflow-apiserver", "airflow-dag-processor", "airflow-scheduler"}
LASTING = AIRFLOW | {"health", "nginx", "postgres", "s3", "superset"}
ASSETS = Path(__file__).parents[2] / "superset" / "assets"
AIRPORTS = ("EWR", "JFK", "LGA")
ENDED_OR_WAITING = {"success", "failed", "up_for_reschedule", "up_for_retry"}
LEFT_TO_UPSTREAM = ("appbuilder.app is deprecated", "ASGI app factory detected")  # docs/operation.md
ON_A_BUSY_HOST = "Starting call to 'airflow.sdk.api.client.Client.request'"  # again, because no answer came within 5 s
DAYS = 365  # of 2013, on each of which every airport of the demo has flights
JUPYTER_UID = 50000  # of our image; root's files are given to it, because Jupyter does not run as root
PNG = b"\x89PNG\r\n\x1a\n".hex()


@pytest.fixture(scope="module", autouse=True)
def started() -> str:
    return datetime.now(UTC).isoformat()


# --- make up ----------------------------------------------------------------------------------------------------------


def test_make_up_on_a_fresh_clone_says_where_everything_is(welcome: str, clone: Installation) -> None:
    assert not (clone.folder / ".env").exists()
    assert f"{clone.url}/ " in welcome
    assert f"{clone.url}/airflow/" in welcome
    assert "admin" in welcome
    assert "make password" in welcome
    assert clone.password() not in welcome


def test_every_lasting_service_is_healthy_and_nginx_alone_publishes_ports(stack: Installation) -> None:
    containers = stack.containers()

    assert {name for name, container in containers.items() if container.is_healthy} == LASTING
    published = {name: container.ports for name, container in containers.items() if "->" in container.ports}
    assert published.keys() == {"nginx"}
    addresses = re.findall(r"(\S+)->", published["nginx"])
    assert sorted(addresses) == sorted(f"127.0.0.1:{port}" for port in (stack.http_port, stack.https_port))


def test_no_secret_is_a_default_or_stands_in_the_clone(stack: Installation, project: str, tmp_path: Path) -> None:
    """A default would be the same in another installation, or be written somewhere."""
    other = Installation.fresh(tmp_path / "clone", f"{project}-other")
    try:
        other.compose("run", "--rm", "--no-deps", "-T", "setup")
        others = set(other.secrets().values())
    finally:
        other.remove()

    secrets = stack.secrets()

    assert not set(secrets.values()) & others
    assert len(set(secrets.values())) == len(secrets)
    assert all(len(secret) >= 20 for secret in secrets.values())
    files = [path.read_bytes() for path in stack.folder.rglob("*") if path.is_file()]
    assert not [name for name, secret in secrets.items() if any(secret in content for content in files)]


def test_no_task_of_the_first_start_fails_because_the_api_server_does_not_answer_yet(stack: Installation) -> None:
    started = (
        "SELECT dag_id, state, try_number FROM task_instance WHERE task_id IN ('wait_for_bronze', 'wait_for_quiet')"
    )

    def tasks() -> dict[str, tuple[str, str]]:
        return {row["dag_id"]: (row["state"], row["try_number"]) for row in stack.psql("airflow", started)}

    wait_until(
        lambda: {state for state, _ in tasks().values()} <= ENDED_OR_WAITING, "both runs have begun", patience_s=120
    )

    assert tasks() == {"flight_anomalies": ("up_for_reschedule", "1"), "retention": ("success", "1")}


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/login/", "/airflow/", "/airflow/api/v2/version", "/jupyter/", "/health"])
def test_plain_http_leads_to_tls_and_serves_nothing_else(
    stack: Installation, client: APIRequestContext, path: str
) -> None:
    answer = client.get(f"http://localhost:{stack.http_port}{path}")

    assert answer.status in {301, 308}
    assert answer.headers["location"] == f"{stack.url}{path}"
    assert "nginx" in answer.text()
    assert not {"Airflow", "Superset", "Jupyter"} & set(answer.text().split())


@pytest.mark.parametrize(("user", "password"), [("admin", "admin"), ("airflow", "airflow")])
def test_airflow_refuses_default_passwords(client: APIRequestContext, user: str, password: str) -> None:
    answer = client.post("/airflow/auth/token", data={"username": user, "password": password})

    assert answer.status == 401
    assert "access_token" not in answer.text()


@pytest.mark.parametrize(("user", "password"), [("admin", "admin"), ("admin", "superset")])
def test_superset_refuses_default_passwords(client: APIRequestContext, user: str, password: str) -> None:
    answer = client.post(
        "/api/v1/security/login", data={"username": user, "password": password, "provider": "db", "refresh": False}
    )

    assert answer.status == 401
    assert "access_token" not in answer.text()


def test_the_generated_password_opens_airflow_and_superset(stack: Installation, client: APIRequestContext) -> None:
    assert airflow_token(client, stack.password())
    assert superset_token(client, stack.password())


def test_the_inner_ports_are_closed_on_the_host(stack: Installation, answering_before: set[int]) -> None:
    """What another program of this host listens on was open before."""
    assert answering() <= answering_before
    assert len(answering_before) < len(INNER_PORTS)


@pytest.mark.parametrize(
    "path",
    [
        "/airflow/execution/",
        "/airflow/execution/health",
        "/airflow/execution/docs",
        "/airflow/execution/task-instances/1/run",
    ],
)
def test_the_execution_api_is_closed_even_for_the_administrator(
    stack: Installation, client: APIRequestContext, path: str
) -> None:
    token = airflow_token(client, stack.password())

    answer = client.fetch(path, method="PATCH", headers={"Authorization": f"Bearer {token}"}, data={})

    assert answer.status == 404
    assert "nginx" in answer.text()


def test_the_object_store_answers_only_signed_s3_requests_on_its_network(stack: Installation) -> None:
    """The gRPC port of S3 can add keys. SeaweedFS cannot close it, so it must refuse every client."""
    store = stack.inside("store.py")

    assert set(store["ports"]) - {18333} == {8333}
    assert store["status"] == {"right": 200, "unsigned": 403, "wrong": 403, "wrong secret": 403}
    assert store["grpc without TLS"] == ""
    assert store["grpc accepts TLS"] is False


def test_a_step_with_wrong_s3_keys_fails_and_names_them(stack: Installation) -> None:
    wrong = ("-e", f"AWS_ACCESS_KEY_ID={'A' * 20}", "-e", f"AWS_SECRET_ACCESS_KEY={'b' * 40}")
    step = ("airflow-scheduler", "python", "-m", "utils", "silver", "--year", "2013")

    done = stack.run(["docker", "compose", "exec", "-T", *wrong, *step])

    complaint = done.stderr.decode()
    assert done.returncode == 1
    assert complaint.startswith("Error: ")
    assert "AWS_ACCESS_KEY_ID" in complaint
    assert "Traceback" not in complaint


def test_cookies_travel_by_tls_alone_and_a_session_is_not_for_scripts(stack: Installation, page: Page) -> None:
    visitor.log_in_to_superset(page, stack.url, stack.password())
    visitor.log_in_to_airflow(page, stack.url, stack.password())
    found = page.context.cookies()
    sessions = [cookie for cookie in found if "session" in cookie.get("name", "") or "token" in cookie.get("name", "")]

    assert len(sessions) >= 2
    assert [cookie.get("name") for cookie in found if not cookie.get("secure")] == []
    assert [cookie.get("name") for cookie in sessions if not cookie.get("httpOnly")] == []


# --- dashboards before the first run ----------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", ["flight-anomalies", "network"])
def test_an_empty_dashboard_says_what_to_do_next(stack: Installation, page: Page, slug: str) -> None:
    visitor.log_in_to_superset(page, stack.url, stack.password())

    open_dashboard(page, stack.url, slug)

    notice = page.locator('[data-test-chart-name="About the chosen years"] td')
    expect(notice).to_be_visible()
    expect(notice).to_contain_text("trigger the DAG flight_anomalies")
    visitor.picture(page, f"superset-{slug}-empty")


# --- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_triggered_in_airflows_ui_ends_in_success(stack: Installation, page: Page) -> None:
    dag = "/airflow/dags/flight_anomalies"
    visitor.log_in_to_airflow(page, stack.url, stack.password())
    trigger = page.get_by_role("button", name="Trigger Dag")
    visitor.visit(page, f"{stack.url}{dag}", trigger)
    trigger.click()
    form = page.get_by_role("dialog")
    year = form.locator("#element_year")
    suggested = form.locator(f"#{year.get_attribute('list')} option")
    expect(suggested.first).to_have_text("2009")
    year.fill("2013")
    year.press("Tab")
    visitor.picture(page, "airflow-trigger")
    with page.expect_response(lambda answer: answer.request.method == "POST" and "/dagRuns" in answer.url) as asked:
        form.get_by_role("button", name="Trigger", exact=True).click()
    run = asked.value.json()
    assert run["conf"]["year"] == "2013"

    visitor.visit(page, f"{stack.url}{dag}/runs/{run['dag_run_id']}", page.get_by_text(run["dag_run_id"]).first)

    def state() -> str:
        found = page.request.get(f"{stack.url}/airflow/api/v2/dags/flight_anomalies/dagRuns/{run['dag_run_id']}")
        return str(found.json()["state"])

    visitor.until(page, lambda: state() in {"success", "failed"}, "the run ends")
    assert state() == "success"
    tasks = 8 + len(detectors.NAMES)
    expect(page.get_by_role("heading", name=f"{tasks} Task Instances")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="Success")).to_have_count(tasks)
    visitor.picture(page, "airflow-run")


def test_the_rows_in_postgres_are_those_of_gold_in_the_lake(stack: Installation) -> None:
    """Every value of every column; the program reads both sides itself."""
    tables = stack.inside("comparison.py")

    for name, schema, rows in (
        ("airport_days", schemas.AIRPORT_DAYS, len(AIRPORTS) * DAYS),
        ("anomalies", schemas.WAREHOUSE_ANOMALIES, len(AIRPORTS) * DAYS * len(detectors.NAMES)),
    ):
        found = tables[name]
        assert found["rows of gold"] == found["rows of postgres"] == rows
        assert found["columns of gold"] == found["columns of postgres"] == sorted(schema.names)
        assert found["keys of one side alone"] == []
        assert found["differing values"] == []


def test_plots_and_year_page_are_in_the_lake(stack: Installation) -> None:
    objects = stack.inside("objects.py")

    for airport in AIRPORTS:
        for name in ("daily_flights.png", "daily_delay.png"):
            size, _, first_bytes = objects[f"04_plots/year=2013/origin={airport}/{name}"]
            assert first_bytes.startswith(PNG)
            assert size > 10_000
    size, _, first_bytes = objects["04_plots/year=2013/index.html"]
    assert bytes.fromhex(first_bytes).lower().startswith(b"<!doctype html>")


def test_make_status_shows_the_health_and_the_year(stack: Installation) -> None:
    said = stack.made("status")

    assert all(f"{service} " in said for service in LASTING)
    assert "2013" in said


def test_make_health_says_of_everything_that_it_is_well(stack: Installation) -> None:
    said = stack.made("health").splitlines()

    assert {tuple(line.split()[:2]) for line in said} == {
        ("ok", what) for what in ("bronze", "run", "warehouse", "disk", "certificate", "backup")
    }


def test_who_watches_from_outside_is_told_one_word_without_a_login(client: APIRequestContext) -> None:
    wait_until(lambda: client.get("/health").status == 200, "/health is well", patience_s=90)  # it looks once a minute

    assert client.get("/health").text() == "ok\n"


def test_a_second_make_up_changes_nothing(stack: Installation, client: APIRequestContext) -> None:
    token = superset_token(client, stack.password())
    before = {**state_of(stack), "assets": assets_of(client, token)}
    assert before["assets"]

    stack.made("up")

    after = {**state_of(stack), "assets": assets_of(client, token)}
    for part, content in before.items():
        assert after[part] == content


def test_the_logs_hold_no_warning_but_those_that_only_a_new_release_of_airflow_ends(
    stack: Installation, started: str
) -> None:
    """Superset's from the start of this module: test_public.py asks for all its routes, which it warns about."""
    said = stack.compose("logs", "--no-log-prefix", *AIRFLOW) + stack.compose(
        "logs", "--no-log-prefix", "--since", started, "superset"
    )
    warnings = [line for line in said.decode().splitlines() if re.search(r"\[warning +\]|:WARNING:", line)]

    about_the_file = "utils.pipeline"  # the warnings of the quality report
    known = (*LEFT_TO_UPSTREAM, ON_A_BUSY_HOST, about_the_file)
    assert [line for line in warnings if not any(message in line for message in known)] == []


# --- dashboards -------------------------------------------------------------------------------------------------------


def test_what_people_say_of_days_is_kept(stack: Installation) -> None:
    for airport, day, opinion in (
        ("LGA", "2013-02-09", "right"),
        ("LGA", "2013-03-08", "expected"),
        ("LGA", "2013-07-23", "wrong"),
        ("EWR", "2013-02-08", "right"),
    ):
        feedback = ("python", "-m", "utils", "feedback", airport, day, opinion, "--author", "anna")
        stack.compose("exec", "-T", "airflow-scheduler", *feedback)

    kept = stack.psql(
        "warehouse", "SELECT origin || ' ' || fl_date || ' ' || opinion AS said FROM flights.feedback ORDER BY 1"
    )

    assert [row["said"] for row in kept] == [
        "EWR 2013-02-08 right",
        "LGA 2013-02-09 right",
        "LGA 2013-03-08 expected",
        "LGA 2013-07-23 wrong",
    ]


@pytest.mark.parametrize("slug", ["flight-anomalies", "network"])
def test_every_chart_of_a_dashboard_has_data(stack: Installation, page: Page, slug: str) -> None:
    asked: list[Response] = []
    page.on("response", lambda answer: asked.append(answer) if "/api/v1/chart/data" in answer.url else None)
    visitor.log_in_to_superset(page, stack.url, stack.password())
    open_dashboard(page, stack.url, slug)
    titles = {chart["id"]: chart["slice_name"] for chart in charts(page, stack.url, slug)}
    wanted = titles_in_assets(slug)
    assert set(titles.values()) == set().union(*wanted.values())

    def shown() -> set[str]:
        forms = [form_of(answer) for answer in asked]
        return {titles[form["slice_id"]] for form in forms if form.get("slice_id") in titles}

    for tab, of_tab in wanted.items():
        open_tab(page, tab)
        see_data(page, shown, of_tab, f"all charts of {slug}, {tab}")
        visitor.picture(page, f"superset-{slug}-{tab.lower().replace(' ', '-')}")

    assert {answer.status for answer in asked} == {200}
    assert not [form_of(answer) for answer in asked if not rows_of(answer)]


def see_data(page: Page, shown: Callable[[], set[str]], wanted: set[str], what: str) -> None:
    """Wait until all charts of the tab that is open have come, and see that each shows something."""
    visitor.until(page, lambda: wanted <= shown() and not is_loading(page), what)
    for title in wanted:
        chart = page.locator(f'[data-test-chart-name="{title}"]')
        expect(chart.locator("canvas, table, .header-line").first).to_be_visible()
        expect(chart.get_by_role("alert")).to_have_count(0)
        expect(chart.get_by_text("No results")).to_have_count(0)
        for part in chart.locator("[role=presentation]:has(> table)").all():
            assert part.evaluate("part => part.scrollHeight - part.clientHeight") <= 1, f"{title} cuts its last row"


@pytest.mark.parametrize("slug", ["flight-anomalies", "network"])
def test_a_dashboard_says_that_the_chosen_year_is_complete(stack: Installation, page: Page, slug: str) -> None:
    visitor.log_in_to_superset(page, stack.url, stack.password())

    open_dashboard(page, stack.url, slug)

    notice = page.locator('[data-test-chart-name="About the chosen years"] td')
    expect(notice).to_be_visible()
    expect(notice).to_contain_text(re.compile(r"2013 \(336,776 flights, 3 airports.*\) is complete"))


def test_the_figures_of_the_dashboard_are_those_of_sql(stack: Installation, page: Page) -> None:
    """Of LaGuardia, which the dashboard shows first; the effective delay weighs each day by its flights."""
    (day_figures,) = stack.psql(
        "warehouse",
        """
        SELECT to_char(sum(scheduled), 'FM999,999') AS flights,
               to_char(100.0 * sum(cancelled) / sum(scheduled), 'FM90.0%') AS cancelled,
               to_char(sum(mean_effective_delay_min * scheduled) / sum(scheduled), 'FM90.0') AS delay
        FROM flights.airport_days WHERE origin = 'LGA' AND extract(year FROM fl_date) = 2013
        """,
    )
    (judged,) = stack.psql(
        "warehouse",
        """
        SELECT count(*) AS abnormal FROM flights.anomalies
        WHERE origin = 'LGA' AND extract(year FROM fl_date) = 2013 AND detector = 'delaywatch' AND is_anomaly
        """,
    )
    visitor.log_in_to_superset(page, stack.url, stack.password())

    open_dashboard(page, stack.url, "flight-anomalies")

    for title, figure in {
        "Flights": day_figures["flights"],
        "Cancelled": day_figures["cancelled"],
        "Delay": day_figures["delay"],
        "Abnormal": judged["abnormal"],
    }.items():
        expect(page.locator(f'[data-test-chart-name="{title}"] .header-line')).to_have_text(figure)


def test_an_abnormal_day_says_why_and_that_it_was_expected(stack: Installation, page: Page) -> None:
    (day,) = stack.psql(
        "warehouse",
        """
        SELECT sentence, event FROM flights.agg_dep_delay_by_date
        WHERE origin = 'LGA' AND fl_date = '2013-03-08' AND is_acknowledged
        """,
    )
    visitor.log_in_to_superset(page, stack.url, stack.password())

    open_dashboard(page, stack.url, "flight-anomalies")

    row = page.locator('[data-test-chart-name^="Abnormal days and why"] tbody tr').filter(has_text="08 Mar 2013")
    _, _, why = day["sentence"].partition(": ")  # what stands before it has columns of its own
    expect(row).to_contain_text(why)
    expect(row).to_contain_text(day["event"])
    expect(row).to_contain_text("acknowledged")


def test_what_made_the_days_is_that_of_sql(stack: Installation, page: Page) -> None:
    """The first carrier of LaGuardia's abnormal days, and that the file of this year names no causes."""
    (first,) = stack.psql(
        "warehouse",
        """
        SELECT name, to_char(sum(excess_delay_min::numeric), 'FM999,999,990') AS minutes,
               to_char(sum(excess_cancelled::numeric), 'FM999,990.0') AS cancelled, sum(scheduled) AS flights
        FROM flights.anomaly_factors
        WHERE origin = 'LGA' AND extract(year FROM fl_date) = 2013 AND dimension = 'carrier'
        GROUP BY name ORDER BY sum(excess_delay_min) + 120 * sum(excess_cancelled) DESC LIMIT 1
        """,
    )
    visitor.log_in_to_superset(page, stack.url, stack.password())
    open_dashboard(page, stack.url, "flight-anomalies")

    open_tab(page, "Why")

    expect(cells(page, "Excess by carrier")).to_have_text(list(first.values()))
    expect(page.locator('[data-test-chart-name="Excess by cause"]')).to_contain_text("the year's file names no causes")


def test_choosing_an_abnormal_day_shows_what_made_that_one(stack: Installation, page: Page) -> None:
    visitor.log_in_to_superset(page, stack.url, stack.password())
    open_dashboard(page, stack.url, "flight-anomalies")
    open_tab(page, "Why")
    days = page.locator('[data-test-chart-name="Observed against usual"] tbody tr')
    expect(days.filter(has_text="09 Feb 2013")).to_have_count(1)

    page.locator('.ant-select[aria-label="NATIVE_FILTER-abnormal-day"]').click()
    page.get_by_title("2013-03-08 LGA", exact=True).first.click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Apply").click()

    expect(days).to_have_count(1)
    expect(days).to_contain_text("08 Mar 2013")


def test_the_events_of_the_year_are_those_of_sql(stack: Installation, page: Page) -> None:
    (counted,) = stack.psql(
        "warehouse", "SELECT count(*) AS events FROM flights.events WHERE extract(year FROM first_day) = 2013"
    )
    (largest,) = stack.psql(
        "warehouse",
        """
        SELECT name, kind, (ARRAY['1 mild', '2 strong', '3 extreme'])[severity] AS severity,
               to_char(first_day, 'DD Mon YYYY') AS first_day, to_char(last_day, 'DD Mon YYYY') AS last_day,
               worst_origin, codes, airports, airport_days, to_char(cancelled, 'FM999,990') AS cancelled,
               to_char(mean_effective_delay_min::numeric, 'FM990.0') AS delay
        FROM flights.events
        JOIN (SELECT event_id, string_agg(DISTINCT origin, ', ') AS codes FROM flights.event_days GROUP BY 1) AS members
        USING (event_id)
        WHERE extract(year FROM first_day) = 2013 ORDER BY airport_days DESC LIMIT 1
        """,
    )
    visitor.log_in_to_superset(page, stack.url, stack.password())

    open_dashboard(page, stack.url, "network")

    expect(page.locator('[data-test-chart-name="Events"] .header-line')).to_have_text(counted["events"])
    expect(cells(page, "Events, the largest first")).to_have_text(list(largest.values()))


def test_precision_by_feedback_is_that_of_sql(stack: Installation, page: Page) -> None:
    (of_view,) = stack.psql(
        "warehouse",
        """
        SELECT right_flags, wrong_flags, to_char(100 * precision_by_feedback::numeric, 'FM990%') AS precision,
               expected_flags, right_missed
        FROM flights.detector_feedback WHERE year = 2013 AND detector = 'delaywatch'
        """,
    )
    visitor.log_in_to_superset(page, stack.url, stack.password())
    open_dashboard(page, stack.url, "network")

    open_tab(page, "How sure")

    row = page.locator('[data-test-chart-name="Precision by feedback"] tbody tr').filter(has_text="delaywatch")
    expect(row).to_have_count(1)
    _, _, _, *figures = row.locator("td").all_inner_texts()  # the detector, its flags, and how many have feedback
    assert figures == list(of_view.values())


def test_a_query_of_minutes_in_sql_lab_ends_in_a_sentence(stack: Installation, page: Page) -> None:
    """10^10 rows need minutes. The first link of the chain of timeouts ends it, and its answer reaches the analyst."""
    answers: list[Response] = []

    def note(answer: Response) -> None:
        answers.append(answer)

    visitor.log_in_to_superset(page, stack.url, stack.password())
    page.on("response", note)
    editor = page.locator(".ace_editor").first
    new_tab = page.get_by_text("Add a new tab", exact=True)  # a user who was never here has none
    visitor.visit(page, f"{stack.url}/sqllab/", new_tab)
    visitor.see(page, new_tab.click, editor)
    # The warehouse is chosen, and its schemas are read.
    expect(page.get_by_text("flights", exact=True).first).to_be_visible()
    editor.click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b")

    page.get_by_role("button", name="Run").first.click()

    said = page.get_by_text("The warehouse stopped this query after 60 seconds").first
    said.wait_for(timeout=200_000)
    visitor.picture(page, "superset-sql-lab")
    executed = [answer for answer in answers if answer.url.endswith("/api/v1/sqllab/execute/")]
    assert {answer.headers["content-type"].partition(";")[0] for answer in executed} == {"application/json"}
    assert not [f"{one.status} {one.url}" for one in answers if one.status >= 400 and one not in executed]


def test_heavy_queries_fail_alone(stack: Installation) -> None:
    """Up to 16 at once, as many as Superset has threads. 53200 is "out of memory", 53400 a limit of temporary files."""
    started = stack.psql("postgres", "SELECT pg_postmaster_start_time()")

    found = stack.inside("heavy_queries.py", service="superset")

    assert found["outcomes"] == {
        "one long text": ["53200"],
        "one long array": ["53200"],
        "a large hash table": ["53200"],
        "a large sort": ["53400"],
    }
    assert found["rows of the bystander"] == len(AIRPORTS) * DAYS
    assert stack.psql("postgres", "SELECT pg_postmaster_start_time()") == started
    assert b"terminated by signal" not in stack.compose("logs", "postgres")


def test_an_orphan_that_fails_in_the_container_of_postgres_does_not_restart_it(stack: Installation) -> None:
    """Docker kills a health check that takes too long, and its children become orphans."""
    started = stack.psql("postgres", "SELECT pg_postmaster_start_time()")

    stack.compose("exec", "-T", "postgres", "sh", "-c", "(sleep 1; exit 141) >/dev/null 2>&1 &")
    time.sleep(3)

    assert stack.psql("postgres", "SELECT pg_postmaster_start_time()") == started
    assert b"reinitializing" not in stack.compose("logs", "postgres")


# --- Postgres stops ---------------------------------------------------------------------------------------------------


def test_without_postgres_every_page_is_one_of_ours_that_asks_again_until_it_is_back(
    stack: Installation, page: Page
) -> None:
    pages = {"/superset/dashboard/network/": "Superset", "/login/": "Superset", "/airflow/": "Airflow"}
    visitor.log_in_to_superset(page, stack.url, stack.password())
    visitor.log_in_to_airflow(page, stack.url, stack.password())

    def shown(path: str) -> tuple[int, str]:
        answer = page.request.get(stack.url + path, headers={"Accept": "text/html"})
        return answer.status, answer.text()

    stack.compose("stop", "postgres")
    try:
        without = {path: shown(path) for path in pages}
        of_the_api, told = shown("/airflow/api/v2/dags")
    finally:
        stack.compose("up", "--detach", "--wait", "--no-recreate", "--no-deps", "postgres")

    for path, program in pages.items():
        status, text = without[path]
        assert status == 500
        assert f"<title>{program} · Delaywatch</title>" in text
        assert 'http-equiv="refresh"' in text
    assert of_the_api == 500
    assert "Delaywatch" not in told
    wait_until(lambda: {shown(path)[0] for path in pages} == {200}, "every page is back")


# --- notebooks --------------------------------------------------------------------------------------------------------


def test_jupyter_runs_its_notebook_from_top_to_bottom(
    stack: Installation, page: Page, client: APIRequestContext
) -> None:
    """In the browser: token, notebook, Run All Cells, save; what was saved on the host is looked at."""
    folder = stack.folder / "notebooks"
    notebook = folder / "01_explore_a_year.ipynb"
    uid = os.getuid() or JUPYTER_UID
    if os.getuid() == 0:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, uid)
    started = stack.run(
        ["docker", "compose", "--profile", "notebooks", "up", "--detach", "--wait", "--build", "jupyter"],
        {"DELAYWATCH_UID": str(uid)},
    )
    assert started.returncode == 0, started.stderr.decode()
    assert client.get("/jupyter/api/contents").status == 403

    visitor.log_in_to_jupyter(page, stack.url, stack.token())
    title = page.get_by_role("heading", name="Explore a year")
    visitor.visit(page, f"{stack.url}/jupyter/lab/tree/{notebook.name}", title)
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    cells: list[dict[str, Any]] = []

    def has_run() -> bool:
        page.keyboard.press("Control+s")
        try:
            found = json.loads(notebook.read_text())["cells"]
        except json.JSONDecodeError:  # Jupyter is writing it
            return False
        cells[:] = [cell for cell in found if cell["cell_type"] == "code"]
        return bool(errors_in(cells)) or all(cell["execution_count"] for cell in cells)

    visitor.until(page, has_run, "every cell of the notebook has run")
    assert errors_in(cells) == []
    assert len([output for output in outputs_of(cells) if "image/png" in output.get("data", {})]) >= 5
    visitor.picture(page, "jupyter")


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_daily_backup_brings_back_everything_after_all_volumes_are_gone(
    stack: Installation, client: APIRequestContext, tmp_path: Path
) -> None:
    password, certificate, before = stack.password(), stack.certificate(), kept_of(stack)
    save_query(client, password, stack.url, "kept by the backup")
    runs = successful_runs(client, password)
    assert runs
    folder = tmp_path / "another-disk"
    folder.mkdir()
    (stack.folder / ".env").write_text(f"DELAYWATCH_BACKUP={folder}\n")
    stack.made("backup-daily")
    (backup,) = folder.glob("daily-*.tar")
    (stack.folder / ".env").unlink()
    shutil.rmtree(stack.folder / "backups")
    stack.made("destroy", "CONFIRM=yes")
    assert stack.containers() == {}
    assert stack.volumes() == set()

    stack.made("restore", f"FROM={backup}")

    assert kept_of(stack) == before
    assert stack.certificate() == certificate
    assert stack.password() == password
    assert successful_runs(client, password) == runs
    assert "kept by the backup" in saved_queries(client, password)


def test_make_destroy_without_confirmation_removes_nothing(stack: Installation) -> None:
    containers, volumes = stack.containers(), stack.volumes()

    code, _, complaint = stack.make("destroy")

    assert code != 0
    assert "make destroy CONFIRM=yes" in complaint
    assert (stack.containers(), stack.volumes()) == (containers, volumes)


def test_make_down_leaves_no_container_and_every_volume(stack: Installation) -> None:
    volumes = stack.volumes()
    assert f"{stack.project}_postgres" in volumes

    stack.made("down")

    assert stack.containers() == {}
    assert stack.volumes() == volumes


# --- what the tests ask -----------------------------------------------------------------------------------------------


def kept_of(stack: Installation) -> dict[str, dict[str, Any]]:
    """What must outlive a host: secrets as hashes, every row of the warehouse, every object of the lake."""
    return {"secrets": stack.fingerprints(), "rows": stack.rows(), "objects": stack.inside("objects.py")}


def state_of(stack: Installation) -> dict[str, Any]:
    """What is kept, and what browsers and Docker see of the running stack."""
    ids = {name: container.id for name, container in stack.containers().items() if name in LASTING}
    return {**kept_of(stack), "certificate": stack.certificate(), "containers": ids}


def airflow_token(client: APIRequestContext, password: str) -> str:
    answer = client.post("/airflow/auth/token", data={"username": "admin", "password": password})
    assert answer.status == 201, answer.text()
    return str(answer.json()["access_token"])


def superset_token(client: APIRequestContext, password: str) -> str:
    answer = client.post(
        "/api/v1/security/login", data={"username": "admin", "password": password, "provider": "db", "refresh": False}
    )
    assert answer.status == 200, answer.text()
    return str(answer.json()["access_token"])


def assets_of(client: APIRequestContext, token: str) -> dict[str, bytes]:
    """Every file of Superset's own export; the folder's name and metadata.yaml hold the time."""
    answer = client.get("/api/v1/assets/export/", headers={"Authorization": f"Bearer {token}"})
    assert answer.ok, answer.text()
    with zipfile.ZipFile(io.BytesIO(answer.body())) as exported:
        files = {name.partition("/")[2]: exported.read(name) for name in exported.namelist()}
    return {name: content for name, content in files.items() if name != "metadata.yaml"}


def successful_runs(client: APIRequestContext, password: str) -> list[str]:
    """The ids of the runs of the DAG that Airflow knows as successful."""
    answer = client.get(
        "/airflow/api/v2/dags/flight_anomalies/dagRuns?state=success",
        headers={"Authorization": f"Bearer {airflow_token(client, password)}"},
    )
    assert answer.ok, answer.text()
    return sorted(run["dag_run_id"] for run in answer.json()["dag_runs"])


def save_query(client: APIRequestContext, password: str, url: str, label: str) -> None:
    """Something that only Superset's own database holds."""
    headers = {"Authorization": f"Bearer {superset_token(client, password)}", "Referer": f"{url}/"}
    headers["X-CSRFToken"] = client.get("/api/v1/security/csrf_token/", headers=headers).json()["result"]
    answer = client.post(
        "/api/v1/saved_query/",
        headers=headers,
        data={"label": label, "db_id": 1, "schema": "flights", "sql": "SELECT 1"},
    )
    assert answer.status == 201, answer.text()


def saved_queries(client: APIRequestContext, password: str) -> list[str]:
    headers = {"Authorization": f"Bearer {superset_token(client, password)}"}
    return [query["label"] for query in client.get("/api/v1/saved_query/", headers=headers).json()["result"]]


def outputs_of(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [output for cell in cells for output in cell["outputs"]]


def errors_in(cells: list[dict[str, Any]]) -> list[str]:
    outputs = outputs_of(cells)
    return [f"{output['ename']}: {output['evalue']}" for output in outputs if output["output_type"] == "error"]


def asset(kind: str, name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ASSETS / kind / f"{name}.yaml").read_text()))


def titles_in_assets(slug: str) -> dict[str, set[str]]:
    """Return the titles of the charts that each tab shows, by its name: those above the tabs and its own."""
    dashboard = asset("dashboards", slug.replace("-", "_"))
    return {
        tab["tab"]: {
            asset("charts", name)["slice_name"]
            for row in [*dashboard["top"], *tab["rows"]]
            for name in row.get("charts", {})
        }
        for tab in dashboard["tabs"]
    }


def charts(page: Page, url: str, slug: str) -> list[dict[str, Any]]:
    return list(page.request.get(f"{url}/api/v1/dashboard/{slug}/charts").json()["result"])


def open_dashboard(page: Page, url: str, slug: str) -> None:
    """In a window so high that every chart of the first tab is in view and loads, then as high as the tab."""
    page.set_viewport_size({"width": 1400, "height": 4000})
    visitor.visit(page, f"{url}/superset/dashboard/{slug}/", page.locator("[data-test-chart-name]").first)
    fit(page, f"the dashboard {slug} has loaded")


def open_tab(page: Page, tab: str) -> None:
    """Charts of a tab load when it is opened."""
    page.set_viewport_size({"width": 1400, "height": 4000})
    title = page.get_by_role("tab").filter(has_text=tab)
    title.click()
    expect(title).to_have_attribute("aria-selected", "true")
    fit(page, f"the tab {tab} has loaded")


def fit(page: Page, what: str) -> None:
    """Make the window as high as the tab that is open, once its charts are there."""
    seen = page.locator("[data-test-chart-name]:visible")
    seen.first.wait_for()
    visitor.until(page, lambda: not is_loading(page), what)
    last = seen.last.bounding_box()
    assert last
    page.set_viewport_size({"width": 1400, "height": round(last["y"] + last["height"]) + 20})


def cells(page: Page, title: str) -> Locator:
    """The cells of the first row of a chart that is a table."""
    return page.locator(f'[data-test-chart-name="{title}"] tbody tr').first.locator("td")


def is_loading(page: Page) -> bool:
    return page.get_by_test_id("loading-indicator").count() > 0


def form_of(answer: Response) -> dict[str, Any]:
    """What Superset calls the form of the chart, or of the filter, that asked."""
    return dict((answer.request.post_data_json or {})["form_data"])


def rows_of(answer: Response) -> int:
    """How many rows it got."""
    return sum(query["rowcount"] for query in answer.json()["result"])
