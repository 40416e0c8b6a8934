"""What the random cut forest promises beyond the contract of all detectors: its displacements, and groups of days."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pytest

from tests.builders import days_of_delays as of_delays
from tests.builders import run_detector as judged
from tests.builders import verdict_on as on

Numbers = npt.NDArray[np.float64]


def day(number: int) -> date:
    return date(2015, 1, 1) + timedelta(days=number)


def displacements_of_a_tree(points: Numbers, rng: np.random.Generator) -> Numbers:
    """The paper's definition, node by node: the largest of sibling / own size on each point's way to the root."""
    largest = np.zeros(len(points))
    nodes = [np.arange(len(points))]
    while nodes:
        node = nodes.pop()
        widths = np.ptp(points[node], axis=0)
        if not widths.sum():
            continue
        dimension = rng.choice(len(widths), p=widths / widths.sum())
        low = points[node, dimension].min()
        is_right = points[node, dimension] > rng.uniform(low, low + widths[dimension])
        sides = node[~is_right], node[is_right]
        for own, other in (sides, sides[::-1]):
            largest[own] = np.maximum(largest[own], len(other) / len(own))
            nodes.append(own)
    return largest


@pytest.mark.parametrize("shingle_days", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_the_score_is_the_mean_displacement_of_the_papers_trees(shingle_days: int) -> None:
    delays = np.random.default_rng(1).gamma(2, 5, 50)
    delays[30] += 40
    points = np.lib.stride_tricks.sliding_window_view(delays, shingle_days)[:, ::-1]
    rng = np.random.default_rng(2)
    by_definition = np.mean([displacements_of_a_tree(points, rng) for _ in range(800)], axis=0)

    found = judged(
        "random_cut_forest", of_delays(delays[:, None]), n_trees=800, shingle_days=shingle_days, late_only=False
    )

    score = found["score"][shingle_days - 1 :].to_numpy()
    assert found["score"][: shingle_days - 1].isna().all()
    assert np.corrcoef(score, by_definition)[0, 1] > 0.995
    assert score.mean() == pytest.approx(by_definition.mean(), rel=0.05)
    assert score[30] == pytest.approx(by_definition[30], rel=0.1)


def test_three_storms_alike_do_not_hide_each_other() -> None:
    delays = np.random.default_rng(1).normal(10, 3, (365, 1))
    storms = [50, 51, 200]
    delays[storms, 0] = 60.0, 60.5, 61.0

    found = judged("random_cut_forest", of_delays(delays))

    assert [on(found, day(storm), "A000")["is_anomaly"] for storm in storms] == [True, True, True]
    assert found["is_anomaly"].sum() <= 8


def test_the_number_of_flags_is_that_of_the_year_and_no_quota() -> None:
    delays = np.random.default_rng(1).normal(10, 3, (365, 2))
    delays[::30, 1] += np.linspace(40, 160, 13)

    found = judged("random_cut_forest", of_delays(delays))

    quiet, bad = found.groupby("origin")["is_anomaly"].sum()
    assert quiet <= 5
    assert 13 <= bad <= 16


def test_an_excluded_storm_is_compared_with_the_others_and_counts_for_none_of_them() -> None:
    delays = np.random.default_rng(1).normal(10, 3, (365, 1))
    delays[100:110] = 70 + np.arange(10)[:, None]
    days = of_delays(delays).assign(is_excluded=np.isin(np.arange(365), np.arange(100, 110)))

    found = judged("random_cut_forest", days)

    assert found["is_anomaly"][100:110].all()
    as_if_alone = judged("random_cut_forest", of_delays(np.delete(delays, np.arange(100, 110), axis=0)))
    np.testing.assert_array_equal(found["score"].drop(index=range(100, 110)), as_if_alone["score"])
    # Ten such days together would displace (365 - 10) / 10 days each; compared with the others, nearly all of these.
    together = judged("random_cut_forest", of_delays(delays))
    assert found["score"][100:110].min() > 3 * together["score"][100:110].max()


def test_a_break_in_a_rhythm_is_seen_in_shingles_and_not_in_single_days() -> None:
    delays = np.where(np.arange(200) % 2, 40.0, 10.0) + np.random.default_rng(1).normal(0, 1, 200)
    delays[150] = delays[149] + 0.1  # late twice in a row, each day as late as usual
    year = of_delays(delays[:, None])

    single, shingled = (on(judged("random_cut_forest", year, shingle_days=n), day(150), "A000") for n in (1, 2))

    assert not single["is_anomaly"]
    assert shingled["is_anomaly"]


def test_a_shingle_with_a_missing_day_is_not_judged() -> None:
    delays = np.random.default_rng(1).normal(10, 3, (100, 1))
    delays[50] = np.nan

    found = judged("random_cut_forest", of_delays(delays), shingle_days=3)

    assert np.flatnonzero(found["status"] == "insufficient_data").tolist() == [0, 1, 50, 51, 52]


def test_another_seed_gives_other_trees_and_the_same_spike() -> None:
    delays = np.random.default_rng(1).normal(10, 3, (200, 1))
    delays[60] += 50

    one, two = (judged("random_cut_forest", of_delays(delays), random_state=seed) for seed in (0, 1))

    assert not np.allclose(one["score"], two["score"])
    assert on(one, day(60), "A000")["severity"] == on(two, day(60), "A000")["severity"] == 3


@pytest.mark.parametrize("scale", [0.001, 1000.0])
def test_the_unit_of_the_delays_does_not_matter(scale: float) -> None:
    delays = np.random.default_rng(1).normal(10, 3, (120, 1))

    found, scaled = (judged("random_cut_forest", of_delays(series)) for series in (delays, delays * scale))

    np.testing.assert_allclose(scaled["score"], found["score"], rtol=1e-3, atol=0.2)


def test_a_day_whose_score_is_exactly_a_level_reaches_it() -> None:
    delays = np.random.default_rng(1).normal(10, 2, (100, 1))
    delays[50] += 500

    found = judged("random_cut_forest", of_delays(delays), n_trees=1, levels=(50.0, 99.0, 99.5))

    assert found.loc[50, "score"] == 99  # all other days are displaced
    assert found.loc[50, "severity"] == 2
