"""How verdicts are measured: halves of flights, labels of three kinds, rankings, measures and their intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from tests.builders import Flight, cancelled, csv_of, flight, year_of_flights
from utils.errors import DelaywatchError
from utils.layers import gold, silver
from utils.tuning import evaluation

YEAR = 2015
KEY = ["origin", "fl_date"]
FEW, MANY = (settings(max_examples=examples, deadline=None) for examples in (20, 30))


def silver_of(rows: Sequence[Flight]) -> pa.Table:
    """The silver flights of some bronze rows."""
    first, *lines = csv_of(rows).splitlines(keepends=True)
    return silver.refine(b"".join(lines), silver.read_header(first, "01_bronze/2015.csv"), YEAR).flights


def ten_days() -> list[Flight]:
    """200 flights of three airports, the smallest with one a day; JFK is closed on the 4th."""
    rows = year_of_flights(YEAR, {"JFK": 13, "EWR": 6, "ACK": 1}, closed=[("JFK", "2015-01-04")])
    return [row for row in rows if row["FL_DATE"] <= "2015-01-10"]


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    return silver_of(ten_days())


def days_of(rows: dict[str, list[float]], flights: int = 20) -> pd.DataFrame:
    """Airport-days from effective delays (minutes) of consecutive days; NaN is a day without a value."""
    return pd.DataFrame(
        [
            {
                "origin": origin,
                "fl_date": pd.Timestamp(YEAR, 1, 1) + pd.Timedelta(days=i),
                "scheduled": flights,
                "mean_effective_delay_min": delay,
            }
            for origin, delays in rows.items()
            for i, delay in enumerate(delays)
        ]
    )


def labels_of(abnormal: list[bool], origins: list[str] | None = None) -> pd.DataFrame:
    """One label per day from 1 January on; of one airport unless `origins` says otherwise."""
    dates = pd.date_range(date(YEAR, 1, 1), periods=len(abnormal))
    return pd.DataFrame({"origin": origins or "AAA", "fl_date": dates, "is_abnormal": abnormal})


def ranking_of(abnormal: list[bool], scores: list[float], flags_per_year: float = 5.0) -> pd.DataFrame:
    labels = labels_of(abnormal)
    return evaluation.ranked(labels, labels[KEY].assign(score=scores), flags_per_year)


def abnormal_days(frame: pd.DataFrame, origin: str = "AAA") -> list[int]:
    """Which days of January an airport's labels call abnormal."""
    at = frame[(frame["origin"] == origin) & frame["is_abnormal"].astype(bool)]
    return sorted(at["fl_date"].dt.day.tolist())


@st.composite
def labelled_scores(draw: st.DrawFn) -> tuple[list[bool], list[int]]:
    """Labels with at least one abnormal day, and scores among which ties are frequent."""
    scores = draw(st.lists(st.integers(-9, 9), min_size=2, max_size=40))
    abnormal = draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    assume(any(abnormal))
    return abnormal, scores


# Split halves


@FEW
@given(seed=st.integers(0, 2**32), cut=st.integers(0, 200))
def test_every_flight_is_in_exactly_one_half(flights: pa.Table, seed: int, cut: int) -> None:
    added = ["scheduled", "cancelled", "disrupted", "departed", "delayed_15", "weather_min", "cancelled_weather"]
    whole = gold.airport_days(gold.year_sums([flights], YEAR), YEAR).to_pandas(date_as_object=False)

    parts = evaluation.halves([flights.slice(0, cut), flights.slice(cut)], YEAR, seed)

    both = pd.concat(parts).groupby(KEY)[added].sum()
    pd.testing.assert_frame_equal(both, whole.set_index(KEY)[added], check_dtype=False)
    assert both["scheduled"].sum() == 200


