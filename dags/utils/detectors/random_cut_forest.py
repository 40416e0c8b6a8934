"""Random cut forest: a day is abnormal if removing it would displace many other days in a forest (CoDisp).

A tree splits the airport's days by random cuts, wide ranges more often than narrow ones, until each day is a leaf. If a
day, or the small group that it is in, is removed, the days on the other side of its last cut move up. The displacement
is their number over the size of the group, the maximum on the way to the root, averaged over `n_trees` trees (CoDisp;
Guha, Mishra, Roy and Schrijvers, "Robust random cut forest based anomaly detection on streams", 2016). With
`shingle_days` above 1 a point is a day together with the days before it, which detects unusual sequences better and
single days worse; a day is then judged if all of its days are known.

Why not a package: rrcf (0.4.4) has the same distribution, but builds trees node by node in Python, about 50 times
slower; rcf3 (0.5.2), in Rust, scores a stream against samples of its past and not of a whole year; scikit-learn's
Isolation Forest chooses dimensions uniformly and does not count displaced points.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from utils.detectors.shared import parameters
from utils.detectors.shared.verdicts import Flags, Floats, calendar, severities, usable, verdicts

METRIC = "mean_dep_delay_min"
Places = npt.NDArray[np.intp]


class Parameters(parameters.Parameters):
    """Parameters of `detect`."""

    levels: parameters.Levels[Annotated[float, Field(ge=1.0, le=365.0)]] = Field(
        (25.0, 50.0, 100.0), description="displaced days at which a day is mild, strong and extreme"
    )
    n_trees: int = Field(100, ge=1, le=10_000, description="number of trees of each airport's forest")
    shingle_days: int = Field(1, ge=1, le=28, description="length of the scored sequences; 1: single days")
    late_only: bool = Field(True, description="false: days below the median are flagged too")
    random_state: parameters.Seed = 0
    min_flights: parameters.MinFlights = 5
    min_days: parameters.MinDays = 28


def detect(days: pd.DataFrame, params: Parameters) -> pd.DataFrame:
    """Score each day by its displacement in a forest of random cut trees over the airport's mean delays.

    The score is a number of days; a day is mild, strong and extreme from `levels` on. There is no quota, but the score
    depends on ranks and gaps only, not on minutes: noise has extreme days too. About 5 to 7 days of an airport-year
    reach 25 on flights, 3 on Gaussian noise; a season with fewer days has none. Cuts have no direction: with
    `late_only` days below the median get the negative of their score, so they are not flagged. `expected` is the
    median, `lower` and `upper` are the range of the unflagged days, in minutes.

    Days with fewer than `min_flights` scheduled flights are neither judged nor used for fitting; airports with fewer
    than `min_days` points are not judged. `is_excluded` days are scored in trees in which they displace no other day.
    Each airport's forest starts from `random_state`, so airports do not influence each other.
    """
    grid = calendar(days)
    known = usable(grid, METRIC, params.min_flights)
    train_mask = known & ~grid.excluded()
    delay = grid.numbers(METRIC)
    displacement, judged = _scores(delay, known, train_mask, params)
    expected = np.full(grid.shape[1], np.nan)
    has_usual = train_mask.any(axis=0)
    expected[has_usual] = np.nanmedian(np.where(train_mask, delay, np.nan)[:, has_usual], axis=0)
    is_late = delay > expected
    score = np.where(is_late, displacement, -displacement) if params.late_only else displacement
    severity = severities(score, params.levels)
    within = judged & train_mask & (severity == 0)
    return verdicts(
        grid,
        metric=METRIC,
        judged=judged,
        expected=expected,
        lower=np.where(within, delay, np.inf).min(axis=0),
        upper=np.where(within, delay, -np.inf).max(axis=0),
        score=score,
        severity=severity,
        direction=np.where(is_late, "late", "early"),
    )


def _scores(delay: Floats, known: Flags, train_mask: Flags, params: Parameters) -> tuple[Floats, Flags]:
    """Return the displacement of each day, and the mask of judged days: days × airports."""
    points = _shingles(np.where(known, delay, np.nan), params.shingle_days)
    is_point = np.isfinite(points).all(axis=2)
    is_usual = is_point & (_shingles(train_mask.astype(np.float64), params.shingle_days) == 1).all(axis=2)
    judged = is_point & (is_usual.sum(axis=0) >= params.min_days)
    displacement = np.full(delay.shape, np.nan)
    for airport in np.flatnonzero(judged.any(axis=0)):
        at, usual = judged[:, airport], is_usual[:, airport]
        rng = np.random.default_rng(params.random_state)
        if not usual[at].all():  # trees with all days score the excluded days only, so that these change no other score
            displacement[at, airport] = _displacements(points[at, airport], usual[at], params.n_trees, rng)
            rng = np.random.default_rng(params.random_state)
        displacement[usual, airport] = _displacements(points[usual, airport], usual[usual], params.n_trees, rng)
    return displacement, judged


def _shingles(matrix: Floats, n_days: int) -> Floats:
    """Return days × airports × `n_days`: the values of the day and of the days before it; NaN before the first day."""
    shingles = np.full((*matrix.shape, n_days), np.nan)
    for lag in range(min(n_days, len(matrix))):
        shingles[lag:, :, lag] = matrix[: len(matrix) - lag]
    return shingles


def _displacements(points: Floats, counts: Flags, n_trees: int, rng: np.random.Generator) -> Floats:
    """Return each point's largest displacement, averaged over `n_trees` random cut trees.

    points: points × dimensions. counts: mask of the points that count as displaced, or as a member of another point's
    group; the others count only for themselves. All nodes of one depth of all trees are cut at once: `items` lists the
    points that are not yet leaves, node after node, and `starts` is the position of each node's first point.
    """
    n_points = len(points)
    largest = np.zeros(n_trees * n_points)  # maximum so far, tree after tree
    items = np.arange(n_trees * n_points)
    starts = np.arange(n_trees) * n_points
    while len(items):
        at = items % n_points
        sizes = np.diff(starts, append=len(items))
        node = np.repeat(np.arange(len(starts)), sizes)
        is_right, has_width = _cut(points[at], starts, node, rng)
        weight = counts[at].astype(np.float64)
        right, all_sides = np.add.reduceat(weight * is_right, starts), np.add.reduceat(weight, starts)
        left = all_sides - right
        own = np.where(is_right, right[node], left[node]) + (1 - weight)
        other = np.where(is_right, left[node], right[node])
        largest[items] = np.maximum(largest[items], other / own)
        items, starts = _children(items, starts, sizes, node, is_right, has_width)
    mean: Floats = largest.reshape(n_trees, n_points).mean(axis=0)
    return mean


def _cut(value: Floats, starts: Places, node: Places, rng: np.random.Generator) -> tuple[Flags, Flags]:
    """Cut every node once. Return whether each item is right of the cut, and whether each node has distinct points."""
    nodes = np.arange(len(starts))
    low = np.minimum.reduceat(value, starts)
    width = np.maximum.reduceat(value, starts) - low
    end = width.cumsum(axis=1)
    drawn = rng.random(len(starts)) * end[:, -1]  # a position on the concatenated widths of the node
    dimension = np.minimum((drawn[:, None] >= end).sum(axis=1), value.shape[1] - 1)
    cut = low[nodes, dimension] + drawn - (end - width)[nodes, dimension]
    return value[np.arange(len(value)), dimension[node]] > cut[node], end[:, -1] > 0


def _children(
    items: Places, starts: Places, sizes: Places, node: Places, is_right: Flags, has_width: Flags
) -> tuple[Places, Places]:
    """Return `items` and `starts` of the next depth: both sides of every node, without leaves."""
    n_right = np.add.reduceat(is_right.astype(np.intp), starts)
    before = is_right.cumsum() - is_right
    right_rank = before - before[starts][node]
    to = np.where(is_right, (starts + sizes - n_right)[node] + right_rank, np.arange(len(items)) - right_rank)
    ordered = np.empty_like(items)
    ordered[to] = items
    children = np.stack([sizes - n_right, n_right], axis=1).ravel()
    goes_on = (children > 1) & np.repeat(has_width, 2)  # equal points cannot be cut
    return ordered[np.repeat(goes_on, children)], np.cumsum(children[goes_on]) - children[goes_on]
