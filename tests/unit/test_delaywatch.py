"""What delaywatch promises beyond the contract of all detectors: rarity, level shifts, exclusions, holidays, alerts."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import detectors
from utils.detectors.delaywatch import return_period_days, z_of
from utils.detectors.shared.baseline import Baseline, History
from utils.layers import gold, ingest
from utils.storage.folder import FolderSource
from utils.storage.parquet import write_parquet

DATA = Path(__file__).parents[3] / "shared" / "data" / "dev"
detect = detectors.load("delaywatch")
LEVELS = (75.0, 180.0, 500.0)
Delays = npt.NDArray[np.float64]  # minutes, days × flights; NaN is a cancelled flight


def delays(flights: int = 60, seed: int = 1, n_days: int = 365) -> Delays:
    """A year without events: most flights leave about on time, a few late, every day alike."""
    return np.random.default_rng(seed).exponential(14, (n_days, flights)) - 5


def airport(of_flights: Delays, origin: str = "AAA", first: str = "2015-01-01") -> pd.DataFrame:
    """The airport days of some flights, those columns that delaywatch reads."""
    effective = np.minimum(np.nan_to_num(of_flights, nan=120.0), 120.0)
    is_cancelled = np.isnan(of_flights)
    return pd.DataFrame(
        {
            "origin": origin,
            "fl_date": pd.date_range(first, periods=len(of_flights)),
            "scheduled": of_flights.shape[1],
            "cancelled": is_cancelled.sum(axis=1),
            "disrupted": (is_cancelled | (of_flights > 60)).sum(axis=1),
            "mean_effective_delay_min": effective.mean(axis=1),
            "std_effective_delay_min": effective.std(axis=1, ddof=1),
        }
    )


def of(found: pd.DataFrame, origin: str = "AAA") -> pd.DataFrame:
    """One airport's rows, by date."""
    return found[found["origin"] == origin].set_index("fl_date").sort_index()


def flagged(found: pd.DataFrame, first: str, last: str) -> float:
    """Share of flagged days from `first` to `last`."""
    return float(of(found).loc[first:last, "is_anomaly"].mean())


def place(date: str) -> int:
    return (pd.Timestamp(date) - pd.Timestamp("2015-01-01")).days


# The score


@given(z=st.floats(-6, 60), more=st.floats(0.001, 10))
def test_a_larger_z_is_always_rarer(z: float, more: float) -> None:
    seldom, more_seldom = return_period_days(np.array([z, z + more]))

    assert 1 < seldom < more_seldom < np.inf


@given(period_days=st.floats(1.01, 1e9))
def test_a_level_in_days_is_reached_at_the_z_that_is_as_rare(period_days: float) -> None:
    there = return_period_days(np.array([z_of(period_days)]))

    assert there == pytest.approx(period_days, rel=1e-9)


def test_a_day_of_mild_lateness_touches_the_upper_edge_of_the_band_when_both_series_agree() -> None:
    year = airport(delays())

    verdict = of(detect(year, levels=LEVELS)).iloc[200]

    to_upper = np.sqrt(verdict["upper"] + 12) - np.sqrt(verdict["expected"] + 12)
    to_lower = np.sqrt(verdict["expected"] + 12) - np.sqrt(verdict["lower"] + 12)
    assert to_upper == pytest.approx(to_lower, rel=1e-4)
    halved = of(detect(year, levels=(30.0, 180.0, 500.0))).iloc[200]
    closer = np.sqrt(halved["upper"] + 12) - np.sqrt(halved["expected"] + 12)
    assert to_upper / closer == pytest.approx(z_of(75.0) / z_of(30.0), rel=1e-4)


def test_severity_counts_the_return_periods_that_a_day_reaches() -> None:
    flights = delays()
    flights[[50, 120, 190, 260, 330]] += np.array([9, 12, 15, 20, 70])[:, None]

    found = detect(airport(flights), levels=LEVELS)

    assert set(found["severity"]) >= {0, 3}
    reached = np.sum([found["score"] >= level for level in LEVELS], axis=0)
    assert found["severity"].tolist() == reached.tolist()


