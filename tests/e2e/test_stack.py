"""The whole stack as its users meet it: `make` on the host, Chromium and programs through nginx and TLS.

The tests run in the order of this file; each needs the state that earlier tests left. test_edge.py sends unusual
requests to nginx, and test_bad_start.py has starts that must fail.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import APIRequestContext, Browser, Page, Response, StorageState, expect

from tests.e2e import visitor
from tests.e2e.conftest import new_context
from tests.e2e.installation import Installation, airflow_token, superset_credentials, superset_token
from tests.servers.startup import wait_until
from utils import detectors, schemas

pytestmark = pytest.mark.e2e

AIRFLOW = {"airflow-apiserver", "airflow-dag-processor", "airflow-scheduler"}
LASTING = AIRFLOW | {"health", "nginx", "postgres", "s3", "site", "superset"}
ASSETS = Path(__file__).parents[2] / "superset" / "assets"
AIRPORTS = ("EWR", "JFK", "LGA")
DAYS = 365  # of 2013; every airport of the demo has flights on each
KNOWN_WARNINGS = (
    "appbuilder.app is deprecated",  # of Airflow, docs/operation.md
    "ASGI app factory detected",  # of Airflow, docs/operation.md
    "Starting call to 'airflow.sdk.api.client.Client.request'",  # a retry of Airflow on a busy host
    "not found.  Skipping. [airflow.utils.db_cleanup]",  # of Airflow, docs/operation.md
    "utils.pipeline",  # warnings about the quality of the file
)
FEEDBACK = {  # by airport and day
    ("LGA", "2013-02-09"): "right",
    ("LGA", "2013-03-08"): "expected",
    ("LGA", "2013-07-23"): "wrong",
}
JUPYTER_UID = 50000  # of our image; Jupyter does not run as root


@pytest.fixture(scope="module", autouse=True)
def started() -> str:
    return datetime.now(UTC).isoformat()


# --- make up ----------------------------------------------------------------------------------------------------------


def test_make_up_on_a_fresh_clone_prints_the_addresses_and_no_password(welcome: str, clone: Installation) -> None:
    assert not (clone.folder / ".env").exists()
    assert f"{clone.url}/ " in welcome
    assert f"{clone.url}/airflow/" in welcome
    assert "admin" in welcome
    assert "make password" in welcome
    assert clone.password() not in welcome


def test_every_lasting_service_is_healthy_and_only_nginx_publishes_ports(stack: Installation) -> None:
    containers = stack.containers()

    assert {name for name, container in containers.items() if container.is_healthy} == LASTING
    published = {name: container.ports for name, container in containers.items() if "->" in container.ports}
    assert published.keys() == {"nginx"}
    addresses = re.findall(r"(\S+)->", published["nginx"])
    assert sorted(addresses) == sorted(f"127.0.0.1:{port}" for port in (stack.http_port, stack.https_port))


# --- access -----------------------------------------------------------------------------------------------------------


def test_only_the_generated_password_opens_airflow_and_superset(stack: Installation, client: APIRequestContext) -> None:
    for password in ("admin", "airflow", "superset"):
        airflow = client.post("/airflow/auth/token", data={"username": "admin", "password": password})
        superset = client.post("/api/v1/security/login", data=superset_credentials(password))
        assert (airflow.status, superset.status) == (401, 401)

    assert airflow_token(client, stack.password())
    assert superset_token(client, stack.password())


def test_the_object_store_answers_only_signed_s3_requests_on_its_network(stack: Installation) -> None:
    """The gRPC port of S3 can add keys. SeaweedFS cannot close it, so it must refuse every client."""
    store = stack.inside("store.py")

    assert listening_ports(stack, "s3") - {18333} == {8333}
    assert store["status"] == {"right": 200, "unsigned": 403, "wrong": 403, "wrong secret": 403}
    assert store["grpc without TLS"] == ""
    assert store["grpc accepts TLS"] is False


def test_cookies_are_secure_and_sessions_are_closed_to_scripts(
    stack: Installation, page: Page, superset_login: StorageState
) -> None:
    visitor.log_in_to_airflow(page, stack.url, stack.password())
    cookies = [*page.context.cookies(), *superset_login.get("cookies", [])]
    sessions = [
        cookie for cookie in cookies if "session" in cookie.get("name", "") or "token" in cookie.get("name", "")
    ]

    assert len(sessions) >= 2
    assert [cookie.get("name") for cookie in cookies if not cookie.get("secure")] == []
    assert [cookie.get("name") for cookie in sessions if not cookie.get("httpOnly")] == []


# --- a dashboard before the first run --------------------------------------------------------------------------------


def test_an_empty_dashboard_names_the_next_step(stack: Installation, superset_page: Page) -> None:
    visitor.open_dashboard(superset_page, stack.url, "flight-anomalies")

    notice = superset_page.locator('[data-test-chart-name="About the chosen years"] td')
    expect(notice).to_be_visible()
    expect(notice).to_contain_text("flight_anomalies")
    visitor.picture(superset_page, "superset-empty")


# --- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_triggered_in_the_ui_of_airflow_succeeds(stack: Installation, page: Page) -> None:
    dag = "/airflow/dags/flight_anomalies"
    visitor.log_in_to_airflow(page, stack.url, stack.password())
    trigger = page.get_by_role("button", name="Trigger Dag")
    visitor.visit(page, f"{stack.url}{dag}", trigger)
    trigger.click()
    form = page.get_by_role("dialog")
    year = form.locator("#element_year")
    suggestions = form.locator(f"#{year.get_attribute('list')} option")
    expect(suggestions.first).to_have_text("2009")
    year.fill("2013")
    year.press("Tab")
    visitor.picture(page, "airflow-trigger")
    with page.expect_response(lambda answer: answer.request.method == "POST" and "/dagRuns" in answer.url) as posted:
        form.get_by_role("button", name="Trigger", exact=True).click()
    run = posted.value.json()
    assert run["conf"]["year"] == "2013"

    visitor.visit(page, f"{stack.url}{dag}/runs/{run['dag_run_id']}", page.get_by_text(run["dag_run_id"]).first)

    def state() -> str:
        answer = page.request.get(f"{stack.url}/airflow/api/v2/dags/flight_anomalies/dagRuns/{run['dag_run_id']}")
        return str(answer.json()["state"])

    visitor.until(page, lambda: state() in {"success", "failed"}, "the run has ended")
    assert state() == "success"
    tasks = 8 + len(detectors.NAMES)
    expect(page.get_by_role("heading", name=f"{tasks} Task Instances")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="Success")).to_have_count(tasks)
    visitor.picture(page, "airflow-run")


def test_postgres_has_exactly_the_rows_of_gold(stack: Installation) -> None:
    """Compare every value of every column; the program reads both sides without `utils`."""
    tables = stack.inside("comparison.py")

    for name, schema, rows in (
        ("airport_days", schemas.AIRPORT_DAYS, len(AIRPORTS) * DAYS),
        ("anomalies", schemas.WAREHOUSE_ANOMALIES, len(AIRPORTS) * DAYS * len(detectors.NAMES)),
    ):
        table = tables[name]
        assert table["rows of gold"] == table["rows of postgres"] == rows
        assert table["columns of gold"] == table["columns of postgres"] == sorted(schema.names)
        assert table["keys of one side"] == []
        assert table["differing values"] == []


def test_status_and_health_report_a_finished_year(stack: Installation, client: APIRequestContext) -> None:
    status = stack.made("status")
    health = stack.made("health").splitlines()

    assert all(f"{service} " in status for service in LASTING)
    assert "2013" in status
    checks = ("bronze", "run", "warehouse", "disk", "certificate", "backup")
    assert {tuple(line.split()[:2]) for line in health} == {("ok", check) for check in checks}
    wait_until(lambda: client.get("/health").status == 200, "/health is ok", 90)  # updated once a minute
    assert client.get("/health").text() == "ok\n"


def test_a_second_make_up_changes_nothing(stack: Installation, client: APIRequestContext) -> None:
    token = superset_token(client, stack.password())
    before = {**state_of(stack), "assets": assets_of(client, token)}
    assert before["assets"]

    stack.made("up")

    after = {**state_of(stack), "assets": assets_of(client, token)}
    for part, content in before.items():
        assert after[part] == content


def test_the_logs_have_no_unknown_warning(stack: Installation, started: str) -> None:
    """Superset's log since the start of this module: test_public.py requests all its routes, which gives warnings."""
    logs = stack.compose("logs", "--no-log-prefix", *AIRFLOW)
    logs += stack.compose("logs", "--no-log-prefix", "--since", started, "superset")

    warnings = [line for line in logs.decode().splitlines() if re.search(r"\[warning +\]|:WARNING:", line)]
    assert [line for line in warnings if not any(known in line for known in KNOWN_WARNINGS)] == []


