"""The benchmark of detectors: contestants, cache, measures and page."""

from __future__ import annotations

import re
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from joblib import Memory

from benchmarks.detection import contestants, data, page, run
from benchmarks.detection.contestants import CONTESTANTS, OURS, SIMPLE, Contestant
from benchmarks.detection.data import Year
from benchmarks.detection.measures import FEW, PLANTED, WIDE, Result
from tests.builders import airport_days, eventful_year, ordinary_year

README = Path(page.__file__).with_name("README.md")
REPLICATES = 20
NO_DAYS = pd.DataFrame(columns=["year", "origin", "fl_date"])
scored: list[int] = []  # the airport-days of each call of `counted`


def counted(days: pd.DataFrame, sign: int = 1) -> pd.DataFrame:
    """Score by the effective delay, and remember the call."""
    scored.append(len(days))
    return days[["origin", "fl_date"]].assign(score=sign * days["mean_effective_delay_min"])


def exact(days: pd.DataFrame) -> pd.DataFrame:
    """Score by the effective delay."""
    return days[["origin", "fl_date"]].assign(score=days["mean_effective_delay_min"])


def constant(days: pd.DataFrame) -> pd.DataFrame:
    """Score all days alike."""
    return days[["origin", "fl_date"]].assign(score=1.0)


def as_return_period(days: pd.DataFrame) -> pd.DataFrame:
    """Score by the return period among the days of the airport, and flag from 100 days."""
    by_airport = days.groupby("origin")["mean_effective_delay_min"]
    score = by_airport.transform("size") / by_airport.rank(ascending=False)
    return days[["origin", "fl_date"]].assign(score=score, is_anomaly=score >= 100, status="ok")


def year_of(airports: int, name: str) -> pd.DataFrame:
    """Airports with a few cancellations a day, so that no series is constant."""
    frames = []
    for number in range(airports):
        flights = ordinary_year(40, number, days=100)
        for place, day in enumerate(flights):
            flights[day][: (place * 7 + number) % 13] = np.nan
        frames.append(airport_days(f"{name}{number:02}", flights))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def years() -> list[Year]:
    """One year of each group; both halves of the real ones are the whole year, so the labels are exact."""
    few, many = year_of(2, "F"), year_of(20, "M")
    truth = pd.DataFrame(
        [("2015-07-04", origin, "storm", "storm01") for origin in ("AAA", "BBB", "CCC")],
        columns=["date", "origin", "kind", "event"],
    )
    return [
        Year("few/2015", few, ((few, few),), None),
        Year("many/2015", many, ((many, many),), None),
        Year("planted/101", eventful_year(), (), truth),
    ]


def result_of(contestant: Contestant, years: list[Year], memory: Memory) -> Result:
    results, _ = run.compare({"it": contestant}, years, NO_DAYS, REPLICATES, memory)
    return results["it"]


def values(result: Result) -> dict[str, float]:
    """One measure of each group of years, by the series that `exact` scores."""
    titles = {
        FEW: "effective delay, within airports",
        WIDE: "effective delay, network's worst days, together",
        PLANTED: "average precision, together",
    }
    return {group: result.estimates[group, title].value for group, title in titles.items()}


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "cache", verbose=0)


def test_a_perfect_contestant_gets_1_and_a_constant_one_the_share_of_abnormal_days(
    years: list[Year], memory: Memory
) -> None:
    perfect = result_of(Contestant(exact, SIMPLE, ""), years, memory)
    random = result_of(Contestant(constant, SIMPLE, ""), years, memory)

    assert values(perfect) == {FEW: 1, WIDE: 1, PLANTED: 1}
    assert perfect.storms == (1, 1)
    assert values(random) == pytest.approx({FEW: 0.02, WIDE: 0.02, PLANTED: 3 / (3 * 365 - 1)})


def test_a_score_that_is_a_return_period_is_observed_at_that_period_and_its_flags_are_counted(
    years: list[Year], memory: Memory
) -> None:
    result = result_of(Contestant(as_return_period, OURS, "", is_return_period=True), years[1:2], memory)

    observed = {stated: 1 / each.value for stated, each in result.periods[WIDE].items() if each.value}

    assert observed == pytest.approx({10: 10, 30: 100 / 3, 75: 100})
    assert result.own[WIDE].flags_per_year == pytest.approx(365.25 / 100)
    assert result.own[WIDE].confirmed == (40, 40)


