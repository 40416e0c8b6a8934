"""The detectors: one contract for all of them, each one's own trait, and what is said about wrong settings."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import GROUNDED, SPIKE, eventful_year, new_york_2013
from tests.builders import airport_days as gold
from tests.builders import days_of_delays as of_delays
from tests.builders import of_airport as of
from tests.builders import ordinary_year as flights_of_a_year
from tests.builders import run_detector as judged
from tests.builders import verdict_on as on
from utils import detectors, schemas
from utils.errors import DelaywatchError, InvalidInput, Missing

SETTINGS = Path(__file__).parents[2] / "dags" / "detectors.yaml"
FEW_TREES: dict[str, dict[str, int]] = {
    "isolation_forest": {"n_estimators": 5},
    "random_cut_forest": {"n_trees": 20},
    "gradient_boosting": {"n_estimators": 5},
}  # where a test is about the days and not about how well trees find them
FEW = settings(deadline=None, max_examples=3)


def of_few_trees(name: str, days: pd.DataFrame, **params: object) -> pd.DataFrame:
    """The verdicts in the order of airport and day, in a fraction of the time."""
    return judged(name, days, **{**FEW_TREES.get(name, {}), **params})


@cache
def two_months() -> pd.DataFrame:
    """Sixty days of three airports, all late on the 4th of February; the same frame each time, not to be changed."""
    frames = []
    for seed, origin in enumerate(("AAA", "BBB", "CCC")):
        flights = flights_of_a_year(20 * (seed + 1), seed, days=60)
        flights[date(2015, 2, 4)] = flights[date(2015, 2, 4)] + 60
        frames.append(gold(origin, flights))
    return pd.concat(frames, ignore_index=True)


# The contract


@pytest.mark.parametrize("name", detectors.NAMES)
def test_every_detector_honours_the_contract(name: str) -> None:
    """Same rows out as in, the planted spike found, a day without flights never flagged, few false alarms."""
    year = eventful_year()

    found = detectors.load(name)(year)

    assert found.index.equals(year.index)
    assert found["origin"].tolist() == year["origin"].tolist()
    assert found["fl_date"].tolist() == year["fl_date"].tolist()
    assert [*found.columns, "params_hash"] == schemas.ANOMALIES.names
    spike = found[found["fl_date"] == SPIKE]
    assert spike["is_anomaly"].tolist() == [True, True, True]
    assert set(spike["direction"]) == {"late"}
    assert not on(found, GROUNDED, "BBB")["is_anomaly"]
    assert on(found, GROUNDED, "BBB")["status"] == "no_flights"
    assert found["is_anomaly"].mean() < 0.05
    assert ((found["severity"] > 0) == found["is_anomaly"]).all()
    assert found.loc[~found["is_anomaly"], "direction"].isna().all()


@pytest.mark.parametrize("name", detectors.NAMES)
def test_no_detector_changes_its_input(name: str) -> None:
    year = eventful_year()
    before = year.copy(deep=True)

    detectors.load(name)(year, **FEW_TREES.get(name, {}))

    pd.testing.assert_frame_equal(year, before)


@pytest.mark.parametrize("name", detectors.NAMES)
def test_neither_a_second_run_nor_another_order_of_rows_changes_a_bit(name: str) -> None:
    year = eventful_year()
    orders = (year, year, year.sample(frac=1, random_state=9))

    first, again, shuffled = (detectors.run(name, days, FEW_TREES.get(name)) for days in orders)

    assert again.equals(first)
    assert shuffled.equals(first)


@pytest.mark.parametrize("name", detectors.NAMES)
def test_too_few_flights_or_days_or_no_value_is_a_verdict_and_no_flag(name: str) -> None:
    flights = flights_of_a_year(60, seed=1)
    flights[date(2015, 3, 1)] = np.array([300.0, 400.0, 500.0, 600.0])
    regular, brief = gold("AAA", flights), gold("BBB", flights_of_a_year(60, seed=2, days=20))
    unknown = regular["fl_date"] == date(2015, 3, 2)
    regular.loc[unknown, ["mean_dep_delay_min", "mean_effective_delay_min"]] = np.nan
    brief.loc[7, ["mean_dep_delay_min", "mean_effective_delay_min", "disrupted"]] = [115.0, 115.0, 60]

    found = judged(name, pd.concat([regular, brief], ignore_index=True))

    for day in (date(2015, 3, 1), date(2015, 3, 2)):
        assert on(found, day)["status"] == "insufficient_data"
        assert not on(found, day)["is_anomaly"]
    assert (of(found, "AAA")["status"] == "ok").sum() == 363
    assert set(of(found, "BBB")["status"]) == {"insufficient_data"}
    assert not of(found, "BBB")["is_anomaly"].any()
    assert of(found, "BBB")[["expected", "score"]].isna().to_numpy().all()


@pytest.mark.parametrize("name", detectors.NAMES)
def test_a_run_gives_exactly_the_table_that_gold_stores(name: str) -> None:
    year = pa.Table.from_pandas(eventful_year(), schema=schemas.AIRPORT_DAYS, preserve_index=False).to_pandas()
    as_timestamps = year.assign(fl_date=pd.to_datetime(year["fl_date"]))
    as_nullable = year.convert_dtypes()
    given_ = FEW_TREES.get(name)

    table = detectors.run(name, year, given_)

    assert table.schema.equals(schemas.ANOMALIES)
    keys = list(zip(table["origin"].to_pylist(), table["fl_date"].to_pylist(), strict=True))
    assert keys == sorted(keys)
    assert set(table["params_hash"].to_pylist()) == {detectors.params_hash(name, given_)}
    assert table["direction"].null_count == table.num_rows - table["is_anomaly"].to_pylist().count(True)
    assert detectors.run(name, as_timestamps, given_).equals(table)
    assert detectors.run(name, as_nullable, given_).equals(table)


@pytest.mark.parametrize("name", detectors.NAMES)
@pytest.mark.parametrize("n_days", [1, 2, 30, 366])
def test_one_airport_alone_is_judged_whatever_the_length_of_its_year(name: str, n_days: int) -> None:
    found = judged(name, gold("AAA", flights_of_a_year(40, seed=3, days=n_days)))

    assert set(found["status"]) == {"ok" if n_days >= 28 else "insufficient_data"}
    assert found["is_anomaly"].mean() < 0.05


@pytest.mark.parametrize("name", detectors.NAMES)
def test_a_spike_is_found_in_a_year_whose_summer_is_missing(name: str) -> None:
    flights = {day: delays for day, delays in flights_of_a_year(60, seed=4).items() if day.month not in (6, 7, 8)}
    flights[date(2015, 10, 9)] = flights[date(2015, 10, 9)] + 70

    found = judged(name, gold("AAA", flights))

    assert len(found) == 365 - 92
    assert on(found, date(2015, 10, 9))["is_anomaly"]


@pytest.mark.parametrize("name", detectors.NAMES)
def test_identical_days_are_normal_and_an_airport_without_values_disturbs_nobody(name: str) -> None:
    same = gold("AAA", {day: np.full(20, 6.0) for day in flights_of_a_year(1, seed=0)})
    silent = same.assign(origin="BBB", mean_dep_delay_min=np.nan, mean_effective_delay_min=np.nan)

    found = judged(name, pd.concat([same, silent], ignore_index=True))

    assert not found["is_anomaly"].any()
    assert set(of(found, "AAA")["status"]) == {"ok"}
    assert of(found, "AAA")["expected"].tolist() == pytest.approx([6.0] * 365)
    assert set(of(found, "BBB")["status"]) == {"insufficient_data"}


@pytest.mark.parametrize("name", detectors.NAMES)
def test_wrong_airport_days_are_named(name: str) -> None:
    year = gold("AAA", flights_of_a_year(10, seed=1, days=3))
    wrong = {
        "AAA has two rows for 2015-01-02": pd.concat([year, year.iloc[[1]]]),
        "no column scheduled": year.drop(columns="scheduled"),
        "1 airport days have no origin": year.assign(origin=pd.Series(["AAA", None, "AAA"], dtype=object)),
        "no airport days to judge": year.iloc[:0],
    }

    for sentence, days in wrong.items():
        with pytest.raises(DelaywatchError, match=sentence):
            detectors.run(name, days)


@pytest.mark.parametrize("name", detectors.NAMES)
def test_an_excluded_day_that_was_early_changes_the_verdict_of_no_other_day(name: str) -> None:
    year = eventful_year()
    is_excluded = year["fl_date"] == date(2015, 3, 3)
    known = year.assign(is_excluded=is_excluded)
    early = known.copy()
    early.loc[is_excluded, ["mean_dep_delay_min", "mean_effective_delay_min"]] = -30.0

    found, found_early = (detectors.load(name)(days, **FEW_TREES.get(name, {})) for days in (known, early))

    pd.testing.assert_frame_equal(found[~is_excluded], found_early[~is_excluded])


@pytest.mark.parametrize("name", detectors.NAMES)
def test_an_excluded_day_is_judged_and_its_value_changes_the_verdict_of_no_other_day(name: str) -> None:
    year = eventful_year()
    is_excluded = year["fl_date"].isin([SPIKE, date(2015, 3, 3)])
    known = year.assign(is_excluded=is_excluded)
    worse = known.copy()
    worse.loc[is_excluded, ["mean_dep_delay_min", "mean_effective_delay_min", "disrupted"]] = [119.0, 118.0, 58]

    found, found_worse = (detectors.load(name)(days, **FEW_TREES.get(name, {})) for days in (known, worse))

    pd.testing.assert_frame_equal(found[~is_excluded], found_worse[~is_excluded])
    assert set(found.loc[is_excluded, "status"]) == {"ok"}
    assert found.loc[year["fl_date"] == SPIKE, "is_anomaly"].all()
    assert found_worse.loc[is_excluded, "is_anomaly"].all()
    assert not found.loc[year["fl_date"] == date(2015, 3, 3), "is_anomaly"].any()


@pytest.mark.parametrize("name", detectors.NAMES)
@pytest.mark.parametrize("others", [["BBB"], ["BBB", "CCC"]], ids=" and ".join)
def test_feedback_on_an_airport_changes_verdicts_of_that_airport_alone(name: str, others: list[str]) -> None:
    """Airport AAA has the same verdicts to the last bit, and BBB the same whether or not CCC has feedback, too."""
    year = eventful_year()
    trouble = year["fl_date"].isin([SPIKE, *(date(2015, 3, 1) + timedelta(days=i) for i in range(20))])

    def judge(feedback_on: list[str]) -> pa.Table:
        said = year.assign(is_expected=trouble & year["origin"].isin(feedback_on))
        return detectors.run(name, said, FEW_TREES.get(name)).to_pandas().set_index("origin")

    without, on_bbb, on_others = judge([]), judge(["BBB"]), judge(others)

    pd.testing.assert_frame_equal(on_others.loc["AAA"], without.loc["AAA"])
    pd.testing.assert_frame_equal(on_others.loc["BBB"], on_bbb.loc["BBB"])
    assert not on_others.loc["BBB", "score"].equals(without.loc["BBB", "score"])


@pytest.mark.parametrize("name", sorted({*detectors.NAMES} - {"delaywatch", "gradient_boosting"}))
def test_a_detector_that_fits_each_airport_by_itself_excludes_a_day_for_an_incident_as_for_feedback(name: str) -> None:
    year = of(eventful_year(), "BBB")
    trouble = year["fl_date"] == SPIKE

    incident, feedback = (
        detectors.run(name, year.assign(**{column: trouble}), FEW_TREES.get(name))
        for column in ("is_excluded", "is_expected")
    )

    assert feedback.equals(incident)


@pytest.mark.parametrize("name", detectors.NAMES)
def test_excluding_no_day_is_the_same_as_having_no_such_column(name: str) -> None:
    year = eventful_year()
    same = (year.assign(is_excluded=False), year.assign(is_excluded=pd.array([None] * len(year), dtype="boolean")))

    without, *with_column = (detectors.run(name, days, FEW_TREES.get(name)) for days in (year, *same))

    assert all(found.equals(without) for found in with_column)


@pytest.mark.parametrize("name", detectors.NAMES)
def test_a_spike_among_excluded_spikes_is_found_which_they_would_hide(name: str) -> None:
    """A month of known trouble must not make a bad day of another month look ordinary."""
    flights = flights_of_a_year(60, seed=1)
    trouble = [date(2015, 3, 1) + timedelta(days=i) for i in range(60)]
    flights |= {day: flights[day] + 60 for day in trouble}
    flights[date(2015, 9, 9)] = flights[date(2015, 9, 9)] + 35
    year = gold("AAA", flights)

    found = judged(name, year.assign(is_excluded=year["fl_date"].isin(trouble)))

    assert on(found, date(2015, 9, 9))["is_anomaly"]
    assert set(found["status"]) == {"ok"}, "excluded days are scored too"


@pytest.mark.parametrize("name", detectors.NAMES)
@pytest.mark.parametrize(
    "days",
    [
        gold("AAA", flights_of_a_year(40, seed=3, days=1)),
        gold("AAA", flights_of_a_year(40, seed=3, days=3)).assign(
            mean_dep_delay_min=None, mean_effective_delay_min=None
        ),
        gold("AAA", flights_of_a_year(40, seed=3, days=100)).assign(
            mean_dep_delay_min=np.nan, mean_effective_delay_min=np.nan, std_effective_delay_min=np.nan
        ),
        gold("AAA", flights_of_a_year(40, seed=3, days=100)).assign(is_excluded=True),
        gold("AAA", flights_of_a_year(2, seed=3, days=100)),
        gold("AAA", dict.fromkeys(flights_of_a_year(1, seed=3, days=100), np.array([]))),
        gold("AAA", dict.fromkeys(flights_of_a_year(1, seed=3, days=100), np.full(20, np.nan))),
    ],
    ids=["one day", "three empty days", "no value", "all excluded", "two flights a day", "no flights", "all cancelled"],
)
def test_where_there_is_nothing_to_learn_from_no_day_is_flagged_and_nothing_is_warned_of(
    name: str, days: pd.DataFrame
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = detectors.run(name, days)

    assert table.num_rows == len(days)
    assert not any(table["is_anomaly"].to_pylist())
    is_all_cancelled = bool((days["cancelled"] == days["scheduled"]).all() and days["scheduled"].all())
    if not (is_all_cancelled and name == "delaywatch"):  # to which a cancelled flight has a value, 120 minutes
        assert "ok" not in table["status"].to_pylist()


@pytest.mark.parametrize("name", detectors.NAMES)
@pytest.mark.parametrize("airports", [10, pytest.param(400, marks=pytest.mark.slow)])
def test_any_number_of_airports_is_judged_without_a_warning(name: str, airports: int) -> None:
    days = gold("AAA", flights_of_a_year(40, seed=3, days=35))
    days.loc[20, ["mean_dep_delay_min", "mean_effective_delay_min", "disrupted"]] = [95.0, 90.0, 30]
    many = pd.concat([days.assign(origin=f"A{i:03}") for i in range(airports)], ignore_index=True)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = of_few_trees(name, many, **({"n_estimators": 2} if name == "isolation_forest" else {}))

    is_spike = found["fl_date"] == days["fl_date"][20]
    assert found.loc[is_spike, "is_anomaly"].all()
    assert found.loc[~is_spike, "is_anomaly"].mean() < 0.05


@pytest.mark.parametrize("name", [name for name in detectors.NAMES if name != "delaywatch"])
@FEW
@given(times=st.integers(2, 20))
def test_a_detector_of_mean_delays_says_the_same_of_as_late_days_with_more_flights(name: str, times: int) -> None:
    days = two_months()
    more = days.assign(**{count: days[count] * times for count in ("scheduled", "departed", "cancelled", "disrupted")})

    found, found_more = of_few_trees(name, days), of_few_trees(name, more)

    np.testing.assert_allclose(found_more["score"], found["score"], rtol=1e-4)
    assert found_more["is_anomaly"].equals(found["is_anomaly"])


@FEW
@given(times=st.integers(2, 20), past_only=st.booleans())
def test_delaywatch_flags_the_same_days_when_all_days_have_more_flights_and_are_as_late(
    times: int, past_only: bool
) -> None:
    days = two_months()
    more = days.assign(**{count: days[count] * times for count in ("scheduled", "departed", "cancelled", "disrupted")})

    found, found_more = (judged("delaywatch", year, past_only=past_only) for year in (days, more))

    assert found_more["is_anomaly"].equals(found["is_anomaly"])
    assert found.loc[found["is_anomaly"], "fl_date"].tolist() == [date(2015, 2, 4)] * 3


@pytest.mark.parametrize("name", detectors.NAMES)
@FEW
@given(names=st.permutations(["AAA", "BBB", "CCC"]))
def test_the_names_of_the_airports_say_nothing(name: str, names: list[str]) -> None:
    days = two_months()
    renamed = dict(zip(["AAA", "BBB", "CCC"], names, strict=True))

    found, found_renamed = (
        of_few_trees(name, year) for year in (days, days.assign(origin=days["origin"].map(renamed)))
    )

    for origin, other in renamed.items():
        one, same = of(found, origin), of(found_renamed, other)
        np.testing.assert_allclose(same["score"], one["score"], rtol=1e-4, atol=1e-5)
        assert same["is_anomaly"].tolist() == one["is_anomaly"].tolist()


@pytest.mark.parametrize("name", [name for name in detectors.NAMES if name != "delaywatch"])
@FEW
@given(minutes=st.integers(-30, 240))
def test_a_detector_of_mean_delays_expects_as_much_more_as_is_added_to_every_day(name: str, minutes: int) -> None:
    days = two_months()
    later = days.assign(mean_dep_delay_min=days["mean_dep_delay_min"] + minutes)

    found, found_later = of_few_trees(name, days), of_few_trees(name, later)

    np.testing.assert_allclose(found_later["expected"], found["expected"] + minutes, atol=0.01)
    np.testing.assert_allclose(found_later["score"], found["score"], rtol=1e-3, atol=1e-3)
    assert found_later["is_anomaly"].equals(found["is_anomaly"])


@FEW
@given(minutes=st.integers(0, 40), past_only=st.booleans())
def test_to_delaywatch_an_airport_that_is_always_later_is_not_abnormal(minutes: int, past_only: bool) -> None:
    days = two_months()
    later = days.assign(mean_effective_delay_min=days["mean_effective_delay_min"] + minutes)

    found, found_later = (judged("delaywatch", year, past_only=past_only) for year in (days, later))

    is_late = found["fl_date"] == date(2015, 2, 4)
    assert found_later.loc[is_late, "is_anomaly"].all()
    assert found_later.loc[~is_late, "is_anomaly"].mean() < 0.05
    risen = (found_later["expected"] - found["expected"]).dropna()
    np.testing.assert_allclose(risen, minutes, atol=1.0)


@pytest.mark.parametrize("name", [name for name in detectors.NAMES if "past_only" in detectors.parameters(name)])
@FEW
@given(known_days=st.integers(30, 59))
def test_with_past_only_days_that_are_yet_to_come_change_no_score(name: str, known_days: int) -> None:
    days = two_months()
    until = days["fl_date"] < date(2015, 1, 1) + timedelta(days=known_days)

    early, late = judged(name, days[until], past_only=True), judged(name, days, past_only=True)

    pd.testing.assert_frame_equal(early, late[until].reset_index(drop=True))
    assert (early["status"] == "ok").any()


@pytest.mark.parametrize("name", ["three_sigma", "isolation_forest", "arima", "random_cut_forest"])
def test_a_detector_of_single_airports_judges_one_alone_as_beside_others(name: str) -> None:
    year = eventful_year()

    together = judged(name, year)

    alone = judged(name, of(year, "BBB"))
    pd.testing.assert_frame_equal(of(together, "BBB").reset_index(drop=True), alone)


@pytest.mark.parametrize("name", ["arima", "random_cut_forest", "gradient_boosting"])
def test_an_early_day_is_flagged_only_where_both_sides_are_asked_for(name: str) -> None:
    delays = np.random.default_rng(1).normal(10, 2, (200, 1))
    delays[100] -= 25
    days = of_delays(delays)
    early = date(2015, 4, 11)

    late_only, both = (on(judged(name, days, late_only=choice), early, "A000") for choice in (True, False))

    assert not late_only["is_anomaly"]
    assert late_only["score"] < 0
    assert both["is_anomaly"]
    assert both["direction"] == "early"
    assert both["observed"] < both["lower"]
    assert both["score"] > 0


@pytest.mark.parametrize("name", detectors.NAMES)
def test_every_detector_finds_the_late_day_of_march_2013_in_new_york(name: str) -> None:
    """Real flights: on 8 March snow made departures more than an hour late on average at Newark and LaGuardia."""
    found = judged(name, new_york_2013())

    for origin in ("EWR", "LGA"):
        assert on(found, date(2013, 3, 8), origin)["is_anomaly"]
        assert on(found, date(2013, 3, 8), origin)["direction"] == "late"
    assert found["is_anomaly"].mean() < 0.04


# delaywatch


def test_delaywatch_finds_a_closure_whose_mean_delay_is_normal() -> None:
    flights = flights_of_a_year(60, seed=1)
    flights[SPIKE][:35] = np.nan
    year = gold("AAA", flights)

    day = on(judged("delaywatch", year), SPIKE)

    assert day["is_anomaly"]
    assert day["direction"] == "closure"
    assert day["observed"] > day["upper"]
    assert not on(judged("three_sigma", year), SPIKE)["is_anomaly"]


def test_delaywatch_does_not_flag_one_ten_hour_delay_among_five_flights() -> None:
    flights = flights_of_a_year(5, seed=1)
    flights[SPIKE] = np.array([0.0, 2.0, 600.0, 1.0, -3.0])
    year = gold("AAA", flights)

    flags = {name: on(judged(name, year), SPIKE)["is_anomaly"] for name in ("three_sigma", "delaywatch")}

    assert flags == {"three_sigma": True, "delaywatch": False}


def test_delaywatch_flags_a_bad_mean_at_a_hub_and_not_the_same_mean_of_six_flights() -> None:
    bad = np.array([0.0, 0.0, 10.0, 20.0, 70.0, 110.0])  # 35 minutes on average
    hub, field = flights_of_a_year(300, seed=1), flights_of_a_year(6, seed=2)
    hub[SPIKE], field[SPIKE] = np.tile(bad, 50), bad

    found = judged("delaywatch", pd.concat([gold("HUB", hub), gold("FLD", field)], ignore_index=True))

    at_hub, at_field = on(found, SPIKE, "HUB"), on(found, SPIKE, "FLD")
    assert at_hub["observed"] == at_field["observed"] == 35
    assert at_hub["is_anomaly"]
    assert not at_field["is_anomaly"]
    assert at_hub["upper"] < at_field["upper"]


def test_delaywatch_never_flags_a_day_for_leaving_early() -> None:
    flights = flights_of_a_year(60, seed=1)
    flights[SPIKE] = np.full(60, -11.0)

    day = on(judged("delaywatch", gold("AAA", flights)), SPIKE)

    assert day["score"] == pytest.approx(1, abs=0.01)  # every day is at least as late
    assert not day["is_anomaly"]


def test_delaywatch_expects_more_of_a_busy_weekday() -> None:
    flights = {day: delays + 15 * (day.weekday() == 4) for day, delays in flights_of_a_year(60, seed=1).items()}

    found = judged("delaywatch", gold("AAA", flights))

    friday, monday = on(found, date(2015, 5, 8)), on(found, date(2015, 5, 11))
    assert friday["expected"] > monday["expected"] + 8
    assert not found["is_anomaly"].any()


def test_delaywatch_finds_february_2013_in_new_york_and_calls_it_a_closure() -> None:
    """Real flights: on 8 and 9 February a snow storm closed all three airports, at a normal mean delay."""
    found = judged("delaywatch", new_york_2013())

    storm = found[found["fl_date"].isin([date(2013, 2, 8), date(2013, 2, 9)])]
    assert storm["direction"].tolist() == ["closure"] * 6
    assert found["is_anomaly"].mean() < 0.05


def test_with_past_only_a_spike_is_found_on_its_day() -> None:
    found = judged("delaywatch", eventful_year(), past_only=True)

    assert found[found["fl_date"] == SPIKE]["is_anomaly"].tolist() == [True, True, True]
    assert found["is_anomaly"].mean() < 0.05


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), flights=st.integers(5, 40), past_only=st.booleans())
def test_an_airport_is_judged_alike_alone_and_beside_its_own_copy(seed: int, flights: int, past_only: bool) -> None:
    alone = gold("AAA", flights_of_a_year(flights, seed, days=120))
    with_copy = pd.concat([alone, alone.assign(origin="BBB")], ignore_index=True)

    single = judged("delaywatch", alone, past_only=past_only)
    pair = judged("delaywatch", with_copy, past_only=past_only)

    for origin in ("AAA", "BBB"):
        np.testing.assert_allclose(of(pair, origin)["score"], single["score"], atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), day=st.integers(0, 119), less=st.integers(0, 110), more=st.integers(1, 110))
def test_a_later_day_never_scores_lower(seed: int, day: int, less: int, more: int) -> None:
    flights = flights_of_a_year(20, seed, days=120)
    when = date(2015, 1, 1) + timedelta(days=day)

    late, later = (
        on(judged("delaywatch", gold("AAA", {**flights, when: flights[when] + minutes})), when)["score"]
        for minutes in (less, less + more)
    )

    assert later >= late - 1e-6


# Settings


def test_the_shipped_settings_write_out_every_default() -> None:
    shipped = yaml.safe_load(SETTINGS.read_text())

    assert {name: list(block) for name, block in shipped.items()} == {
        name: list(detectors.parameters(name)) for name in detectors.NAMES
    }
    assert detectors.read_settings(SETTINGS) == {name: detectors.parameters(name) for name in detectors.NAMES}


def test_a_file_with_one_line_leaves_all_other_parameters_at_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "detectors.yaml"
    path.write_text("three_sigma:\n  threshold: 4\nisolation_forest:\n")

    read = detectors.read_settings(path)

    assert read["three_sigma"] == detectors.parameters("three_sigma") | {"threshold": 4.0}
    assert read["isolation_forest"] == detectors.parameters("isolation_forest")
    assert read["delaywatch"] == detectors.parameters("delaywatch")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("four_sigma:\n  threshold: 3\n", "line 1: there is no detector four_sigma; there are three_sigma, isol"),
        ("# ours\nfour_sigma:\n", "line 2: there is no detector four_sigma"),
        ("three_sigma:\n  treshold: 3\n", "line 2: three_sigma has no parameter treshold; it has threshold, min_fl"),
        ("three_sigma:\n  threshold: three\n", "line 2: three_sigma: threshold is 'three'; it must be a number from"),
        ("three_sigma:\n  threshold: .nan\n", "line 2: three_sigma: threshold is nan; it must be a number from"),
        ("three_sigma:\n  min_days: 2.5\n", "line 2: three_sigma: min_days is 2.5; it must be a whole number from 2"),
        ("three_sigma:\n  min_days: true\n", "line 2: three_sigma: min_days is True; it must be a whole number"),
        ("three_sigma:\n  min_days:\n", "line 2: three_sigma: min_days is None; it must be a whole number"),
        ("isolation_forest:\n\n  contamination: 0\n", "line 3: isolation_forest: contamination is 0; it must be a num"),
        ("isolation_forest:\n  contamination: 0.9\n", "is 0.9; it must be a number from 0.0001 to 0.5"),
        ("delaywatch:\n  past_only: 1\n", "line 2: delaywatch: past_only is 1; it must be true or false"),
        ("delaywatch:\n  levels: 3\n", "line 2: delaywatch: levels is 3; it must be a list of 3 ascending numbers"),
        ("delaywatch:\n  levels: [3, 2, 4]\n", "line 2: delaywatch: levels is [3, 2, 4]; it must be a list of 3"),
        ("delaywatch:\n  levels: [2, 3, x]\n", "line 2: delaywatch: levels is [2, 3, 'x']; it must be a list of 3"),
        (
            "delaywatch:\n  min_days: 30\n  min_days: 40\n",
            'line 3: this is not plain YAML (found duplicate key "min_days" with value "40"',
        ),
        ("delaywatch: 3\n", "line 1: lines must have the form `parameter: value`"),
        ("- delaywatch\n", "line 1: lines must have the form `detector: its parameters`"),
        ("delaywatch:\n  levels: [2, 3\n", ": this is not plain YAML"),
        (
            "three_sigma:\n  threshold: '3'\n",
            "line 2: three_sigma: threshold is '3'; it must be a number from 0.1 to 100.",
        ),
        ("three_sigma:\n  threshold: true\n", "line 2: three_sigma: threshold is True; it must be a number"),
        ("three_sigma:\n  3: 4\n", "line 2: three_sigma has no parameter 3; it has threshold"),
        ("three_sigma:\n  threshold: !!python/name:os.sep\n", "line 2: this is not plain YAML"),
    ],
)
def test_what_cannot_be_used_in_the_settings_is_named_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "detectors.yaml"
    path.write_text(text)

    with pytest.raises(InvalidInput) as caught:
        detectors.read_settings(path)

    assert f"{path}, " in str(caught.value)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_that_are_absent_or_not_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"# caf\xe9\n")
    (tmp_path / "binary.yaml").write_bytes(b"\x00\x01")
    (tmp_path / "folder.yaml").mkdir()
    wrong = {
        "none.yaml": (Missing, "cannot be read"),
        "folder.yaml": (InvalidInput, "cannot be read"),
        "latin.yaml": (InvalidInput, "is not UTF-8"),
        "binary.yaml": (InvalidInput, "is not plain YAML"),
    }

    for name, (kind, sentence) in wrong.items():
        with pytest.raises(kind, match=f"{name} {sentence}"):
            detectors.read_settings(tmp_path / name)


def test_a_file_means_what_it_meant_before_ruamel_yaml(tmp_path: Path) -> None:
    """Booleans and whole numbers of YAML 1.1, as in the files of earlier releases."""
    path = tmp_path / "detectors.yaml"
    path.write_text(
        "arima:\n  late_only: off\n  past_only: yes\n  min_days: 0b101000\n  min_flights: 010\n  level: 5e-1\n"
    )

    read = detectors.read_settings(path)["arima"]

    assert (read["late_only"], read["past_only"], read["min_days"], read["min_flights"]) == (False, True, 40, 8)
    assert read["level"] == 0.5  # PyYAML took a number without a dot for text


def test_the_hash_names_the_values_and_not_the_way_they_are_written() -> None:
    usual = detectors.params_hash("three_sigma")

    assert detectors.params_hash("three_sigma", {"threshold": 3}) == usual
    assert detectors.params_hash("three_sigma", {"threshold": 3.0, "min_days": 28}) == usual
    assert detectors.params_hash("three_sigma", {"threshold": 3.5}) != usual
    assert len({detectors.params_hash(name) for name in detectors.NAMES}) == len(detectors.NAMES)


@pytest.mark.parametrize(
    ("name", "changed", "hashes"),
    [
        ("three_sigma", {"threshold": 4}, ["0d9b7a798c0b", "233207dfc1e7", "1952660f7645"]),
        ("isolation_forest", {"contamination": 0.02}, ["2aefa72b7a87", "25cc17fcf5fe", "a0be04e4650c"]),
        ("arima", {"past_only": True, "level": 0.99}, ["7b3acf6ad294", "b198fe01e54e", "b03f93373cc6"]),
        (
            "random_cut_forest",
            {"levels": [20, 40, 80], "shingle_days": 2},
            ["e5334af014c2", "16bd6869a6f3", "b9b3dca71934"],
        ),
        ("gradient_boosting", {"same_day_network": True}, ["85f54a97c6dd", "2ed5eb4493a6", "dcc254454669"]),
        (
            "delaywatch",
            {"levels": [50, 120.5, 365], "past_only": True},
            ["fe83a13c7586", "c58b24d98a40", "e713c6ff4f52"],
        ),
    ],
)
def test_equal_settings_have_the_hash_that_lakes_of_earlier_releases_hold(
    name: str, changed: dict[str, object], hashes: list[str]
) -> None:
    excluded = '{"2013-02-08":["LGA"]}'

    assert [
        detectors.params_hash(name),
        detectors.params_hash(name, changed),
        detectors.params_hash(name, {}, excluded),
    ] == hashes


def test_an_unknown_detector_is_answered_with_the_known_ones() -> None:
    for ask in (detectors.load, detectors.parameters, detectors.params_hash):
        with pytest.raises(DelaywatchError, match="no detector four_sigma; there are three_sigma, isolation_forest"):
            ask("four_sigma")


def test_a_parameter_given_in_python_is_checked_as_one_in_the_file() -> None:
    year = gold("AAA", flights_of_a_year(10, seed=1, days=30))

    with pytest.raises(DelaywatchError, match="contamination is 0; it must be a number from"):
        detectors.run("isolation_forest", year, {"contamination": 0})


@pytest.mark.parametrize("name", detectors.NAMES)
def test_every_parameter_says_what_it_may_be_and_what_it_does(name: str) -> None:
    rows = detectors.describe(name)

    assert [row["parameter"] for row in rows] == list(detectors.parameters(name))
    assert all(row["allowed"] and row["meaning"] for row in rows)


NEWCOMER = """
import numpy as np
from pydantic import Field
from utils.detectors.shared import parameters
from utils.detectors.shared.verdicts import calendar, severities, usable, verdicts