# --- dashboards -------------------------------------------------------------------------------------------------------


class Dashboard:
    """A dashboard open in a browser. `answers` has every answer with data of a chart."""

    def __init__(self, page: Page, url: str, slug: str) -> None:
        """Open the dashboard."""
        self.page, self.slug = page, slug
        self.answers: list[Response] = []
        page.on("response", lambda answer: self.answers.append(answer) if "/chart/data" in answer.url else None)
        visitor.open_dashboard(page, url, slug)
        charts = page.request.get(f"{url}/api/v1/dashboard/{slug}/charts").json()["result"]
        self.titles = {chart["id"]: chart["slice_name"] for chart in charts}

    def open_tab(self, tab: str) -> None:
        """Open a tab; its charts load now."""
        self.page.set_viewport_size({"width": 1400, "height": 4000})
        title = self.page.get_by_role("tab").filter(has_text=tab)
        title.click()
        expect(title).to_have_attribute("aria-selected", "true")
        visitor.fit(self.page, f"the tab {tab} has loaded")

    def loaded_charts(self) -> set[str]:
        ids = [form_of(answer).get("slice_id") for answer in self.answers]
        return {self.titles[chart] for chart in ids if chart in self.titles}

    def chart(self, title: str) -> Any:
        return self.page.locator(f'[data-test-chart-name="{title}"]:visible')

    def first_row(self, title: str) -> Any:
        """The cells of the first row of a table."""
        return self.chart(title).locator("tbody tr").first.locator("td")