def test_the_worst_days_never_tie() -> None:
    flights = delays()
    flights[[50, 120, 190]] = np.array([[110.0], [119.0], [np.nan]])

    scores = of(detect(airport(flights)))["score"].iloc[[50, 120, 190]].tolist()

    assert 36_525 < scores[0] < scores[1] < scores[2] < np.inf


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), minutes=st.integers(15, 60))
def test_the_same_lateness_of_twice_the_flights_is_no_less_rare(seed: int, minutes: int) -> None:
    flights = delays(20, seed, n_days=150)
    flights[75] += minutes
    once, twice = airport(flights), airport(flights)
    twice.loc[75, ["scheduled", "cancelled", "disrupted"]] *= 2

    scores = [of(detect(year))["score"].iloc[75] for year in (once, twice)]

    assert scores[1] >= scores[0] * (1 - 1e-6)


# Closures


@pytest.mark.parametrize("flights", [6, 30, 300])
def test_an_airport_that_always_cancels_a_lot_cannot_hide_a_closure(flights: int) -> None:
    """Like Aspen: on some days a fifth of the schedule, on some hardly anything, and once all of it."""
    rng = np.random.default_rng(3)
    of_flights = delays(flights)
    of_flights[rng.random(of_flights.shape) < rng.beta(0.8, 4, (365, 1))] = np.nan
    of_flights[180] = np.nan

    day = of(detect(airport(of_flights))).iloc[180]

    assert day["is_anomaly"]
    assert day["direction"] == "closure"


# Levels that move


def shifted(start: str, end: str = "2015-12-31") -> Delays:
    """A third of the flights disrupted and the rest much later from `start` to `end`; a storm on 20 October."""
    flights = delays()
    spell = slice(place(start), place(end) + 1)
    flights[spell] += 25
    flights[spell, ::3] = np.nan
    flights[place("2015-10-20")] += 60
    return flights


def test_a_new_level_is_flagged_for_weeks_and_then_taken_for_granted() -> None:
    found = detect(airport(shifted("2015-09-01")))

    assert flagged(found, "2015-09-01", "2015-09-10") == 1
    assert flagged(found, "2015-09-22", "2015-10-19") == 0
    assert flagged(found, "2015-10-21", "2015-12-31") == 0
    assert flagged(found, "2015-10-20", "2015-10-20") == 1
    assert flagged(found, "2015-01-01", "2015-08-31") == 0


def test_a_spell_of_weeks_that_has_ended_hides_no_later_day() -> None:
    found = detect(airport(shifted("2015-03-16", "2015-04-30")))

    assert flagged(found, "2015-03-16", "2015-03-25") == 1
    assert flagged(found, "2015-04-06", "2015-04-23") == 0
    assert flagged(found, "2015-05-01", "2015-10-19") == 0
    assert flagged(found, "2015-10-20", "2015-10-20") == 1


@pytest.mark.parametrize("past_only", [False, True])
def test_a_storm_soon_after_a_spell_has_ended_is_a_storm(past_only: bool) -> None:
    flights = shifted("2015-03-16", "2015-04-30")
    flights[place("2015-05-06")] += 60

    found = detect(airport(flights), past_only=past_only)

    assert flagged(found, "2015-05-06", "2015-05-06") == 1


def test_an_alert_takes_a_new_level_for_granted_after_weeks_too() -> None:
    found = detect(airport(shifted("2015-09-01")), past_only=True)

    assert flagged(found, "2015-09-01", "2015-09-08") == 1
    assert flagged(found, "2015-09-24", "2015-10-19") == 0


@pytest.mark.parametrize("first", [0, 100])
def test_nine_days_of_storms_are_no_new_level(first: int) -> None:
    """Not in January either, like New York's of 2014, when there are no weeks before them to compare with."""
    flights = delays()
    flights[first : first + 9] += 60

    found = detect(airport(flights))

    assert of(found)["is_anomaly"].to_numpy()[first : first + 9].all()