def test_closures_and_known_visible_days_with_a_flag_are_counted(tmp_path: Path, memory: Memory) -> None:
    flights = ordinary_year(40, 3)
    flights[date(2015, 2, 1)][:20] = np.nan
    flights[date(2015, 3, 1)][:] += 200
    days = airport_days("AAA", flights)
    year = Year("few/2015", days, (), None)
    (tmp_path / "events.csv").write_text(
        "date,airports,dataset\n2015-02-01,AAA|ZZZ,few/2015\n2015-03-01,AAA,few/2015\n"
        "2015-05-05,AAA,few/2015\n2015-03-01,AAA,other/2015\n"
    )

    known = data.known_days(tmp_path / "events.csv", [year])
    results, _ = run.compare({"it": Contestant(as_return_period, OURS, "")}, [year], known, REPLICATES, memory)

    assert known["fl_date"].dt.strftime("%F").tolist() == ["2015-02-01", "2015-03-01"]
    assert (results["it"].own[FEW].closures, results["it"].own[FEW].known) == ((1, 1), (2, 2))


def test_the_cache_is_used_unless_days_or_settings_differ(memory: Memory) -> None:
    days = eventful_year()
    later = days.assign(mean_effective_delay_min=days["mean_effective_delay_min"] + 1)

    def flags_and_calls(contestant: Contestant, days: pd.DataFrame) -> tuple[list[tuple[str, str]], int]:
        before = len(scored)
        result = result_of(contestant, [Year("few/2015", days, (), None)], memory)
        flagged = result.flagged[result.flagged["flag"] > 0]
        return sorted(zip(flagged["origin"], flagged["fl_date"], strict=True)), len(scored) - before

    flags, calls = flags_and_calls(Contestant(counted, SIMPLE, "first"), days)
    again = flags_and_calls(Contestant(counted, SIMPLE, "in other words"), days.copy())
    other_days = flags_and_calls(Contestant(counted, SIMPLE, ""), later)
    other_flags, other_calls = flags_and_calls(Contestant(partial(counted, sign=-1), SIMPLE, ""), days)

    assert calls > 0
    assert again == (flags, 0)
    assert other_days == (flags, calls)
    assert other_flags != flags
    assert other_calls == calls


def test_a_changed_source_or_a_changed_setting_of_a_detector_is_another_version(tmp_path: Path) -> None:
    source = tmp_path / "model.py"
    source.write_text("WEIGHT = 1\n")
    of_source = Contestant(exact, SIMPLE, "", sources=(tmp_path,))
    ours = CONTESTANTS["delaywatch"]
    changed = Contestant(partial(contestants.own_detector, name="delaywatch", settings={}), OURS, "", ours.packages)

    before = of_source.version
    source.write_text("WEIGHT = 2\n")

    assert of_source.version != before
    assert len({each.version for each in (ours, changed, CONTESTANTS["delaywatch, past only"])}) == 3


def test_the_contestant_of_the_readme_has_at_most_20_lines_and_can_be_compared(
    years: list[Year], memory: Memory, tmp_path: Path
) -> None:
    function, entry = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    module = tmp_path / "example.py"  # a file, so that the source of the function is known
    module.write_text(f"{function}\nADDED = {{\n{entry}}}\n")
    names = dict(vars(contestants))
    exec(compile(module.read_text(), module, "exec"), names)  # noqa: S102
    added: dict[str, Contestant] = names["ADDED"]

    results, seconds = run.compare(
        {"delaywatch": CONTESTANTS["delaywatch"], **added}, years, NO_DAYS, REPLICATES, memory
    )

    assert len(f"{function}{entry}".splitlines()) <= 20
    assert values(results[next(iter(added))])[PLANTED] == 1
    assert list(seconds) == ["delaywatch", *added]


def test_the_page_shows_every_contestant_and_its_pictures(years: list[Year], memory: Memory, tmp_path: Path) -> None:
    chosen = {
        name: CONTESTANTS[name]
        for name in (
            "three_sigma",
            "delaywatch",
            "signed three sigma, mean delay",
            "signed three sigma, effective delay",
        )
    }
    results, seconds = run.compare(chosen, years, NO_DAYS, REPLICATES, memory)
    facts = page.Facts(chosen, results, seconds, years, 0, REPLICATES)

    page.write(facts, tmp_path)

    text = (tmp_path / page.NAME).read_text()
    assert all(f"`{name}`: " in text for name in chosen)
    assert "few/2015 (2)" in text
    assert set(re.findall(r"\((\S+\.png)\)", text)) == {path.name for path in tmp_path.glob("*.png")}
    assert len(list(tmp_path.glob("*.png"))) == 3
    assert page.summary(facts) != ""