@pytest.fixture(scope="module")
def feedback(stack: Installation) -> None:
    """Feedback of a person on three days, given with the command."""
    for (airport, day), opinion in FEEDBACK.items():
        command = ("python", "-m", "utils", "feedback", airport, day, opinion, "--author", "anna")
        stack.compose("exec", "-T", "airflow-scheduler", *command)


@pytest.fixture(scope="module")
def changed_verdict(stack: Installation) -> None:
    """A changed verdict as a second upsert records it; after one run no verdict has changed."""
    stack.psql("warehouse", "INSERT INTO flights.verdict_changes VALUES ('LGA', '2013-02-09', now(), 1, 2, 'closure')")


@pytest.fixture(scope="module")
def flight_anomalies(
    browser: Browser, superset_login: StorageState, stack: Installation, feedback: None, changed_verdict: None
) -> Iterator[Dashboard]:
    with new_context(browser, superset_login) as context:
        yield Dashboard(context.new_page(), stack.url, "flight-anomalies")


@pytest.fixture(scope="module")
def network(
    browser: Browser, superset_login: StorageState, stack: Installation, feedback: None, changed_verdict: None
) -> Iterator[Dashboard]:
    with new_context(browser, superset_login) as context:
        yield Dashboard(context.new_page(), stack.url, "network")


@pytest.fixture(scope="module")
def years(browser: Browser, superset_login: StorageState, stack: Installation, feedback: None) -> Iterator[Dashboard]:
    with new_context(browser, superset_login) as context:
        yield Dashboard(context.new_page(), stack.url, "years")