@FEW
@given(order=st.permutations(range(200)), cut=st.integers(0, 200))
def test_neither_the_order_of_the_flights_nor_the_cut_into_tables_changes_the_halves(
    flights: pa.Table, order: list[int], cut: int
) -> None:
    one, other = evaluation.halves([flights], YEAR)

    again = evaluation.halves([flights.take(pa.array(part, pa.int64())) for part in (order[:cut], order[cut:])], YEAR)

    pd.testing.assert_frame_equal(again[0], one)
    pd.testing.assert_frame_equal(again[1], other)


def test_a_file_that_names_its_airports_in_another_order_has_the_same_halves(flights: pa.Table) -> None:
    turned = silver_of(ten_days()[::-1])

    for half, same in zip(evaluation.halves([turned], YEAR), evaluation.halves([flights], YEAR), strict=True):
        pd.testing.assert_frame_equal(half, same)


def test_the_halves_of_a_busy_day_are_about_equal_and_another_seed_cuts_elsewhere() -> None:
    busy = silver_of([flight(OP_CARRIER_FL_NUM=str(number)) for number in range(2_000)])

    one, other = evaluation.halves([busy], YEAR)
    elsewhere, _ = evaluation.halves([busy], YEAR, seed=1)

    assert one["scheduled"].sum() + other["scheduled"].sum() == 2_000
    assert 900 < one["scheduled"].sum() < 1_100
    assert elsewhere["scheduled"].sum() != one["scheduled"].sum()


def test_a_day_of_a_half_is_what_gold_calls_a_day() -> None:
    late = [flight(OP_CARRIER_FL_NUM=str(number), DEP_DELAY="200.0") for number in range(40)]
    grounded = [cancelled(OP_CARRIER_FL_NUM=str(number)) for number in range(40, 80)]

    for half in evaluation.halves([silver_of([*late, *grounded])], YEAR):
        assert half["mean_effective_delay_min"].tolist() == [120.0]
        assert half["disrupted"].tolist() == half["scheduled"].tolist()
        assert set(half.columns) >= {"origin", "fl_date", "std_effective_delay_min"}


def test_a_year_of_one_flight_has_no_halves() -> None:
    with pytest.raises(DelaywatchError, match="2015 has too few flights to be split into halves"):
        evaluation.halves([silver_of([flight()])], YEAR)


# Labels


def test_the_network_s_worst_days_may_all_be_of_one_airport() -> None:
    days = days_of({"AAA": [1.0, 2.0, 3.0, 4.0], "BBB": [50.0, 10.0, 40.0, 20.0]})

    labels = evaluation.networks_worst_days(days, share=0.25)

    assert labels.loc[labels["is_abnormal"], "origin"].tolist() == ["BBB", "BBB"]
    assert len(labels) == 8


def test_the_worst_days_are_each_airport_s_own() -> None:
    days = days_of({"AAA": [1.0, 2.0, 30.0, 4.0], "BBB": [100.0, 90.0, 95.0, 120.0]})

    labels = evaluation.worst_days(days, share=0.25)

    assert abnormal_days(labels, "AAA") == [3]
    assert abnormal_days(labels, "BBB") == [4]
    assert len(labels) == 8


def test_a_day_of_few_flights_or_without_a_value_has_no_label() -> None:
    days = days_of({"AAA": [1.0, np.nan, 30.0, 80.0]})
    days.loc[3, "scheduled"] = 4

    labels = evaluation.worst_days(days, share=0.25)

    assert labels["fl_date"].dt.day.tolist() == [1, 3]
    assert abnormal_days(labels) == [3]


def test_neighbours_decide_and_the_airport_itself_has_no_say() -> None:
    days = days_of({"JFK": [0.0, 0.0, 0.0, 99.0], "LGA": [5.0, 60.0, 5.0, 5.0], "EWR": [5.0, 70.0, 5.0, 5.0]})

    labels = evaluation.neighbours_worst_days(days, [("JFK", "LGA", "EWR")], share=0.25)

    assert abnormal_days(labels, "JFK") == [2]
    assert abnormal_days(labels, "LGA") == [4]  # the mean of the two others is highest on the 4th


