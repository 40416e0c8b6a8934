"""Tuning: halves of the flights, labels, rankings, measures, their intervals, and the cost of a setting."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from tests.builders import Flight, csv_of, year_of_flights
from utils.layers import gold, silver
from utils.tuning import labels, metrics, proposal

YEAR = 2015
KEY = ["origin", "fl_date"]
FEW = settings(max_examples=20)
NAN = float("nan")


def silver_of(rows: Sequence[Flight]) -> pa.Table:
    header, *lines = csv_of(rows).splitlines(keepends=True)
    return silver.refine(b"".join(lines), silver.read_header(header, "01_bronze/2015.csv"), YEAR).flights


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    """Ten days of three airports, 200 flights; the smallest airport has one a day, JFK is closed on the 4th."""
    rows = year_of_flights(YEAR, {"JFK": 13, "EWR": 6, "ACK": 1}, closed=[("JFK", "2015-01-04")])
    return silver_of([row for row in rows if row["FL_DATE"] <= "2015-01-10"])


def days_of(flights: int = 20, **delays: list[float]) -> pd.DataFrame:
    """Airport-days from the effective delays of consecutive days of January."""
    rows = [
        {
            "origin": origin,
            "fl_date": pd.Timestamp(YEAR, 1, 1) + pd.Timedelta(days=day - 1),
            "scheduled": flights,
            "mean_effective_delay_min": delay,
        }
        for origin, of_airport in delays.items()
        for day, delay in enumerate(of_airport, start=1)
    ]
    return pd.DataFrame(rows)


def labels_of(*abnormal: bool, origins: Sequence[str] | str = "AAA") -> pd.DataFrame:
    dates = pd.date_range(date(YEAR, 1, 1), periods=len(abnormal))
    return pd.DataFrame({"origin": origins, "fl_date": dates, "is_abnormal": abnormal})


def ranking_of(abnormal: Sequence[bool], scores: Sequence[float], n_flags: float = 2) -> pd.DataFrame:
    labelled = labels_of(*abnormal)
    flags_per_year = n_flags * metrics.DAYS_PER_YEAR / len(scores)
    return metrics.ranked(labelled, labelled[KEY].assign(score=scores), flags_per_year)


def abnormal_days(labelled: pd.DataFrame, origin: str = "AAA") -> list[int]:
    rows = labelled[(labelled["origin"] == origin) & labelled["is_abnormal"].astype(bool)]
    return sorted(rows["fl_date"].dt.day.tolist())


@st.composite
def labelled_scores(draw: st.DrawFn) -> tuple[list[bool], list[float]]:
    """Labels with an abnormal day, and scores with many ties."""
    scores = draw(st.lists(st.integers(-9, 9).map(float), min_size=2, max_size=40))
    abnormal = draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    assume(any(abnormal))
    return abnormal, scores


# Split halves


@pytest.mark.parametrize("seed", [0, 1, 2**32])
def test_each_flight_is_in_one_half_whatever_the_order_and_the_tables(flights: pa.Table, seed: int) -> None:
    sums = ["scheduled", "cancelled", "disrupted", "departed", "delayed_15", "weather_min", "cancelled_weather"]
    whole = gold.airport_days(gold.day_sums(flights), YEAR).to_pandas(date_as_object=False)
    order = np.random.default_rng(seed).permutation(len(flights))

    halves = labels.halves([flights], YEAR, seed)
    same_halves = labels.halves([flights.take(order[:70]), flights.take(order[70:])], YEAR, seed)

    for half, same in zip(halves, same_halves, strict=True):
        pd.testing.assert_frame_equal(half, same)
    both = pd.concat(halves).groupby(KEY)[sums].sum()
    pd.testing.assert_frame_equal(both, whole.set_index(KEY)[sums], check_dtype=False)


# Labels


def test_the_worst_days_with_five_flights_and_a_value_are_those_of_each_airport_or_of_the_network() -> None:
    days = days_of(AAA=[1.0, 2.0, 30.0, 4.0, NAN, 80.0], BBB=[100.0, 90.0, 95.0, 120.0])
    days["scheduled"] = [20, 20, 5, 20, 20, 4, 20, 20, 20, 20]

    each, network = labels.worst_days(days, share=0.25), labels.networks_worst_days(days, share=0.25)

    assert each[each["origin"] == "AAA"]["fl_date"].dt.day.tolist() == [1, 2, 3, 4]
    assert (abnormal_days(each, "AAA"), abnormal_days(each, "BBB")) == ([3], [4])
    assert (abnormal_days(network, "AAA"), abnormal_days(network, "BBB")) == ([], [1, 4])


def test_planted_and_background_days_are_abnormal_gaps_do_not_count_and_others_are_normal() -> None:
    kinds = {1: "storm", 2: "strong", 3: "background", 5: "gap", 6: "short_presence"}
    truth = pd.DataFrame([(f"{YEAR}-01-{day:02}", "AAA", kind, "") for day, kind in kinds.items()]).set_axis(
        ["date", "origin", "kind", "event"], axis=1
    )
    truth.loc[0, "event"] = "storm01"

    labelled = labels.planted_days(days_of(AAA=[0.0] * 6), truth)

    ranking = metrics.ranked(labelled, labelled[KEY].assign(score=[6, 5, 4, 3, 2, NAN]), flags_per_year=365)

    assert ranking["fl_date"].dt.day.tolist() == [1, 2, 3, 4, 6]
    assert abnormal_days(ranking) == [1, 2, 3]
    assert metrics.events_seen(ranking) == (1, 1)


def test_an_airport_whose_days_are_all_alike_has_no_worst_day() -> None:
    alike = days_of(AAA=[7.0] * 60)

    assert abnormal_days(labels.worst_days(alike)) == []
    assert abnormal_days(labels.networks_worst_days(alike)) == []


# Rankings


@FEW
@given(labelled_scores(), st.floats(0.1, 60))
def test_there_are_exactly_as_many_flags_as_allowed_at_the_highest_scores(
    labelled: tuple[list[bool], list[float]], n_flags: float
) -> None:
    ranking = ranking_of(*labelled, n_flags)

    assert ranking["flag"].sum() == pytest.approx(min(n_flags, len(ranking)))
    assert ranking["flag"].between(0, 1).all()
    assert ranking.sort_values("score", ascending=False)["flag"].is_monotonic_decreasing


def test_a_flag_is_confirmed_by_the_other_rankings_flag_of_that_day() -> None:
    one, other = (ranking_of([False] * 4, scores) for scores in ([9, 8, 1, 0], [9, 0, 8, 1]))

    assert metrics.precision(metrics.confirmed(one, other)) == 0.5


# Measures


@FEW
@given(labelled_scores(), st.data())
def test_average_precision_is_that_of_scikit_learn_and_the_area_below_the_curve(
    labelled: tuple[list[bool], list[float]], data: st.DataObject
) -> None:
    abnormal, scores = labelled
    size = len(scores)
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)), float)
    assume(weights[abnormal].sum() > 0)
    ranking = ranking_of(abnormal, scores)

    weighted, plain = metrics.average_precision(ranking, np.stack([weights, np.ones(size)]))

    curve = metrics.curve(ranking)
    assert weighted == pytest.approx(average_precision_score(abnormal, scores, sample_weight=weights))
    assert plain == pytest.approx(average_precision_score(abnormal, scores))
    assert (np.diff(curve["recall"], prepend=0) * curve["precision"]).sum() == pytest.approx(plain)
    assert curve.iloc[-1][["precision", "recall"]].tolist() == pytest.approx([np.mean(abnormal), 1])


def test_the_value_within_airports_is_the_mean_of_each_airport_weighted_by_how_often_it_is_drawn() -> None:
    rng = np.random.default_rng(8)
    labelled = pd.concat([labels_of(*(rng.random(40) < 0.2), origins=origin) for origin in "ABC"])
    ranking = metrics.ranked(labelled, labelled[KEY].assign(score=rng.integers(0, 9, 120)))
    drawn = np.stack([np.repeat([2.0, 0.0, 1.0], 40), rng.integers(1, 4, 120).astype(float)])

    of_each = np.stack(
        [
            metrics.average_precision(ranking.iloc[rows], drawn[:, rows])
            for rows in (slice(0, 40), slice(40, 80), slice(80, 120))
        ]
    )
    times = drawn.reshape(2, 3, 40).mean(axis=2).T
    expected = np.nansum(of_each * times, axis=0) / times.sum(axis=0)

    assert metrics.average_precision_within(ranking, drawn) == pytest.approx(expected)


# Intervals


def test_blocks_of_days_widen_the_interval_of_airports_that_share_their_storms() -> None:
    labelled = pd.concat([labels_of(*(day % 20 == 0 for day in range(120)), origins=origin) for origin in "ABCDEFGH"])
    is_found = labelled["fl_date"].dt.day_of_year.sub(1).isin([0, 40, 80])
    ranking = metrics.ranked(labelled, labelled[KEY].assign(score=is_found.to_numpy(float)), flags_per_year=10)

    airports, blocks = (metrics.bootstrap(ranking, metrics.recall, block_days=days) for days in (None, 14))

    assert blocks.high - blocks.low > 3 * (airports.high - airports.low)


def test_a_ratio_is_paired() -> None:
    noise, abnormal = np.random.default_rng(5).normal(size=300), np.arange(300) % 10 == 0
    better, worse = (
        metrics.bootstrap(
            ranking_of(abnormal.tolist(), (noise + quality * abnormal).tolist()),
            metrics.average_precision,
            block_days=5,
        )
        for quality in (2.0, 1.0)
    )

    itself, ratio = better.ratio(better), better.ratio(worse)

    assert better.low < better.value < better.high
    assert (itself.low, itself.value, itself.high) == (1, 1, 1)
    assert ratio.value == pytest.approx(better.value / worse.value)
    assert 1 < ratio.low < ratio.value < ratio.high


# Cost of a setting


def test_the_cost_of_a_setting_is_its_flags_and_their_agreement_with_the_other_half_and_with_feedback() -> None:
    opinions = [
        ("JFK", 6, "right"), ("LGA", 4, "wrong"), ("EWR", 4, "right"), ("JFK", 9, "wrong"), ("JFK", 4, "expected"),
    ]  # fmt: skip
    feedback = pd.DataFrame(
        [(origin, date(2015, 1, day), opinion) for origin, day, opinion in opinions], columns=[*KEY, "opinion"]
    )
    days = days_of(JFK=[0.0] * 60, LGA=[0.0] * 60)[KEY]

    def on_days(jfk: list[int], lga: list[int]) -> list[bool]:
        return [number in jfk for number in range(60)] + [number in lga for number in range(60)]

    flags, other_flags = on_days([3, 4, 5, 30], [3]), on_days([3, 4, 50], [3])
    verdicts, other_verdicts = (
        days.assign(is_anomaly=is_flag, status="ok", score=np.where(is_flag, 9.0, 1.0))
        for is_flag in (flags, other_flags)
    )

    cost = proposal.cost(verdicts, other_verdicts, days.assign(is_abnormal=on_days([3, 4, 5], [3, 40])), feedback)

    assert (cost.flags, cost.right, cost.wrong) == (5, 1, 1)
    assert cost.flags_per_year == pytest.approx(5 / 120 * 365.25)
    assert (cost.precision.value, cost.recall.value) == (3 / 4, 3 / 5)