@pytest.mark.parametrize("name", ["flight_anomalies", "network", "years"])
def test_every_chart_of_a_dashboard_shows_data(request: pytest.FixtureRequest, name: str) -> None:
    dashboard: Dashboard = request.getfixturevalue(name)
    charts_by_tab = titles_in_assets(name)
    assert set(dashboard.titles.values()) == set().union(*charts_by_tab.values())

    for tab, titles in charts_by_tab.items():
        dashboard.open_tab(tab)
        see_data(dashboard, titles, tab)
        visitor.picture(dashboard.page, f"superset-{dashboard.slug}-{tab.lower().replace(' ', '-')}")

    assert {answer.status for answer in dashboard.answers} == {200}
    assert not [form_of(answer) for answer in dashboard.answers if not row_count(answer)]
    notice = dashboard.chart("About the chosen years").locator("td")
    expect(notice).to_contain_text(re.compile(r"2013 \(336,776 flights, 3 airports.*complete"))


def see_data(dashboard: Dashboard, titles: set[str], tab: str) -> None:
    """Wait until all charts of the open tab have loaded, and check that each shows data."""
    page = dashboard.page
    visitor.until(
        page, lambda: titles <= dashboard.loaded_charts() and not visitor.is_loading(page), f"the charts of {tab}"
    )
    for title in titles:
        chart = dashboard.chart(title)
        expect(chart.locator("canvas, table, .header-line").first).to_be_visible()
        expect(chart.get_by_role("alert")).to_have_count(0)
        expect(chart.get_by_text("No results")).to_have_count(0)
        for table in chart.locator("[role=presentation]:has(> table)").all():
            assert table.evaluate("it => it.scrollHeight - it.clientHeight") <= 1, f"{title} cuts its last row"


def test_the_figures_of_an_airport_equal_sql(stack: Installation, flight_anomalies: Dashboard) -> None:
    """LaGuardia, which the dashboard shows first; the effective delay weighs each day by its flights."""
    (figures,) = stack.psql(
        "warehouse",
        """
        SELECT to_char(sum(scheduled), 'FM999,999') AS flights,
               to_char(100.0 * sum(cancelled) / sum(scheduled), 'FM90.0%') AS cancelled,
               to_char(sum(mean_effective_delay_min * scheduled) / sum(scheduled), 'FM90.0') AS delay,
               (SELECT count(*) FROM flights.anomalies WHERE origin = 'LGA' AND extract(year FROM fl_date) = 2013
                AND detector = 'delaywatch' AND is_anomaly) AS abnormal
        FROM flights.airport_days WHERE origin = 'LGA' AND extract(year FROM fl_date) = 2013
        """,
    )

    flight_anomalies.open_tab(next(iter(titles_in_assets("flight_anomalies"))))

    abnormal = figures.pop("abnormal")
    expect(flight_anomalies.chart("About the chosen airports")).to_contain_text(f"{abnormal} abnormal by delaywatch")
    expect(flight_anomalies.first_row("Key figures")).to_have_text(list(figures.values()))


def test_an_abnormal_day_shows_its_reason_and_that_it_was_expected(
    stack: Installation, flight_anomalies: Dashboard
) -> None:
    (day,) = stack.psql(
        "warehouse",
        """
        SELECT sentence, event FROM flights.agg_dep_delay_by_date
        WHERE origin = 'LGA' AND fl_date = '2013-03-08' AND is_acknowledged
        """,
    )

    table = flight_anomalies.page.locator('[data-test-chart-name^="Abnormal days and why"]:visible tbody tr')
    row = table.filter(has_text="08 Mar 2013").last  # Superset also renders a copy to measure the columns
    _, _, reason = day["sentence"].partition(": ")  # airport and day have columns of their own
    for text in (reason, day["event"]):
        expect(row).to_contain_text(text)
    expect(row.get_by_text("expected", exact=True)).to_have_count(1)
    expect(row.locator("a")).to_have_attribute("href", "/flights/airports/LGA/2013-03-08/")