def test_larger_neighbours_weigh_more_and_areas_do_not_mix() -> None:
    days = days_of({"AAA": [0.0, 0.0], "BIG": [50.0, 10.0], "TNY": [10.0, 80.0], "FAR": [0.0, 90.0]})
    days["scheduled"] = days["origin"].map({"AAA": 20, "BIG": 300, "TNY": 20, "FAR": 900})

    labels = evaluation.neighbours_worst_days(days, [("AAA", "BIG", "TNY"), ("FAR", "OFF")], share=0.25)

    assert abnormal_days(labels, "AAA") == [1]
    assert set(labels["origin"]) == {"AAA", "BIG", "TNY"}


def test_without_an_area_of_two_airports_there_are_no_labels() -> None:
    assert evaluation.neighbours_worst_days(days_of({"AAA": [0.0, 1.0]}), [("AAA", "BBB")]).empty


def truth_of(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    """A truth file from (day of January, kind, event) of AAA."""
    return pd.DataFrame(
        [{"date": f"{YEAR}-01-{day}", "origin": "AAA", "kind": kind, "event": event} for day, kind, event in rows]
    )


def test_planted_days_and_the_background_are_abnormal_gaps_do_not_count_and_the_rest_is_normal() -> None:
    days = days_of({"AAA": [0.0] * 6})
    days.loc[4, "scheduled"] = 0
    truth = truth_of(
        [("01", "storm", "storm01"), ("02", "strong", "strong001"), ("03", "background", ""), ("05", "gap", "gap01"),
         ("06", "short_presence", "")]
    )  # fmt: skip

    labels = evaluation.planted_days(days, truth)
    ranking = evaluation.ranked(labels, labels[KEY].assign(score=0.0))

    assert ranking["fl_date"].dt.day.tolist() == [1, 2, 3, 4, 6]
    assert abnormal_days(ranking) == [1, 2, 3]
    assert ranking["event"].dropna().tolist() == ["storm01"]


def test_a_background_that_is_left_out_is_neither_right_nor_wrong_but_uses_up_flags() -> None:
    days = days_of({"AAA": [0.0] * 4})
    truth = truth_of([("01", "background", ""), ("02", "strong", "strong001")])
    labels = evaluation.planted_days(days, truth, is_background_abnormal=False)

    ranking = evaluation.ranked(labels, labels[KEY].assign(score=[9.0, 1.0, 5.0, 2.0]), flags_per_year=2 * 365.25 / 4)

    assert ranking["flag"].tolist() == [0.0, 1.0, 0.0]
    assert evaluation.average_precision(ranking) == pytest.approx(1 / 3)


def test_a_truth_file_of_another_year_or_with_an_unknown_kind_is_named() -> None:
    days = days_of({"AAA": [0.0, 1.0]})

    with pytest.raises(DelaywatchError, match="plants days that the year does not have"):
        evaluation.planted_days(days, truth_of([("09", "strong", "")]))
    with pytest.raises(DelaywatchError, match="the kind earthquake"):
        evaluation.planted_days(days, truth_of([("01", "earthquake", "")]))


@MANY
@given(flights=st.lists(st.integers(1, 900), min_size=1, max_size=30))
def test_an_airport_is_tiny_or_in_one_third_of_the_others_and_hubs_are_the_largest(flights: list[int]) -> None:
    days = pd.concat([days_of({f"A{i:02}": [0.0]}, count) for i, count in enumerate(flights)])

    groups = evaluation.sizes(days, tiny_flights=10, hub_flights=200)

    thirds = [groups[name] for name in ("small", "medium", "large")]
    every = [groups["tiny"], *thirds]
    assert sorted(origin for group in every for origin in group) == sorted(days["origin"])
    assert max(map(len, thirds)) - min(map(len, thirds)) <= 1
    assert len(groups["tiny"]) == sum(count < 10 for count in flights)
    assert len(groups["hubs"]) == sum(count >= 200 for count in flights)
    ranges = [sorted(flights[int(origin[1:])] for origin in group) for group in every if group]
    assert all(below[-1] <= above[0] for below, above in pairwise(ranges))


# Rankings


@MANY
@given(labelled_scores(), st.floats(0.1, 2_000))
def test_the_flags_are_exactly_as_many_as_allowed_and_nothing_below_a_flag_has_more_of_it(
    days: tuple[list[bool], list[int]], flags_per_year: float
) -> None:
    abnormal, scores = days

    ranking = ranking_of(abnormal, [float(score) for score in scores], flags_per_year)

    allowed = min(flags_per_year * len(scores) / 365.25, len(scores))
    assert ranking["flag"].sum() == pytest.approx(allowed)
    assert ranking["flag"].between(0, 1).all()
    assert ranking.sort_values("score", ascending=False)["flag"].is_monotonic_decreasing


def test_keeping_silent_gains_nothing() -> None:
    labels = labels_of([True, False, False, True])
    verdicts = labels[KEY].assign(score=[np.nan, -5.0, -9.0, 1.0])

    ranking = evaluation.ranked(labels, verdicts.iloc[[0, 1, 3]], flags_per_year=4 * 365.25)

    assert evaluation.average_precision(ranking) == pytest.approx((1 / 1 + 2 / 4) / 2)
    assert ranking["flag"].tolist() == [0.0, 1.0, 0.0, 1.0]


def test_dates_may_be_dates_or_timestamps() -> None:
    labels = labels_of([True, False])
    verdicts = labels[KEY].assign(score=[2.0, 1.0], fl_date=[date(YEAR, 1, 1), date(YEAR, 1, 2)])

    assert evaluation.ranked(labels, verdicts)["score"].tolist() == [2.0, 1.0]


def test_a_flag_is_confirmed_by_the_other_half_s_flag_of_that_day() -> None:
    one = ranking_of([False] * 4, [9.0, 8.0, 1.0, 0.0], flags_per_year=2 * 365.25 / 4)
    other = ranking_of([False] * 4, [9.0, 0.0, 8.0, 1.0], flags_per_year=2 * 365.25 / 4)

    assert evaluation.precision(evaluation.confirmed(one, other)) == pytest.approx(0.5)
    assert evaluation.precision(evaluation.confirmed(one, one)) == 1


def test_two_detectors_that_disagree_everywhere_confirm_nothing_and_can_still_be_measured() -> None:
    one = ranking_of([True, False, True, False], [9.0, 0.0, 8.0, 1.0], flags_per_year=2 * 365.25 / 4)
    other = ranking_of([True, False, True, False], [0.0, 9.0, 1.0, 8.0], flags_per_year=2 * 365.25 / 4)

    assert evaluation.precision(evaluation.confirmed(one, other)) == 0
    assert evaluation.precision(evaluation.confirmed(other, one)) == 0
    assert evaluation.precision(one) == 1
    assert evaluation.precision(other) == 0


# Measures


@FEW
@given(labelled_scores())
def test_average_precision_knows_only_the_order_of_the_scores(days: tuple[list[bool], list[int]]) -> None:
    abnormal, scores = days
    plain = evaluation.average_precision(ranking_of(abnormal, [float(score) for score in scores]))
    rising_maps: list[Callable[[int], float]] = [
        lambda x: x**3, lambda x: float(np.exp(x / 3)), lambda x: 40_000 * x + 7, lambda x: x - 1e6
    ]  # fmt: skip

    for rising in rising_maps:
        assert evaluation.average_precision(ranking_of(abnormal, [float(rising(score)) for score in scores])) == plain


@MANY
@given(st.lists(st.booleans(), min_size=2, max_size=40).filter(any))
def test_a_perfect_ranking_has_an_average_precision_of_one(abnormal: list[bool]) -> None:
    scores = [10.0 + i if bad else float(-i) for i, bad in enumerate(abnormal)]

    assert evaluation.average_precision(ranking_of(abnormal, scores)) == pytest.approx(1)


@MANY
@given(labelled_scores(), st.data())
def test_average_precision_is_scikit_learn_s_with_ties_and_weights(
    days: tuple[list[bool], list[int]], data: st.DataObject
) -> None:
    abnormal, scores = days
    size = len(scores)
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)), float)
    assume(weights[abnormal].sum() > 0)
    ranking = ranking_of(abnormal, [float(score) for score in scores])

    one, other = evaluation.average_precision(ranking, np.stack([weights, np.ones(size)]))

    assert one == pytest.approx(average_precision_score(abnormal, scores, sample_weight=weights))
    assert other == pytest.approx(average_precision_score(abnormal, scores))