@pytest.mark.skipif(not DATA.is_dir(), reason="the real flights of shared/data/dev are not on this machine")
def test_the_spring_of_2020_is_abnormal_for_weeks_and_not_for_the_rest_of_the_year(tmp_path: Path) -> None:
    """Real flights of San Francisco and Oakland: half of the schedule was cancelled from March to the end of April."""
    with closing(FolderSource("01_bronze/2020.csv.gz", DATA / "bay" / "2020.csv.gz")) as source:
        refined = ingest.ingest_year(source, 2020, tmp_path, 2, write_parquet)
    found = detect(gold.airport_days(refined.sums, 2020).to_pandas(date_as_object=False))

    for origin in ("SFO", "OAK"):
        is_flagged = of(found, origin)["is_anomaly"]
        assert is_flagged["2020-03-24":"2020-03-31"].all()
        assert not is_flagged["2020-04-07":].any()


# Excluded days


def excluding(year: pd.DataFrame, places: list[int]) -> pd.DataFrame:
    return year.assign(is_excluded=np.isin(np.arange(len(year)), places))


def test_an_excluded_day_is_judged_like_any_other() -> None:
    flights = delays()
    flights[[100, 101]] += 60

    day = of(detect(excluding(airport(flights), [100])))

    assert day["is_anomaly"].iloc[[100, 101]].tolist() == [True, True]
    assert day["status"].iloc[100] == "ok"


@pytest.mark.parametrize("past_only", [False, True])
def test_what_happened_on_excluded_days_changes_no_other_score(past_only: bool) -> None:
    storm = list(range(100, 112))
    quiet = pd.concat([airport(delays()), airport(delays(seed=2), "BBB")], ignore_index=True)
    stormy = quiet.copy()
    stormy.loc[storm, ["disrupted", "mean_effective_delay_min", "std_effective_delay_min"]] = [55, 115.0, 20.0]

    before, after = (detect(excluding(year, storm), past_only=past_only) for year in (quiet, stormy))

    columns = ["expected", "lower", "upper", "score", "severity"]
    pd.testing.assert_frame_equal(before.drop(index=storm)[columns], after.drop(index=storm)[columns])
    assert after.loc[storm, "is_anomaly"].all()
    learnt = detect(stormy, past_only=past_only).drop(index=storm)
    assert not np.allclose(learnt["score"].dropna(), after.drop(index=storm)["score"].dropna())


def test_excluding_a_long_incident_brings_the_storms_of_the_year_back() -> None:
    flights = delays()
    flights[:, :8] += np.random.default_rng(5).normal(0, 30, (365, 1))  # days differ
    flights[60:100] += 90
    flights[300] += 30
    year = airport(flights)

    scores = [of(detect(days))["score"].iloc[300] for days in (year, excluding(year, list(range(60, 100))))]

    assert scores[1] > 2 * scores[0]


def test_a_baseline_with_nothing_left_after_exclusions_is_too_little_to_judge_by() -> None:
    both = pd.concat([airport(delays()), airport(delays(seed=2), "BBB")], ignore_index=True)
    year = both.assign(is_excluded=both["origin"] == "BBB")

    found = detect(year)

    assert set(of(found, "BBB")["status"]) == {"insufficient_data"}
    assert not of(found, "BBB")["is_anomaly"].any()
    assert set(of(found, "AAA")["status"]) == {"ok"}
    assert set(detect(both.assign(is_excluded=True))["status"]) == {"insufficient_data"}
    assert detectors.expectations(both.assign(is_excluded=True)).isna().to_numpy().all()


# Holidays