def test_the_reasons_equal_sql_and_follow_the_chosen_day(stack: Installation, flight_anomalies: Dashboard) -> None:
    (first,) = stack.psql(
        "warehouse",
        """
        SELECT name,
               to_char(sum(excess_delay_min::numeric + 120 * excess_cancelled::numeric), 'FM999,999,990') AS total,
               to_char(sum(excess_delay_min::numeric), 'FM999,999,990') AS minutes,
               to_char(sum(excess_cancelled::numeric), 'FM999,990.0') AS cancelled, sum(scheduled) AS flights
        FROM flights.anomaly_factors
        WHERE origin = 'LGA' AND extract(year FROM fl_date) = 2013 AND dimension = 'carrier'
        GROUP BY name ORDER BY sum(excess_delay_min) + 120 * sum(excess_cancelled) DESC LIMIT 1
        """,
    )
    flight_anomalies.open_tab("Why")
    expect(flight_anomalies.first_row("Excess by carrier")).to_have_text(list(first.values()))
    expect(flight_anomalies.chart("Excess by cause")).to_contain_text("names no causes")  # of this file
    days = flight_anomalies.chart("Observed against usual")
    expect(days).to_contain_text("09 Feb 2013")

    page = flight_anomalies.page
    page.locator('.ant-select[aria-label="NATIVE_FILTER-abnormal-day"]').click()
    page.get_by_title("2013-03-08 LGA", exact=True).first.click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Apply").click()

    expect(days).not_to_contain_text("09 Feb 2013")
    expect(days).to_contain_text("08 Mar 2013")


def test_a_heavy_query_fails_without_a_restart_of_postgres(stack: Installation) -> None:
    """Up to 16 at once, as many as Superset has threads. 53200 is "out of memory", 53400 a limit of temporary files."""
    started = stack.psql("postgres", "SELECT pg_postmaster_start_time()")

    ended = stack.inside("heavy_queries.py", service="superset")

    assert ended["outcomes"] == {
        "one long text": ["53200"],
        "one long array": ["53200"],
        "a large hash table": ["53200"],
        "a large sort": ["53400"],
    }
    assert ended["rows of the bystander"] == len(AIRPORTS) * DAYS
    assert stack.psql("postgres", "SELECT pg_postmaster_start_time()") == started
    assert b"terminated by signal" not in stack.compose("logs", "postgres")


# --- Postgres stops ---------------------------------------------------------------------------------------------------


def test_without_postgres_every_page_names_its_program_and_reloads_until_it_is_back(
    stack: Installation, superset_page: Page
) -> None:
    page = superset_page
    programs = {"/superset/dashboard/network/": "Superset", "/login/": "Superset", "/airflow/": "Airflow"}
    visitor.log_in_to_airflow(page, stack.url, stack.password())

    def get(path: str) -> tuple[int, str]:
        answer = page.request.get(stack.url + path, headers={"Accept": "text/html"})
        return answer.status, answer.text()

    stack.compose("stop", "postgres")
    try:
        pages = {path: get(path) for path in programs}
        api_status, api_text = get("/airflow/api/v2/dags")
    finally:
        stack.compose("up", "--detach", "--wait", "--no-recreate", "--no-deps", "postgres")

    for path, program in programs.items():
        status, text = pages[path]
        assert status == 500
        assert f"<title>{program} · Delaywatch</title>" in text
        assert 'http-equiv="refresh"' in text
    assert api_status == 500
    assert "Delaywatch" not in api_text
    wait_until(lambda: {get(path)[0] for path in programs} == {200}, "every page is back")


# --- notebooks --------------------------------------------------------------------------------------------------------


def test_a_notebook_runs_from_top_to_bottom_in_jupyter(
    stack: Installation, page: Page, client: APIRequestContext
) -> None:
    """Run and save the notebook in the browser, then read the file on the host."""
    folder = stack.folder / "notebooks"
    notebook = folder / "01_explore_a_year.ipynb"
    uid = os.getuid() or JUPYTER_UID
    if os.getuid() == 0:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, uid)
    up = ["docker", "compose", "--profile", "notebooks", "up", "--detach", "--wait", "--build", "jupyter"]
    started = stack.run(up, {"DELAYWATCH_UID": str(uid)})
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
            saved = json.loads(notebook.read_text())["cells"]
        except json.JSONDecodeError:  # Jupyter is writing the file
            return False
        cells[:] = [cell for cell in saved if cell["cell_type"] == "code"]
        return bool(errors_in(cells)) or all(cell["execution_count"] for cell in cells)

    visitor.until(page, has_run, "every cell of the notebook has run")
    assert errors_in(cells) == []
    assert len([output for output in outputs_of(cells) if "image/png" in output.get("data", {})]) >= 5
    visitor.picture(page, "jupyter")