@MANY
@given(labelled_scores())
def test_the_curve_ends_at_every_day_flagged_and_has_the_average_precision_below_it(
    days: tuple[list[bool], list[int]],
) -> None:
    ranking = ranking_of(days[0], [float(score) for score in days[1]])

    curve = evaluation.curve(ranking)

    assert curve["recall"].is_monotonic_increasing
    assert curve["recall"].iloc[-1] == 1
    assert curve["precision"].iloc[-1] == pytest.approx(np.mean(days[0]))
    below = (np.diff(curve["recall"], prepend=0) * curve["precision"]).sum()
    assert below == pytest.approx(float(evaluation.average_precision(ranking)))


def test_precision_and_recall_are_those_of_the_flags() -> None:
    ranking = ranking_of([True, False, True, True], [9.0, 8.0, 7.0, 1.0], flags_per_year=2 * 365.25 / 4)

    assert evaluation.precision(ranking) == pytest.approx(1 / 2)
    assert evaluation.recall(ranking) == pytest.approx(1 / 3)


def test_average_precision_within_is_the_mean_of_the_airports_whatever_their_scales() -> None:
    labels = labels_of([True, False, False, True], ["AAA", "AAA", "BBB", "BBB"])
    ranking = evaluation.ranked(labels, labels[KEY].assign(score=[1.0, 0.0, 900.0, 800.0]))

    assert evaluation.average_precision_within(ranking) == pytest.approx((1 + 1 / 2) / 2)