def test_the_rush_around_holidays_is_expected_and_nothing_like_it_in_november() -> None:
    """Eight airports, all busier on the days around Christmas and New Year than on any other."""
    names = [f"AA{i}" for i in range(8)]
    first, last = place("2015-12-20"), place("2015-12-31")
    frames = []
    for seed, name in enumerate(names):
        flights = delays(seed=seed)
        flights[:4] += 12
        flights[first : last + 1] += 12
        flights[place("2015-11-10")] += 12
        frames.append(airport(flights, name))
    year = pd.concat(frames, ignore_index=True)

    knowing, unknowing = (
        detect(year, holiday_days=weight).set_index(["origin", "fl_date"])["expected"].unstack("origin")
        for weight in (1, 1000)
    )

    risen = knowing - unknowing
    assert risen.loc["2015-12-20":"2015-12-31"].to_numpy().mean() > 2
    assert risen.loc[["2015-11-10"]].abs().to_numpy().max() < 0.5


def test_one_storm_at_christmas_does_not_become_what_christmas_is_expected_to_be() -> None:
    flights = delays()
    flights[place("2015-12-23")] += 70

    found = detect(airport(flights), holiday_days=1)

    assert flagged(found, "2015-12-23", "2015-12-23") == 1
    expected = of(found)["expected"]
    assert expected["2015-12-28"] == pytest.approx(expected["2015-12-14"], abs=2)


def test_holidays_and_the_days_around_them_and_all_others_are_three_kinds() -> None:
    """Holidays are quiet here and all other days busy: what is expected of a kind is what its days are like."""
    dates = pd.date_range("2013-01-01", "2013-12-31")
    holidays = ("01-01", "01-21", "02-18", "05-27", "07-04", "09-02", "10-14", "11-11", "11-28", "12-25")
    is_holiday = dates.strftime("%m-%d").isin(holidays)
    error = np.where(is_holiday, -1.0, 1.0)[:, None] + np.zeros((365, 3))
    baseline = Baseline(
        History(past_only=False),
        season_days=91,
        season_weight=0.2,
        weekday_weeks=100,
        holiday_days=0.001,
        shift_days=28,
        airports=3,
    )

    effect = pd.Series(baseline._holiday_effect(error, dates)[:, 0], index=dates)

    assert effect[is_holiday].to_numpy() == pytest.approx(-1, abs=0.01)
    assert effect[["2013-01-04", "2013-07-06", "2013-11-27", "2013-12-28"]].to_numpy() == pytest.approx(1, abs=0.01)
    assert effect[["2013-01-10", "2013-06-15", "2013-11-20", "2013-12-10"]].tolist() == [0, 0, 0, 0]


# Missing and doubled months


def test_a_missing_month_is_harmless() -> None:
    flights = delays()
    flights[[150, 320]] += 60
    year = airport(flights)
    october = year["fl_date"].dt.month == 10

    whole, without = detect(year), detect(year[~october])

    empty = year.assign(**dict.fromkeys(["scheduled", "cancelled", "disrupted"], 0)).where(october, year)
    empty.loc[october, ["mean_effective_delay_min", "std_effective_delay_min"]] = np.nan
    zeroed = detect(empty)
    kept = whole[~october]
    assert without["is_anomaly"].tolist() == kept["is_anomaly"].tolist()
    np.testing.assert_allclose(np.log(without["score"]), np.log(kept["score"]), atol=0.6)
    pd.testing.assert_frame_equal(zeroed[~october], without)
    assert set(zeroed.loc[october, "status"]) == {"no_flights"}


def test_a_month_that_is_in_the_file_twice_is_harmless() -> None:
    flights = delays()
    flights[[160, 320]] += 60  # the first one in June
    once = airport(flights)
    june = once["fl_date"].dt.month == 6
    twice = once.copy()
    twice.loc[june, ["scheduled", "cancelled", "disrupted"]] *= 2

    found, doubled = detect(once), detect(twice)

    assert doubled["is_anomaly"].tolist() == found["is_anomaly"].tolist()
    np.testing.assert_allclose(np.log(doubled[~june]["score"]), np.log(found[~june]["score"]), atol=0.1)