# --- backup -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_daily_backup_restores_everything_after_all_volumes_are_gone(
    stack: Installation, client: APIRequestContext, tmp_path: Path
) -> None:
    """test_daily_backup.py restores without Airflow and Superset, in a fraction of the time."""
    password, certificate, before = stack.password(), stack.certificate(), data_of(stack)
    save_query(client, password, stack.url, "kept by the backup")
    runs = successful_runs(client, password)
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

    assert data_of(stack) == before
    assert stack.certificate() == certificate
    assert stack.password() == password
    assert successful_runs(client, password) == runs
    assert "kept by the backup" in saved_queries(client, password)


# --- requests of the tests --------------------------------------------------------------------------------------------


def data_of(stack: Installation) -> dict[str, dict[str, Any]]:
    """Return the data that a backup must restore: hashes of secrets, rows of the warehouse, objects of the lake."""
    return {"secrets": stack.fingerprints(), "rows": stack.rows(), "objects": stack.inside("objects.py")}


def state_of(stack: Installation) -> dict[str, Any]:
    ids = {name: container.id for name, container in stack.containers().items() if name in LASTING}
    return {**data_of(stack), "certificate": stack.certificate(), "containers": ids}


def listening_ports(stack: Installation, service: str) -> set[int]:
    """Return the TCP ports of the container that are open to other containers."""
    sockets = stack.compose("exec", "-T", service, "cat", "/proc/net/tcp", "/proc/net/tcp6").decode()
    listening = re.findall(r"^ *\d+: (\w+):(\w{4}) \w+:0000 0A ", sockets, re.MULTILINE)
    loopback = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
    docker_dns = "0B00007F"  # 127.0.0.11
    return {int(port, 16) for address, port in listening if address not in {*loopback, docker_dns}}


def assets_of(client: APIRequestContext, token: str) -> dict[str, bytes]:
    """Return every file of the export of Superset without its time, which is in metadata.yaml and the folder's name."""
    answer = client.get("/api/v1/assets/export/", headers={"Authorization": f"Bearer {token}"})
    assert answer.ok, answer.text()
    with zipfile.ZipFile(io.BytesIO(answer.body())) as exported:
        files = {name.partition("/")[2]: exported.read(name) for name in exported.namelist()}
    return {name: content for name, content in files.items() if name != "metadata.yaml"}


def successful_runs(client: APIRequestContext, password: str) -> list[str]:
    answer = client.get(
        "/airflow/api/v2/dags/flight_anomalies/dagRuns?state=success",
        headers={"Authorization": f"Bearer {airflow_token(client, password)}"},
    )
    assert answer.ok, answer.text()
    return sorted(run["dag_run_id"] for run in answer.json()["dag_runs"])


def save_query(client: APIRequestContext, password: str, url: str, label: str) -> None:
    """Save a query, which only the metadata database of Superset has."""
    headers = {"Authorization": f"Bearer {superset_token(client, password)}", "Referer": f"{url}/"}
    headers["X-CSRFToken"] = client.get("/api/v1/security/csrf_token/", headers=headers).json()["result"]
    query = {"label": label, "db_id": 1, "schema": "flights", "sql": "SELECT 1"}
    answer = client.post("/api/v1/saved_query/", headers=headers, data=query)
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


def titles_in_assets(name: str) -> dict[str, set[str]]:
    """Return the titles of the charts that each tab shows, by the name of the tab: the top rows and its own."""
    dashboard = asset("dashboards", name)
    return {
        tab["tab"]: {
            asset("charts", chart)["slice_name"]
            for row in [*dashboard["top"], *tab["rows"]]
            for chart in row.get("charts", {})
        }
        for tab in dashboard["tabs"]
    }


def form_of(answer: Response) -> dict[str, Any]:
    """Return the form data of the chart or filter that sent the request."""
    return dict((answer.request.post_data_json or {})["form_data"])


def row_count(answer: Response) -> int:
    return sum(query["rowcount"] for query in answer.json()["result"])
