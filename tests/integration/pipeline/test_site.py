"""The static site: its links, its numbers against SQL over gold, what a run writes, and pages of files with gaps."""

from __future__ import annotations

import json
import posixpath
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.builders import Flight, csv_of, year_of_flights
from tests.conftest import sql
from tests.page import Page
from tests.steps import CLOSED, STEPS, YEAR
from utils.pipeline import site
from utils.settings import Settings
from utils.storage import keys
from utils.storage.lake import Lake

NEXT = YEAR + 1
MAX_BYTES = 20_000  # of one airport and year
VOID = {"area", "br", "circle", "col", "hr", "image", "img", "input", "line", "link", "meta", "path", "rect", "use"}
BEFORE_PUBLISH = ("silver", "gold", "detect", "explain", "plots")


def load(settings: Settings, year: int, flights: list[Flight], steps: tuple[str, ...] = BEFORE_PUBLISH) -> None:
    Lake(settings).store.put(f"01_bronze/{year}.csv", csv_of(flights))
    for step in steps:
        STEPS[step](settings, year)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with two years and their site. Do not change it."""
    folder = tmp_path_factory.mktemp("site") / "lake"
    settings = Settings(lake=folder.as_uri(), warehouse="", scratch=folder.parent, threads=2)
    load(settings, YEAR, year_of_flights(YEAR, {"JFK": 24, "EWR": 16, "ACK": 3}, closed=CLOSED))
    load(settings, NEXT, year_of_flights(NEXT, {"JFK": 12, "LGA": 8}, closed=[("JFK", f"{NEXT}-03-01")]))
    site.write_site(settings)
    return folder


@pytest.fixture
def two_years(built: Path, tmp_path: Path) -> Settings:
    """The test's own copy."""
    folder = shutil.copytree(built, tmp_path / "lake")
    return Settings(lake=folder.as_uri(), warehouse="", scratch=tmp_path, threads=1)


def pages(folder: Path) -> dict[str, str]:
    root = folder / "04_plots"
    return {path.relative_to(root).as_posix(): path.read_text() for path in sorted(root.rglob("*.html"))}


def written(settings: Settings) -> dict[str, int]:
    """When each file of the site was last written, in nanoseconds; without the record."""
    root = Path(settings.lake.removeprefix("file://")) / "04_plots"
    paths = [path for path in root.rglob("*") if path.is_file() and path.name != site.RECORD]
    return {path.relative_to(root).as_posix(): path.stat().st_mtime_ns for path in paths}


class Nesting(HTMLParser):
    """Raises AssertionError at an end tag that does not end the innermost element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag, (tag, self.getpos())


def targets(path: str, page: Page) -> Iterator[tuple[str, str]]:
    """The file and the fragment of every address on a page; the file is a path in the folder of the site."""
    for _, attributes in page.tags:
        for name in ("href", "src", "action", "xlink:href"):
            if address := attributes.get(name):
                file, _, fragment = address.partition("#")
                yield (posixpath.normpath(posixpath.join(posixpath.dirname(path), file)) if file else path), fragment


def test_every_link_leads_to_a_file_and_an_anchor_and_every_page_can_be_reached(built: Path) -> None:
    html = {path: Page(text) for path, text in pages(built).items()}
    ids = {path: [tag[1]["id"] for tag in page.tags if tag[1].get("id")] for path, page in html.items()}
    reached = {"index.html"}
    for path, page in html.items():
        for file, fragment in targets(path, page):
            assert (built / "04_plots" / file).is_file(), (path, file)
            assert not fragment or fragment in ids[file], (path, file, fragment)
            reached.add(file)
    assert reached >= set(html)
    assert all(len(names) == len(set(names)) for names in ids.values())
    assert {"years/2015.html", "airports/JFK/2016.html", "airports/ACK/index.html"} <= set(html)
    assert "events/20150208-JFK.html" in html


def test_pages_hold_a_strict_policy_and_are_well_formed(built: Path) -> None:
    for path, text in pages(built).items():
        Nesting(text)
        page = Page(text)
        for tag, attributes in page.tags:
            assert "style" not in attributes, (path, tag)
            assert not [name for name in attributes if name.startswith("on")], (path, tag)
        assert not page.attributes_of("style")
        assert [str(script.get("src"))[-7:] for script in page.attributes_of("script")] == ["site.js"]
        assert not re.search(r"(?:href|src|action)=\"(?:[a-z]+:|//)", text), path


def test_one_year_of_an_airport_is_small(built: Path) -> None:
    html = pages(built)
    sizes = {path: len(html[path].encode()) for path in html if re.fullmatch(r"airports/\w+/\d+\.html", path)}
    total = sum(len(text.encode()) for path, text in html.items() if path.startswith("airports/"))

    assert len(sizes) == 5
    assert max(sizes.values()) < MAX_BYTES
    assert total / len(sizes) < MAX_BYTES


FIGURES = """
    SELECT sum(scheduled) AS flights, sum(cancelled) AS cancelled, sum(scheduled * mean_effective_delay_min) AS minutes,
           count(*) FILTER (is_anomaly AND direction <> 'early') AS abnormal,
           count(*) FILTER (is_anomaly AND direction = 'closure') AS closures,
           avg((observed BETWEEN lower AND upper)::int) FILTER (NOT is_anomaly AND lower IS NOT NULL) AS inside
    FROM '{lake}/03_gold/airport_days/year={year}/*.parquet' AS d
    JOIN '{lake}/03_gold/anomalies/detector=delaywatch/year={year}/*.parquet' AS v USING (origin, fl_date)
    WHERE origin LIKE '{origin}'
