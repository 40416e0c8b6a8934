"""The contract of all detectors, and its parts for detectors with a certain parameter or metric."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import (
    GROUNDED,
    SPIKE,
    airport_days,
    days_of_delays,
    eventful_year,
    few_trees,
    of_airport,
    ordinary_year,
    run_detector,
    verdict_on,
)
from utils import detectors, schemas
from utils.detectors.shared.baseline import over_airports
from utils.errors import DelaywatchError, InvalidInput

FEW = settings(max_examples=3)
SPIKE_IN_FEBRUARY = date(2015, 2, 4)
COUNTS = ["scheduled", "departed", "cancelled", "disrupted"]
DELAYS = ["mean_dep_delay_min", "mean_effective_delay_min"]


def with_parameter(parameter: str) -> list[str]:
    return [name for name in detectors.NAMES if parameter in detectors.parameters(name)]


@cache
def two_months() -> pd.DataFrame:
    """Sixty days of three airports, all late on 4 February."""
    frames = []
    for seed, origin in enumerate(("AAA", "BBB", "CCC")):
        flights = ordinary_year(20 * (seed + 1), seed, days=60)
        flights[SPIKE_IN_FEBRUARY] = flights[SPIKE_IN_FEBRUARY] + 60
        frames.append(airport_days(origin, flights))
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("name", detectors.NAMES)
def test_a_detector_returns_its_rows_in_their_order_and_flags_the_late_day_and_few_others(name: str) -> None:
    year = eventful_year()
    before = year.copy(deep=True)

    verdicts = detectors.load(name)(year)

    pd.testing.assert_frame_equal(year, before)
    assert verdicts.index.equals(year.index)
    assert verdicts[["origin", "fl_date"]].equals(year[["origin", "fl_date"]])
    assert [*verdicts.columns, "params_hash"] == schemas.ANOMALIES.names
    assert verdicts.loc[verdicts["fl_date"] == SPIKE, "direction"].tolist() == ["late"] * 3
    assert verdict_on(verdicts, GROUNDED, "BBB")["status"] == "no_flights"
    assert verdicts["is_anomaly"].mean() < 0.05


@pytest.mark.parametrize("name", detectors.NAMES)
def test_neither_a_second_run_nor_the_order_and_types_of_the_rows_change_a_bit(name: str) -> None:
    days = two_months()
    equal_days = [
        days,
        days.sample(frac=1, random_state=9),
        days.assign(fl_date=pd.to_datetime(days["fl_date"])),
        days.convert_dtypes(),
        days.assign(is_excluded=pd.array([None] * len(days), dtype="boolean"), is_expected=False),
    ]

    first, *others = (detectors.run(name, frame, few_trees(name)) for frame in equal_days)

    assert all(table.equals(first) for table in others)


@pytest.mark.parametrize("name", detectors.NAMES)
@pytest.mark.parametrize("n_days", [27, 28])
def test_an_airport_needs_28_days_to_be_scored(name: str, n_days: int) -> None:
    verdicts = run_detector(name, airport_days("AAA", ordinary_year(40, seed=3, days=n_days)))

    assert set(verdicts["status"]) == {"ok" if n_days >= 28 else "insufficient_data"}
    assert verdicts["is_anomaly"].mean() < 0.05


@pytest.mark.parametrize("name", detectors.NAMES)
@pytest.mark.parametrize("minutes", [0.0, 6.0])
def test_equal_days_are_normal_and_an_airport_without_values_disturbs_no_other(name: str, minutes: float) -> None:
    same = airport_days("AAA", dict.fromkeys(ordinary_year(1, seed=0), np.full(20, minutes)))
    silent = same.assign(origin="BBB", mean_dep_delay_min=np.nan, mean_effective_delay_min=np.nan)

    verdicts = run_detector(name, pd.concat([same, silent], ignore_index=True))

    assert not verdicts["is_anomaly"].any()
    assert of_airport(verdicts, "AAA")["expected"].tolist() == pytest.approx([minutes] * 365, abs=1e-6)
    assert set(of_airport(verdicts, "BBB")["status"]) == {"insufficient_data"}


@pytest.mark.parametrize("name", detectors.NAMES)
@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda days: pd.concat([days, days.iloc[[1]]]), "AAA.* 2015-01-02"),
        (lambda days: days.assign(origin=pd.Series(["AAA", None, "AAA"], dtype=object)), "origin"),
        (lambda days: days.iloc[:0], "gold"),
    ],
)
def test_damaged_airport_days_are_named(name: str, damage: Callable[[pd.DataFrame], pd.DataFrame], named: str) -> None:
    days = airport_days("AAA", ordinary_year(10, seed=1, days=3))

    with pytest.raises(DelaywatchError, match=named):
        detectors.run(name, damage(days))


# Excluded days


@pytest.mark.parametrize("name", detectors.NAMES)
def test_no_day_is_scored_if_all_are_excluded(name: str) -> None:
    verdicts = detectors.run(name, two_months().assign(is_excluded=True)).to_pandas()

    assert set(verdicts["status"]) == {"insufficient_data"}


@pytest.mark.parametrize("name", detectors.NAMES)
@pytest.mark.parametrize("minutes", [119.0, -30.0])
def test_an_excluded_day_is_scored_and_its_value_changes_no_other_verdict(name: str, minutes: float) -> None:
    days = two_months()
    is_excluded = days["fl_date"].isin([SPIKE_IN_FEBRUARY, date(2015, 1, 20)])
    known = days.assign(is_excluded=is_excluded)
    other = known.copy()
    other.loc[is_excluded, [*DELAYS, "disrupted"]] = [minutes, minutes, 18]

    verdicts, other_verdicts = (detectors.load(name)(frame, **few_trees(name)) for frame in (known, other))

    pd.testing.assert_frame_equal(verdicts[~is_excluded], other_verdicts[~is_excluded])
    assert set(verdicts["status"]) == {"ok"}
    assert verdicts.loc[days["fl_date"] == SPIKE_IN_FEBRUARY, "is_anomaly"].all()


@pytest.mark.parametrize("name", detectors.NAMES)
def test_feedback_on_an_airport_changes_only_verdicts_of_that_airport(name: str) -> None:
    days = two_months()
    is_trouble = days["fl_date"].between(date(2015, 1, 28), SPIKE_IN_FEBRUARY)

    without, with_feedback = (
        detectors.run(
            name, days.assign(is_expected=is_trouble & days["origin"].isin(airports)), few_trees(name)
        ).to_pandas()
        for airports in ([], ["BBB", "CCC"])
    )

    pd.testing.assert_frame_equal(of_airport(with_feedback, "AAA"), of_airport(without, "AAA"))
    assert not of_airport(with_feedback, "BBB")["score"].equals(of_airport(without, "BBB")["score"])


# Properties


@pytest.mark.parametrize("name", detectors.NAMES)
@FEW
@given(minutes=st.integers(-30, 240), times=st.integers(1, 20))
def test_delay_on_every_day_moves_the_expectation_and_more_flights_change_nothing(
    name: str, minutes: int, times: int
) -> None:
    days = two_months()
    later = days.assign(mean_dep_delay_min=days["mean_dep_delay_min"] + minutes, **(days[COUNTS] * times))

    verdicts = run_detector(name, days, **few_trees(name))
    if verdicts["metric"].iloc[0] != "mean_dep_delay_min":
        pytest.skip("scores another metric")
    other = run_detector(name, later, **few_trees(name))

    np.testing.assert_allclose(other["expected"], verdicts["expected"] + minutes, atol=0.01)
    np.testing.assert_allclose(other["score"], verdicts["score"], rtol=1e-3, atol=1e-3)


# History and past-only mode


@cache
def after_two_months() -> pd.DataFrame:
    """The two months after as many days of history with other delays; AAB opens on 10 February."""
    rng = np.random.default_rng(8)
    history = two_months()
    history = history.assign(fl_date=history["fl_date"] - timedelta(days=60), is_history=True)
    history[DELAYS] = history[DELAYS].mul(rng.uniform(0.8, 1.2, len(history)), axis=0)
    opening = of_airport(two_months(), "CCC").assign(origin="AAB")
    year = pd.concat([two_months(), opening[opening["fl_date"] >= date(2015, 2, 10)]]).assign(is_history=False)
    return pd.concat([history, year], ignore_index=True).assign(is_excluded=False)


@pytest.mark.parametrize("name", with_parameter("past_only"))
@pytest.mark.parametrize("has_history", [True, False])
@settings(max_examples=8)
@given(today=st.integers(30, 58), change=st.sampled_from(["later", "gone", "grown", "excluded", "closed"]))
def test_with_past_only_no_later_day_changes_a_verdict(name: str, has_history: bool, today: int, change: str) -> None:
    days = after_two_months()
    days = days if has_history else days[~days["is_history"]]
    is_later = days["fl_date"] > date(2015, 1, 1) + timedelta(days=today)
    other = days.astype({"scheduled": float})
    match change:
        case "later":
            other.loc[is_later, DELAYS] += 50
        case "gone":
            other = other[~is_later]
        case "grown":
            other.loc[is_later, ["scheduled", "std_effective_delay_min"]] *= 5
        case "excluded":
            other.loc[is_later, "is_excluded"] = True
        case "closed":
            other.loc[is_later, ["cancelled", "disrupted", "mean_effective_delay_min"]] = [20, 20, 120.0]

    params = {"past_only": True, **few_trees(name)}
    verdicts, changed = (detectors.load(name)(frame, **params) for frame in (days, other))

    pd.testing.assert_frame_equal(changed[~is_later.loc[other.index]], verdicts[~is_later])
    in_january = verdicts.loc[days["fl_date"].between(date(2015, 1, 1), date(2015, 1, 28)), "status"]
    assert set(in_january) == {"ok" if has_history else "insufficient_data"}
    if has_history or name != "gradient_boosting":  # it is fitted on history only
        assert verdicts.loc[~is_later & (days["fl_date"] > date(2015, 1, 28)), "status"].eq("ok").any()


@pytest.mark.parametrize("name", detectors.NAMES)
def test_history_changes_verdicts_in_any_order_of_the_rows_and_is_not_scored(name: str) -> None:
    days = after_two_months()
    year = days[~days["is_history"]]

    first, other, without = (
        detectors.run(name, frame, few_trees(name)) for frame in (days, days.sample(frac=1, random_state=4), year)
    )

    assert other.equals(first)
    assert first.select(["origin", "fl_date"]).equals(without.select(["origin", "fl_date"]))
    assert first.equals(without) == (name not in with_parameter("past_only"))


@pytest.mark.parametrize("name", detectors.NAMES)
def test_a_year_so_far_is_scored_with_past_only_or_not_at_all(name: str) -> None:
    days, params = after_two_months(), few_trees(name)

    so_far = detectors.run(name, days, params, is_so_far=True)

    if name in with_parameter("past_only"):
        assert so_far.equals(detectors.run(name, days, {**params, "past_only": True}))
    else:
        assert set(so_far["status"].to_pylist()) == {"insufficient_data"}


def test_with_the_whole_year_in_view_only_the_season_before_it_is_used() -> None:
    days = after_two_months()
    is_old = days["is_history"] & (days["fl_date"] < date(2014, 12, 1))
    longer = pd.concat([days, days[is_old].assign(fl_date=days["fl_date"] - timedelta(days=91))], ignore_index=True)

    for name in with_parameter("past_only"):
        params = few_trees(name)
        assert detectors.run(name, longer, params).equals(detectors.run(name, days, params))
        past_only = {**params, "past_only": True}
        assert not detectors.run(name, longer, past_only).equals(detectors.run(name, days, past_only))


def test_an_airport_that_opens_later_changes_no_bit_of_a_sum_over_airports() -> None:
    values = np.random.default_rng(3).normal(size=(200, 300))

    with_closed_airport = np.insert(values, 70, 0.0, axis=1)

    assert np.array_equal(over_airports(with_closed_airport, 301), over_airports(values, 300))


@pytest.mark.parametrize("name", with_parameter("late_only"))
def test_an_early_day_is_flagged_if_late_only_is_false(name: str) -> None:
    delays = np.random.default_rng(1).normal(10, 2, (120, 1))
    delays[100] -= 25
    days = days_of_delays(delays)

    late_only, both = (
        verdict_on(run_detector(name, days, late_only=late_only), date(2015, 4, 11), "A000")
        for late_only in (True, False)
    )

    assert (late_only["is_anomaly"], both["direction"]) == (False, "early")
    assert late_only["score"] == -both["score"] < 0
    assert both["observed"] < both["lower"]


# Names and parameters


def test_an_unknown_detector_is_named_with_the_known_detectors() -> None:
    with pytest.raises(InvalidInput, match=r"four_sigma.*three_sigma.*delaywatch"):
        detectors.load("four_sigma")


def test_existing_lakes_keep_their_hashes() -> None:
    excluded = '{"2013-02-08":["LGA"]}'

    assert detectors.params_hash("three_sigma", {"threshold": 4}) == "29624661f58d"
    assert detectors.params_hash("three_sigma", {"min_days": 28, "threshold": 4.0}) == "29624661f58d"
    assert detectors.params_hash("delaywatch", {"levels": [50, 120.5, 365], "past_only": True}) == "65ac4747c924"
    assert detectors.params_hash("delaywatch", {}, excluded) == "33eccf6ee26d"