def test_what_cannot_be_measured_is_no_number() -> None:
    ranking = ranking_of([False, False], [1.0, 2.0])

    assert np.isnan(evaluation.average_precision(ranking))
    assert np.isnan(evaluation.average_precision_within(ranking))
    assert np.isnan(evaluation.recall(ranking))
    assert np.isnan(evaluation.average_precision(ranking.iloc[:0]))
    assert str(evaluation.bootstrap(ranking, evaluation.recall, block_days=1)) == "-"


def test_a_storm_is_seen_when_half_of_its_airports_are_flagged_on_one_of_its_days() -> None:
    def storm(event: str, flags: dict[str, list[float]]) -> pd.DataFrame:
        return pd.DataFrame(
            [{"event": event, "origin": origin, "flag": flag} for origin, days in flags.items() for flag in days]
        )

    seen = storm("storm01", {"AAA": [0.0, 1.0], "BBB": [0.0, 0.0]})
    missed = storm("storm02", {"AAA": [1.0, 1.0], "BBB": [0.0, 0.0], "CCC": [0.0, 0.0]})
    no_storm = storm("", {"DDD": [1.0]}).assign(event=None)

    assert evaluation.events_seen(pd.concat([seen, missed, no_storm])) == (1, 2)


# Intervals


def random_ranking(airports: int, days: int, seed: int, quality: float = 1.0) -> pd.DataFrame:
    """A year of many airports whose abnormal days score higher by `quality` standard deviations."""
    random = np.random.default_rng(seed)
    labels = pd.DataFrame(
        {
            "origin": np.repeat([f"A{i:03}" for i in range(airports)], days),
            "fl_date": np.tile(pd.date_range(f"{YEAR}-01-01", periods=days), airports),
            "is_abnormal": random.random(airports * days) < 0.1,
        }
    )
    return evaluation.ranked(
        labels, labels[KEY].assign(score=random.normal(size=len(labels)) + quality * labels["is_abnormal"])
    )


