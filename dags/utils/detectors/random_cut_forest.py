"""Random cut forest: a day is abnormal when, without it, random cuts would lay out many of the airport's days anew."""

from __future__ import annotations

import numpy as np
import pandas as pd

from utils.detectors.verdicts import Flags, Floats, calendar, severities, usable, verdicts

METRIC = "mean_dep_delay_min"
LIMITS = {
    "levels": (1.0, 365.0),
    "n_trees": (1, 10_000),
    "shingle_days": (1, 28),
    "random_state": (0, 2**32 - 1),
    "min_flights": (1, 1_000),
    "min_days": (2, 366),
}


def detect(
    days: pd.DataFrame,
    *,
    levels: tuple[float, float, float] = (25.0, 50.0, 100.0),
    n_trees: int = 100,
    shingle_days: int = 1,
    late_only: bool = True,
    random_state: int = 0,
    min_flights: int = 5,
    min_days: int = 28,
) -> pd.DataFrame:
    """Score each day by its collusive displacement in a forest of random cut trees over the airport's mean delays.

    A tree cuts the airport's days in two at random, a wide range sooner than a narrow one, until each stands alone. If
    the day, or the small group that it stands with, were taken out, the days on the other side of the cut above would
    move up: their number over the group's, the largest on the way to the root, averaged over `n_trees` trees, is the
    score (CoDisp; Guha, Mishra, Roy and Schrijvers, "Robust random cut forest based anomaly detection on streams",
    2016). So it is a number of days, and a day is mild, strong and extreme from `levels` on. It is no quota, but it
    knows ranks and gaps alone, not how many minutes are much: noise too has its outermost days. About 5 to 7 of an
    airport-year reach 25 on flights, 3 on Gaussian noise; a season shorter than that many days has none.

    With `shingle_days` above 1 a point is that day together with those before it, which finds unusual sequences and
    finds single days less well; a day is then judged when all of them are known. Cuts have no direction: `late_only`
    gives days below the median the negative of their score, and so no flag. `expected` is the median, `lower` and
    `upper` are the range of the unflagged days, in minutes. Days with fewer than `min_flights` scheduled flights are
    neither judged nor learnt from, nor is an airport with fewer than `min_days` points. Days that are `is_excluded` are
    judged by trees in which they count for nobody but themselves. Each airport's forest starts from `random_state`:
    airports do not influence each other.

    Why trees of our own: the package rrcf (0.4.4) agrees with these in distribution, but builds them node by node in
    Python and takes about 50 times as long; rcf3 (0.5.2), in Rust, scores a stream against samples of its past instead
    of a year; scikit-learn has no such tree (an Isolation Forest cuts every dimension alike, and counts no neighbours).
    """
    where = calendar(days)
    known = usable(where, METRIC, min_flights)
    delay = where.numbers(METRIC)
    train_mask = known & ~where.excluded()
    points = _shingles(np.where(known, delay, np.nan), shingle_days)
    is_point = np.isfinite(points).all(axis=2)
    is_usual = is_point & (_shingles(train_mask.astype(np.float64), shingle_days) == 1).all(axis=2)
    judged = is_point & (is_usual.sum(axis=0) >= min_days)
    displacement = np.full(where.shape, np.nan)
    for airport in np.flatnonzero(judged.any(axis=0)):
        at, usual = judged[:, airport], is_usual[:, airport]
        rng = np.random.default_rng(random_state)
        if not usual[at].all():  # first with all, for the excluded ones; the others' trees must not know of them
            displacement[at, airport] = _displacements(points[at, airport], usual[at], n_trees, rng)
            rng = np.random.default_rng(random_state)
        displacement[usual, airport] = _displacements(points[usual, airport], usual[usual], n_trees, rng)

    expected = np.full(where.shape[1], np.nan)
    has_usual = train_mask.any(axis=0)
    expected[has_usual] = np.nanmedian(np.where(train_mask, delay, np.nan)[:, has_usual], axis=0)
    is_late = delay > expected
    score = np.where(is_late, displacement, -displacement) if late_only else displacement
    severity = severities(score, levels)
    within = judged & train_mask & (severity == 0)
    return verdicts(
        where,
        metric=METRIC,
        judged=judged,
        expected=expected,
        lower=np.where(within, delay, np.inf).min(axis=0),
        upper=np.where(within, delay, -np.inf).max(axis=0),
        score=score,
        severity=severity,
        direction=np.where(is_late, "late", "early"),
    )


def _shingles(matrix: Floats, n_days: int) -> Floats:
    """Days × airports × `n_days`: the value of the day and of those before it; NaN before the first day."""
    shingles = np.full((*matrix.shape, n_days), np.nan)
    for lag in range(min(n_days, len(matrix))):
        shingles[lag:, :, lag] = matrix[: len(matrix) - lag]
    return shingles


def _displacements(points: Floats, counts: Flags, n_trees: int, rng: np.random.Generator) -> Floats:
    """The mean over `n_trees` random cut trees of each point's largest displacement.

    points: points × dimensions. counts: which of them count as displaced, or as a member of another's group; the others
    only count as themselves. All nodes of one depth of all trees are cut at once: `items` lists what is not yet alone,
    node after node, and `starts` says where each node begins.
    """
    n_points, n_dimensions = points.shape
    largest = np.zeros(n_trees * n_points)  # so far, tree after tree
    items = np.arange(n_trees * n_points)
    starts = np.arange(n_trees) * n_points
    while len(items):
        at = items % n_points
        value, weight = points[at], counts[at].astype(np.float64)
        sizes = np.diff(starts, append=len(items))
        nodes = np.arange(len(starts))
        node = np.repeat(nodes, sizes)

        low = np.minimum.reduceat(value, starts)
        width = np.maximum.reduceat(value, starts) - low
        end = width.cumsum(axis=1)
        drawn = rng.random(len(starts)) * end[:, -1]  # a place on the node's widths laid end to end
        dimension = np.minimum((drawn[:, None] >= end).sum(axis=1), n_dimensions - 1)
        cut = low[nodes, dimension] + drawn - (end - width)[nodes, dimension]
        is_right = value[np.arange(len(items)), dimension[node]] > cut[node]

        right, all_sides = np.add.reduceat(weight * is_right, starts), np.add.reduceat(weight, starts)
        left = all_sides - right
        own = np.where(is_right, right[node], left[node]) + (1 - weight)
        other = np.where(is_right, left[node], right[node])
        largest[items] = np.maximum(largest[items], other / own)

        n_right = np.add.reduceat(is_right.astype(np.intp), starts)
        before = is_right.cumsum() - is_right
        right_rank = before - before[starts][node]
        to = np.where(is_right, (starts + sizes - n_right)[node] + right_rank, np.arange(len(items)) - right_rank)
        ordered = np.empty_like(items)
        ordered[to] = items
        children = np.stack([sizes - n_right, n_right], axis=1).ravel()
        goes_on = (children > 1) & np.repeat(end[:, -1] > 0, 2)  # equal points cannot be cut
        items = ordered[np.repeat(goes_on, children)]
        starts = np.cumsum(children[goes_on]) - children[goes_on]
    mean: Floats = largest.reshape(n_trees, n_points).mean(axis=0)
    return mean