"""


def figures(lake: Path, year: int, origin: str) -> tuple[Any, ...]:
    (row,) = duckdb.connect().execute(FIGURES.format(lake=lake, year=year, origin=origin)).fetchall()
    return tuple(row)


def facts(text: str) -> dict[str, str]:
    """The key figures of a page by name."""
    page = Page(text)
    return dict(zip(page.texts_of("dt"), page.texts_of("dd"), strict=True))


@pytest.mark.parametrize(("year", "origin"), [(YEAR, "%"), (NEXT, "%"), (YEAR, "JFK"), (NEXT, "LGA")])
def test_key_figures_are_those_of_gold(built: Path, year: int, origin: str) -> None:
    flights, cancelled, minutes, abnormal, closures, inside = figures(built, year, origin)

    path = f"years/{year}.html" if origin == "%" else f"airports/{origin}/{year}.html"
    shown = facts(pages(built)[path].partition("<section")[0])

    assert shown["cancelled"] == f"{cancelled / flights:.1%}"
    assert shown["effective delay"] == f"{minutes / flights:.1f} min"
    assert shown["abnormal airport-days" if origin == "%" else "abnormal days"] == str(abnormal)
    assert shown["of them closures"] == str(closures)
    if origin == "%":
        assert shown["flights"] == f"{flights:,}"
    else:
        assert f"usual range, which contains {inside:.1%} of the days without a flag" in Page(pages(built)[path]).text


def test_home_has_the_figures_of_the_years_beside_each_other(built: Path) -> None:
    years = {row[0]: row for row in Page(pages(built)["index.html"]).rows if len(row) == 10}

    for year in (YEAR, NEXT):
        flights, cancelled, minutes, abnormal, closures, _ = figures(built, year, "%")
        shown = [years[str(year)][column] for column in (2, 4, 6, 7, 9)]
        share, delay = f"{cancelled / flights:.1%}", f"{minutes / flights:.1f}"
        assert shown == [f"{flights:,}", share, delay, str(abnormal), str(closures)]


def test_home_ranks_the_worst_days_of_all_years(built: Path) -> None:
    query = """
        SELECT strftime(fl_date, '%-d %b %Y'), count(*) FILTER (is_anomaly AND direction <> 'early') AS abnormal
        FROM '{lake}/03_gold/anomalies/detector=delaywatch/year=*/*.parquet' GROUP BY fl_date ORDER BY abnormal DESC
    """
    (day, airports), *_ = duckdb.connect().execute(query.format(lake=built)).fetchall()
    records = pages(built)["index.html"].partition("Records of all years")[2].partition("</ol>")[0]
    first, second, *_ = (Page(record).text for record in records.split("<li>")[1:])

    assert re.match(rf"Worst day since {YEAR}\s*{airports} of 3 airports abnormal\s*\w+ {day}", first)
    assert second.startswith(f"Second worst day since {YEAR}")


def test_the_page_of_an_airport_ranks_its_abnormal_days(built: Path) -> None:
    query = """
        SELECT fl_date, rank() OVER (ORDER BY severity DESC, score DESC)
        FROM '{lake}/03_gold/anomalies/detector=delaywatch/year=*/*.parquet'
        WHERE origin = 'JFK' AND is_anomaly AND direction <> 'early' ORDER BY fl_date DESC
    """
    ranks = duckdb.connect().execute(query.format(lake=built)).fetchall()
    table = Page(pages(built)["airports/JFK/index.html"].partition('<section id="abnormal">')[2]).rows[1:]

    assert [rank for _, rank in ranks] == [2, 1]
    assert [row[1] for row in table] == [str(rank) for _, rank in ranks]


def test_a_flagged_day_is_a_section_with_its_reasons_and_its_event(built: Path) -> None:
    text = pages(built)[f"airports/JFK/{YEAR}.html"]
    section = Page(text.partition(f'<article id="{YEAR}-02-08">')[2].partition("</article>")[0])

    assert "Sun 8 Feb 2015: closed" in section.text
    assert "18 of 24 flights cancelled" in section.text
    assert "Part of EWR and JFK, Sun 8 Feb 2015: 2 airports." in section.text
    assert "Weather" in section.text


def test_a_second_run_writes_nothing_and_a_changed_year_only_its_pages(two_years: Settings) -> None:
    before = written(two_years)
    site.write_site(two_years)
    assert written(two_years) == before

    load(two_years, NEXT, year_of_flights(NEXT, {"JFK": 12, "LGA": 8}, seed=2))
    site.write_site(two_years)

    after = written(two_years)
    changed = {path for path in before if before[path] != after.get(path) and path.endswith(".html")}
    assert {f"airports/JFK/{NEXT}.html", "airports/JFK/index.html", "index.html", f"years/{NEXT}.html"} <= changed
    assert not [path for path in changed if str(YEAR) in path]
    assert "airports/ACK/index.html" not in changed


def test_the_pages_of_a_deleted_year_and_of_its_airports_are_deleted(two_years: Settings) -> None:
    store = Lake(two_years).store
    store.delete([key for key in store.list("") if f"year={NEXT}/" in key or key == f"01_bronze/{NEXT}.csv"])

    site.write_site(two_years)

    paths = written(two_years).keys()
    assert not [path for path in paths if "LGA" in path or str(NEXT) in path]
    assert "airports/JFK/index.html" in paths


def test_a_year_that_a_run_is_changing_keeps_its_pages(two_years: Settings) -> None:
    before = written(two_years)
    load(two_years, NEXT, year_of_flights(NEXT, {"JFK": 5}), steps=("silver", "gold"))

    site.write_site(two_years)

    assert before.keys() == written(two_years).keys()
    assert f"years/{NEXT}.html" not in Path(two_years.lake[7:], "04_plots/index.html").read_text()


def test_a_run_that_changes_a_year_while_the_site_reads_it_does_not_stop_the_site(
    two_years: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_year = site._read_year
    started: list[int] = []
    changed = year_of_flights(YEAR, {"JFK": 20})
    load(two_years, YEAR, changed)

    def read_while_a_run_starts(*arguments: Any) -> site.Year:
        if not started:
            started.append(NEXT)
            load(two_years, NEXT, year_of_flights(NEXT, {"JFK": 5}), steps=("silver", "gold"))
        return read_year(*arguments)

    monkeypatch.setattr(site, "_read_year", read_while_a_run_starts)
    site.write_site(two_years)

    html = pages(Path(two_years.lake.removeprefix("file://")))
    assert facts(html[f"years/{YEAR}.html"])["flights"] == f"{len(changed):,}"
    assert f"airports/LGA/{NEXT}.html" in html


def test_pages_of_an_interrupted_call_are_written_again(two_years: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    root, store = Path(two_years.lake.removeprefix("file://")), Lake(two_years).store
    before = pages(root)
    key = keys.plot_key(NEXT, "LGA", "daily_delay")
    plot = store.get(key)
    assert plot
    store.delete([key])
    with monkeypatch.context() as patch:
        patch.setattr(site, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            site.write_site(two_years)
    assert pages(root)[f"airports/LGA/{NEXT}.html"] != before[f"airports/LGA/{NEXT}.html"]
    store.put(key, plot)

    site.write_site(two_years)

    assert pages(root) == before


def test_pages_of_a_deleted_year_are_deleted_after_an_interruption(
    two_years: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Lake(two_years).store
    store.delete([key for key in store.list("") if f"year={NEXT}/" in key or key == f"01_bronze/{NEXT}.csv"])
    with monkeypatch.context() as patch:
        patch.setattr(site, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            site.write_site(two_years)

    site.write_site(two_years)

    assert not [path for path in written(two_years) if "LGA" in path or str(NEXT) in path]


@pytest.mark.parametrize("damage", ["record", "page"])
def test_a_damaged_site_is_repaired(two_years: Settings, damage: str) -> None:
    before = pages(Path(two_years.lake.removeprefix("file://")))
    store = Lake(two_years).store
    if damage == "record":
        store.put(keys.site_key(site.RECORD), b'{"years": 3')
    else:
        store.delete([keys.site_key("airports/ACK/index.html")])

    site.write_site(two_years)

    assert pages(Path(two_years.lake.removeprefix("file://"))) == before
    assert json.loads(store.get(keys.site_key(site.RECORD)) or b"")["years"].keys() == {str(YEAR), str(NEXT)}


NO_DELAYS = {"DEP_DELAY": "", "DEP_TIME": "", "ARR_DELAY": "", "ARR_TIME": ""}


@pytest.mark.parametrize("kind", ["one airport", "unknown airport", "so far", "no delays", "few flights"])
def test_a_file_with_less_data_has_pages_that_say_so(folder_settings: Settings, kind: str) -> None:
    flights = year_of_flights(YEAR, {"ZZQ" if kind == "unknown airport" else "JFK": 2 if kind == "few flights" else 6})
    if kind == "so far":
        flights = [row for row in flights if row["FL_DATE"] < f"{YEAR}-04"]
    if kind == "no delays":
        flights = [{**row, **NO_DELAYS} for row in flights]
    load(folder_settings, YEAR, flights, steps=("silver", "gold", "detect", "explain"))

    site.write_site(folder_settings)

    shown = {path: Page(text) for path, text in pages(Path(folder_settings.lake.removeprefix("file://"))).items()}
    year = shown[f"years/{YEAR}.html"]
    assert "1airports" in year.text.replace(" ", "") or "airports1" in year.text.replace(" ", "")
    assert "nan" not in " ".join(page.text for page in shown.values()).lower().split()
    if kind == "so far":
        assert "The year so far, to March." in year.text
        assert "April to December: no data" in year.text
    if kind == "no delays":
        assert "The file has no delays." in year.text
    if kind == "few flights":
        assert "No airport had an abnormal day." in year.text
    assert not [image for page in shown.values() for image in page.attributes_of("img")]


def test_a_lake_without_a_finished_year_has_a_home_page(folder_settings: Settings) -> None:
    load(folder_settings, YEAR, year_of_flights(YEAR, {"JFK": 6})[:400], steps=("silver",))

    key = site.write_site(folder_settings)

    assert b"No year yet" in (Lake(folder_settings).store.get(key) or b"")


def test_home_lists_the_labels_of_the_30_days_up_to_the_newest(done: Settings) -> None:
    give = "INSERT INTO flights.feedback VALUES ('{}', '2015-02-08', 'right', '', '{}', '{}')"
    sql(
        done.warehouse,
        give.format("JFK", "ann", "2020-03-30"),
        give.format("EWR", "bob", "2020-03-01"),
        give.format("ACK", "eve", "2020-02-28"),
    )

    home = (Lake(done).store.get(site.write_site(done)) or b"").decode()

    labels = Page(home.partition("Newest labels")[2].partition("</ul>")[0]).text
    assert [name in labels for name in ("ann", "bob", "eve")] == [True, True, False]


def test_a_label_changes_the_state_of_its_own_year_only(done: Settings) -> None:
    give = "INSERT INTO flights.feedback VALUES ('{}', '{}-02-08', 'right', '', 'ann', now())"
    load(done, NEXT, year_of_flights(NEXT, {"JFK": 12}), steps=BEFORE_PUBLISH[:-1])
    states = []
    for origin, year in (("JFK", NEXT), ("EWR", YEAR)):  # the second label is sorted before the first
        sql(done.warehouse, give.format(origin, year))
        site.write_site(done)
        states.append(json.loads(Lake(done).store.get(keys.site_key(site.RECORD)) or b"")["years"])

    assert [year for year in states[0] if states[0][year] != states[1][year]] == [str(YEAR)]