@MANY
@given(
    airports=st.integers(2, 6), days=st.integers(15, 60), seed=st.integers(0, 999), block=st.sampled_from([None, 7, 14])
)
def test_the_interval_contains_its_estimate(airports: int, days: int, seed: int, block: int | None) -> None:
    ranking = random_ranking(airports, days, seed)
    assume(ranking["is_abnormal"].any())

    for measure in (evaluation.average_precision, evaluation.average_precision_within, evaluation.precision):
        found = evaluation.bootstrap(ranking, measure, block_days=block, replicates=30)

        assert found.value == measure(ranking, None)
        assert found.low <= found.value <= found.high


def test_neither_a_second_run_nor_another_order_of_rows_changes_an_interval() -> None:
    ranking = random_ranking(8, 40, seed=3)
    first = evaluation.bootstrap(ranking, evaluation.average_precision, block_days=14)
    again = evaluation.bootstrap(ranking, evaluation.average_precision, block_days=14)
    shuffled = evaluation.bootstrap(ranking.sample(frac=1, random_state=1), evaluation.average_precision, block_days=14)

    assert (again.value, again.low, again.high) == (first.value, first.low, first.high)
    assert (shuffled.value, shuffled.low, shuffled.high) == pytest.approx((first.value, first.low, first.high))


def test_an_interval_is_as_wide_as_the_values_of_other_samples_scatter() -> None:
    found = evaluation.bootstrap(random_ranking(100, 100, seed=1), evaluation.average_precision)
    others = [float(evaluation.average_precision(random_ranking(100, 100, seed))) for seed in range(2, 62)]

    assert found.high - found.low == pytest.approx(3.92 * np.std(others), rel=0.4)
    assert np.mean([found.low < other < found.high for other in others]) > 0.5


def test_drawing_blocks_as_well_tells_that_airports_share_their_storms() -> None:
    labels = pd.concat([labels_of([day % 20 == 0 for day in range(120)]).assign(origin=o) for o in "ABCDEFGH"])
    storms_found = labels["fl_date"].dt.day_of_year.sub(1).isin([0, 40, 80])
    ranking = evaluation.ranked(labels, labels[KEY].assign(score=storms_found.to_numpy(float)), flags_per_year=10)

    alone = evaluation.bootstrap(ranking, evaluation.recall)
    together = evaluation.bootstrap(ranking, evaluation.recall, block_days=14)

    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_one_airport_cannot_be_drawn_anew_without_blocks() -> None:
    with pytest.raises(DelaywatchError, match="give block_days"):
        evaluation.bootstrap(random_ranking(1, 30, seed=1), evaluation.recall)


def test_a_ratio_is_paired_so_that_a_detector_is_exactly_as_good_as_itself() -> None:
    better, worse = (
        evaluation.bootstrap(random_ranking(20, 60, seed=5, quality=quality), evaluation.average_precision)
        for quality in (2.0, 1.0)
    )

    itself, ratio = better.ratio(better), better.ratio(worse)

    assert (itself.low, itself.value, itself.high) == (1, 1, 1)
    assert ratio.value == pytest.approx(better.value / worse.value)
    assert 1 < ratio.low < ratio.value < ratio.high


def test_an_estimate_reads_as_its_value_and_interval() -> None:
    assert str(evaluation.Estimate(0.456, 0.4, 0.5, np.zeros(1))) == "0.46 (0.40-0.50)"


def test_the_days_of_a_planted_storm_keep_their_event_through_a_ranking() -> None:
    labels = evaluation.planted_days(days_of({"AAA": [50.0, 0.0]}), truth_of([("01", "storm", "storm01")]))
    verdicts = labels[KEY].assign(score=[3.0, 1.0])

    assert evaluation.events_seen(evaluation.ranked(labels, verdicts, flags_per_year=365)) == (1, 1)
