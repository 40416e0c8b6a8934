"""Measure how long the dashboards of a running stack take to load in Chromium, beside an empty dashboard.

Run as `SUPERSET_PASSWORD=... python benchmarks/dashboards.py https://localhost`; the password of `admin` is that of
`make password`. Each dashboard is opened in a window that is high enough for its whole first tab, because Superset
loads only the charts in view. `cold` is a browser that has never opened Superset, apart from its login; `warm` is a
browser that has. Seconds are counted from the start of the navigation:

    shell    the first chart has its place on the page
    queries  the last answer with data of a chart or filter has arrived
    loaded   every chart of the tab shows data
    CPU      of the browser, and of the containers that `--containers` names (needs a Docker engine on this machine)

The empty dashboard, which is deleted at the end, costs what Superset itself costs. The ratio is loaded / loaded of the
empty one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "dags")]

import psutil
from playwright.sync_api import Browser, Error, Page, StorageState, sync_playwright

from tests.e2e import visitor

EMPTY = "delaywatch-empty"
SLUGS = ("flight-anomalies", "network", "years")
HEIGHT = 4000  # pixels; no first tab is higher
MAX_ATTEMPTS = 3
# Resolves when every chart has shown data for a second, with the times of the page in seconds; null after an error.
LOADED = """async (isEmpty) => {
  const start = performance.now();
  let shell = null, since = null;
  while (since === null || performance.now() - since < 1000) {
    await new Promise(done => setTimeout(done, 20));
    if (performance.now() - start > 60000) return null;
    const charts = [...document.querySelectorAll('[data-test-chart-name]')];
    const tab = document.querySelector('[data-test="dashboard-content-wrapper"]');
    if (charts.length || (isEmpty && tab)) shell ??= performance.now();
    const isDone = shell !== null && !document.querySelector('.loading, [data-test="loading-indicator"]')
      && charts.every(chart => chart.querySelector('canvas, table, .header-line, .ant-empty, [role="alert"]'));
    since = isDone ? since ?? performance.now() : null;
  }
  const answers = performance.getEntriesByType('resource').filter(it => it.name.includes('/chart/data'));
  if (document.querySelector('[data-test-chart-name] [role="alert"]')) return null;
  return {shell: shell / 1e3, queries: Math.max(0, ...answers.map(it => it.responseEnd)) / 1e3, loaded: since / 1e3,
          requests: answers.length};
}"""


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and its descendants so far, including those that have ended."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it has just ended, and counts for its parent
            total += sum(each.cpu_times()[:4])
    return total


def container(name: str) -> psutil.Process:
    """Return the first process of a container."""
    command = ("docker", "inspect", "--format", "{{.State.Pid}}", name)
    return psutil.Process(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


@contextmanager
def empty_dashboard(page: Page, url: str) -> Iterator[None]:
    """Create the dashboard EMPTY, and delete it at the end."""
    token = page.request.get(f"{url}/api/v1/security/csrf_token/").json()["result"]
    headers = {"X-CSRFToken": token, "Referer": url}
    api = f"{url}/api/v1/dashboard/"
    page.request.delete(f"{api}{EMPTY}", headers=headers)
    made = page.request.post(api, headers=headers, data={"dashboard_title": "Empty", "slug": EMPTY, "published": True})
    if not made.ok:
        sys.exit(f"Superset did not create an empty dashboard: {made.status} {made.text()[:500]}")
    try:
        yield
    finally:
        page.request.delete(f"{api}{made.json()['id']}", headers=headers)


def load(page: Page, url: str, slug: str, processes: dict[str, psutil.Process]) -> dict[str, float]:
    """Open a dashboard; return the seconds and the number of requests, and the CPU seconds of `processes`."""
    for _ in range(MAX_ATTEMPTS):
        before = {name: cpu_s(process) for name, process in processes.items()}
        with suppress(Error):  # Chromium drops the page when a container starts or stops
            page.goto(f"{url}/superset/dashboard/{slug}/", wait_until="commit")
            measured: dict[str, float] | None = page.evaluate(LOADED, slug == EMPTY)
            if measured:
                return measured | {name: cpu_s(process) - before[name] for name, process in processes.items()}
    sys.exit(f"{slug} has a chart with an error, or has not loaded after 60 s; open {page.url} in a browser.")


def measure(
    browser: Browser, login: StorageState, arguments: argparse.Namespace
) -> dict[tuple[str, str], dict[str, float]]:
    """Return the medians of the rounds, by dashboard and cold or warm."""
    processes = {"browser": psutil.Process(), **{name: container(name) for name in arguments.containers}}
    rounds: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(arguments.rounds):
        for slug in (EMPTY, *arguments.slugs):
            context = browser.new_context(
                storage_state=login, ignore_https_errors=True, viewport={"width": 1400, "height": arguments.height}
            )
            for state in ("cold", "warm"):
                page = context.new_page()
                rounds.setdefault((slug, state), []).append(load(page, arguments.url, slug, processes))
                page.close()
            context.close()
    return {
        key: {name: statistics.median(each[name] for each in loads) for name in loads[0]}
        for key, loads in rounds.items()
    }


def report(medians: dict[tuple[str, str], dict[str, float]]) -> None:
    """Print a line per dashboard and state."""
    names = next(iter(medians.values()))
    print(f"{'':24}" + "".join(f"{name:>12}" for name in names) + f"{'ratio':>8}")
    for (slug, state), figures in medians.items():
        ratio = figures["loaded"] / medians[EMPTY, state]["loaded"]
        print(f"{slug:18}{state:6}" + "".join(f"{figures[name]:12.2f}" for name in names) + f"{ratio:8.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="address of the stack, such as https://localhost")
    parser.add_argument("--rounds", type=int, default=3, help="loads of each dashboard, cold and warm")
    parser.add_argument("--height", type=int, default=HEIGHT, help="height of the window, in pixels")
    parser.add_argument("--slugs", nargs="*", default=SLUGS, help="dashboards; all three by default")
    parser.add_argument("--containers", nargs="*", default=[], help="containers whose CPU seconds are counted")
    arguments = parser.parse_args()
    password = os.environ.get("SUPERSET_PASSWORD") or sys.exit("Set SUPERSET_PASSWORD to what `make password` prints.")
    with sync_playwright() as playwright:
        browser = visitor.launch(playwright)
        context = browser.new_context(ignore_https_errors=True)
        page = context.new_page()
        visitor.log_in_to_superset(page, arguments.url, password)
        with empty_dashboard(page, arguments.url):
            load(page, arguments.url, EMPTY, {})  # not counted: the first page of Chromium and of Superset takes longer
            print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
            report(measure(browser, context.storage_state(), arguments))
            print(f"after: {os.getloadavg()[0]:.1f}")
        browser.close()


if __name__ == "__main__":
    main()