# Alerts


@settings(max_examples=25, deadline=None)
@given(
    today=st.integers(28, 118),
    what=st.sampled_from(["later", "gone", "grown", "excluded", "closed"]),
    seed=st.integers(0, 100),
)
def test_the_future_cannot_change_the_past(today: int, what: str, seed: int) -> None:
    """A shift of level in autumn included: whatever happens to days after `today`, its alert and all before stay."""
    frames = []
    for number, origin in enumerate(("AAA", "BBB", "CCC")):
        flights = delays(12 * (number + 1), seed + number, n_days=120)
        flights[70:] += 40 * (number == 1)
        frames.append(airport(flights, origin, "2015-09-01").assign(is_excluded=False))
    year = pd.concat(frames, ignore_index=True)
    later = year["fl_date"] > pd.Timestamp("2015-09-01") + pd.Timedelta(days=today)
    other = year.copy()
    if what == "later":
        other.loc[later, "mean_effective_delay_min"] += 50
    elif what == "gone":
        other = other[~later]
    elif what == "grown":
        other.loc[later, ["scheduled", "std_effective_delay_min"]] *= 5
    elif what == "excluded":
        other.loc[later, "is_excluded"] = True
    else:
        other.loc[later, ["cancelled", "disrupted", "mean_effective_delay_min"]] = [12, 12, 120.0]

    told, tells = detect(year, past_only=True), detect(other, past_only=True)

    pd.testing.assert_frame_equal(told[~later], tells[~later.loc[other.index]])
    assert (told.loc[~later, "status"] == "ok").any()


def test_what_an_alert_expects_of_a_day_does_not_depend_on_that_day() -> None:
    early, late = delays(n_days=60), delays(n_days=60)
    early[40], late[40] = -5, 90

    expected = [of(detect(airport(flights), past_only=True))["expected"].iloc[40] for flights in (early, late)]

    assert expected[0] == expected[1]


def test_an_alert_finds_the_closure_that_the_report_finds() -> None:
    flights = delays()
    flights[200, :40] = np.nan
    year = airport(flights)

    alert, report = (of(detect(year, past_only=past_only)).iloc[200] for past_only in (True, False))

    assert (alert["direction"], report["direction"]) == ("closure", "closure")
    assert alert["severity"] == report["severity"] == 3


# What was expected


def test_the_expectations_are_those_of_the_verdict_in_the_units_of_both_series() -> None:
    rng = np.random.default_rng(4)
    flights = delays()
    flights[rng.random(flights.shape) < 0.1] = np.nan
    year = airport(flights).sample(frac=1, random_state=1)
    year.index = pd.Index(np.arange(len(year)) + 1000)

    expected = detectors.expectations(year, {"season_weight": 0.5})

    found = detect(year, season_weight=0.5)
    assert expected.index.equals(year.index)
    assert expected.columns.tolist() == ["expected_effective_delay_min", "expected_disrupted_share"]
    np.testing.assert_allclose(expected["expected_effective_delay_min"], found["expected"], rtol=1e-5)
    usual = (year["disrupted"] / year["scheduled"]).median()
    assert expected["expected_disrupted_share"].median() == pytest.approx(usual, abs=0.01)
    assert expected["expected_disrupted_share"].between(0, 1).all()


def test_there_is_no_expectation_where_there_is_no_verdict() -> None:
    year = airport(delays())
    year.loc[7, ["scheduled", "cancelled", "disrupted"]] = [3, 0, 0]
    brief = airport(delays(n_days=20), "BBB")

    expected = detectors.expectations(pd.concat([year, brief], ignore_index=True))

    assert expected.isna().all(axis=1).tolist() == [place == 7 for place in range(365)] + [True] * 20


def test_with_past_only_the_first_days_have_no_expectation() -> None:
    year = airport(delays())

    expected = detectors.expectations(year, {"past_only": True})

    assert expected["expected_effective_delay_min"].isna().sum() == 28