class Parameters(parameters.Parameters):
    limit_min: float = Field(60.0, ge=1.0, le=500.0, description="mean delay from which a day is abnormal, minutes")


def detect(days, params):
    where = calendar(days)
    delay = where.numbers("mean_dep_delay_min")
    limit = np.full(where.shape[1], params.limit_min)
    return verdicts(
        where, metric="mean_dep_delay_min", judged=usable(where, "mean_dep_delay_min", 5), expected=limit, lower=limit,
        upper=limit, score=delay, severity=severities(delay, (params.limit_min,)), direction=np.array(["late"]),
    )
"""
ASKED_OF_NEWCOMER = """
import json, sys
from pathlib import Path
from tests.builders import SPIKE, eventful_year
from utils import detectors

settings = detectors.read_settings(Path(sys.argv[1]))
table = detectors.run("newcomer", eventful_year(), settings["newcomer"]).to_pandas()
answer = {
    "names": detectors.NAMES, "settings": settings["newcomer"], "parameters": detectors.describe("newcomer"),
    "flagged": sorted({str(day) for day in table.loc[table["is_anomaly"], "fl_date"]}), "spike": str(SPIKE),
}
print(json.dumps(answer))
"""


def test_a_new_detector_is_one_module_and_one_block_of_the_settings(tmp_path: Path) -> None:
    """In a copy of `dags`, these two files are all that is touched; names, limits, verdicts and Athena follow."""
    root = SETTINGS.parents[1]
    dags = tmp_path / "dags"
    shutil.copytree(SETTINGS.parent, dags, ignore=shutil.ignore_patterns("__pycache__"))
    (dags / "utils" / "detectors" / "newcomer.py").write_text(NEWCOMER)
    with (dags / "detectors.yaml").open("a") as file:
        file.write("\nnewcomer:\n  limit_min: 65\n")

    def ask(*command: str) -> str:
        environment = {"PYTHONPATH": f"{dags}:{root}"}
        asked = [sys.executable, *command]
        return subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    answer = json.loads(ask("-c", ASKED_OF_NEWCOMER, str(dags / "detectors.yaml")))

    assert answer["names"] == [*detectors.NAMES, "newcomer"]
    assert answer["settings"] == {"limit_min": 65.0}
    assert answer["parameters"][0]["allowed"] == "a number from 1 to 500"
    assert answer["flagged"] == [answer["spike"]]
    assert "newcomer" in ask(str(root / "infra-notes" / "lakehouse" / "athena.py"), "s3://bucket/lake")


def test_naming_the_detectors_loads_neither_pandas_nor_scikit_learn() -> None:
    """The DAG file is parsed every few seconds and needs only the names."""
    heavy = {"pandas", "numpy", "scipy", "sklearn", "pydantic"}
    code = f"import sys; from utils import detectors; print({heavy} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], cwd=SETTINGS.parent, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
