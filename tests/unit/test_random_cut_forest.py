"""Random cut forest: displacements by the definition of the paper, groups of days, and excluded days."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tests.builders import days_of_delays, run_detector

NAME = "random_cut_forest"
Numbers = npt.NDArray[np.float64]


def displacements_of_a_tree(points: Numbers, rng: np.random.Generator) -> Numbers:
    """The largest size of the sibling / own size on the way from each point to the root, node by node."""
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


@pytest.mark.parametrize("shingle_days", [1, 3])
def test_the_score_is_the_mean_displacement_over_trees_of_the_definition(shingle_days: int) -> None:
    delays = np.random.default_rng(1).gamma(2, 5, 40)
    delays[30] += 40
    points = np.lib.stride_tricks.sliding_window_view(delays, shingle_days)[:, ::-1]
    rng = np.random.default_rng(2)
    reference = np.mean([displacements_of_a_tree(points, rng) for _ in range(300)], axis=0)

    verdicts = run_detector(
        NAME, days_of_delays(delays[:, None]), n_trees=800, shingle_days=shingle_days, late_only=False
    )

    score = verdicts["score"][shingle_days - 1 :].to_numpy()
    assert np.corrcoef(score, reference)[0, 1] > 0.99
    assert score.mean() == pytest.approx(reference.mean(), rel=0.06)
    assert score[30] == pytest.approx(reference[30], rel=0.1)


def test_an_excluded_storm_is_compared_with_the_other_days_and_displaces_none_of_them() -> None:
    delays = np.random.default_rng(1).normal(10, 3, (120, 1))
    storm = list(range(100, 110))
    delays[storm] = 70 + np.arange(10)[:, None]
    days = days_of_delays(delays)

    excluded = run_detector(NAME, days.assign(is_excluded=days.index.isin(storm)))["score"]
    without = run_detector(NAME, days.drop(index=storm))["score"]
    together = run_detector(NAME, days)["score"]

    np.testing.assert_array_equal(excluded.drop(index=storm), without)
    assert excluded[storm].min() > 3 * together[storm].max()


def test_a_score_that_equals_a_level_reaches_it() -> None:
    delays = np.random.default_rng(1).normal(10, 2, (100, 1))
    delays[50] += 500

    day = run_detector(NAME, days_of_delays(delays), n_trees=1, levels=(50.0, 99.0, 99.5)).loc[50]

    assert (day["score"], day["severity"]) == (99, 2)
