"""Every column of the verdicts against an independent computation from the definitions, on generated airport-days.

`docs/detectors.md` and the docstrings of the detectors have the definitions. Nothing here calls code of a detector.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache

import duckdb
import holidays
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from scipy import special, stats
from sklearn.ensemble import HistGradientBoostingRegressor, IsolationForest

from tests.builders import airport_days, days_of_delays, few_trees
from utils import detectors, schemas

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
FIRST_DAY = date(2014, 11, 20)  # Thanksgiving, Christmas and New Year are among the 110 days
MIN_FLIGHTS, MIN_DAYS = 5, 28
TREES = 20


@cache
def generated_days(seed: int) -> pd.DataFrame:
    """Four airports with late, early, closed and excluded days, missing rows and values, and days with few flights."""
    rng = np.random.default_rng(seed)
    frames = []
    for origin, usual_flights in (("AAA", 6), ("BBB", 15), ("CCC", 40), ("DDD", 120)):
        flights = {}
        for number in range(110 if origin != "AAA" else 60):
            n_flights = usual_flights
            if rng.random() < 0.1:
                n_flights = int(rng.choice([0, 1, MIN_FLIGHTS - 1, MIN_FLIGHTS, 2 * usual_flights]))
            delays = (
                rng.exponential(14, n_flights)
                - 5
                + 6 * (number % 7 == 2)
                + 35 * (origin == "CCC" and 50 <= number < 85)
            )
            if rng.random() < 0.08:
                delays += rng.uniform(-15, 90)
            if rng.random() < 0.06:
                delays[: round(n_flights * rng.choice([0.2, 0.45, 0.9, 1.0]))] = np.nan
            flights[FIRST_DAY + timedelta(days=number)] = delays.round()
        frames.append(airport_days(origin, flights))
    days = pd.concat(frames, ignore_index=True).sample(frac=0.97, random_state=seed)
    gold: pd.DataFrame = pa.Table.from_pandas(days, schema=schemas.AIRPORT_DAYS, preserve_index=False).to_pandas()
    return gold.assign(is_excluded=rng.random(len(gold)) < 0.05)


@cache
def verdicts_of(name: str, seed: int) -> pa.Table:
    return detectors.run(name, generated_days(seed), few_trees(name, TREES))


def pivoted(days: pd.DataFrame, column: str) -> pd.DataFrame:
    """The column as calendar days × airports; missing where the row or the value is missing."""
    dates = pd.date_range(days["fl_date"].min(), days["fl_date"].max()).date
    return days.pivot(index="fl_date", columns="origin", values=column).reindex(dates).astype(np.float64)


def masks(days: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Days × airports: the days that may be scored, and the days that are used for fitting."""
    known = (pivoted(days, "scheduled") >= MIN_FLIGHTS) & pivoted(days, metric).notna()
    return known, known & (pivoted(days, "is_excluded") == 0)


def check_figures(name: str, days: pd.DataFrame, figures: dict[str, pd.DataFrame], **params: object) -> None:
    """Compare expected, lower, upper and score of the verdicts; a missing figure means that the day is not scored."""
    verdicts = detectors.run(name, days, params).to_pandas()
    for column, values in figures.items():
        reference = [
            values.loc[day, origin] for origin, day in zip(verdicts["origin"], verdicts["fl_date"], strict=True)
        ]
        np.testing.assert_allclose(verdicts[column], reference, rtol=2e-4, atol=2e-3, err_msg=column)
    assert verdicts["score"].notna().sum() > 0.5 * len(days)


# All detectors


@pytest.mark.parametrize("seed", [1, 10])
@pytest.mark.parametrize("name", detectors.NAMES)
def test_the_columns_of_every_detector_follow_their_definitions(name: str, seed: int) -> None:
    days = generated_days(seed)
    verdicts = verdicts_of(name, seed)

    assert verdicts.schema.equals(schemas.ANOMALIES)
    keys = list(zip(verdicts["origin"].to_pylist(), verdicts["fl_date"].to_pylist(), strict=True))
    assert keys == sorted(zip(days["origin"], days["fl_date"], strict=True))
    assert set(verdicts["params_hash"].to_pylist()) == {detectors.params_hash(name, few_trees(name, TREES))}
    (metric,) = set(verdicts["metric"].to_pylist())
    rules = f"""
        WITH day AS (FROM verdicts JOIN days USING (origin, fl_date)),
        figure AS (SELECT *, {metric} AS value, expected IS NULL OR score IS NULL OR lower IS NULL OR upper IS NULL
            AS has_gap, expected IS NULL AND score IS NULL AND lower IS NULL AND upper IS NULL AS is_empty,
            '{name}' = 'delaywatch' AND is_anomaly AND score IS NULL AS by_rule FROM day)
        SELECT
            count_if(observed IS DISTINCT FROM value) AS observed,
            count_if((status = 'no_flights') != (scheduled = 0)) AS no_flights,
            count_if(status = 'ok' AND (scheduled < {MIN_FLIGHTS} OR value IS NULL)) AS unusable_day,
            count_if(status NOT IN ('ok', 'no_flights', 'insufficient_data')) AS status,
            count_if(IF(status = 'ok' AND NOT by_rule, has_gap, NOT is_empty)) AS figures,
            count_if(lower > expected OR upper < expected) AS band,
            count_if(is_anomaly != (severity > 0) OR severity NOT BETWEEN 0 AND 3) AS severity,
            count_if(is_anomaly AND status != 'ok') AS flagged_without_verdict,
            count_if(is_anomaly != (direction IS NOT NULL)) AS direction,
            count_if(direction IN ('late', 'closure') AND observed <= expected) AS late,
            count_if(direction = 'early' AND observed >= expected) AS early,
        FROM figure
        """
    counts = (
        duckdb.connect(config={"threads": 1})
        .register("days", days)
        .register("verdicts", verdicts)
        .sql(rules)
        .to_df()
        .iloc[0]
    )
    assert counts[counts > 0].to_dict() == {}
    assert {"ok", "no_flights", "insufficient_data"} == set(verdicts["status"].to_pylist())
    assert any(verdicts["is_anomaly"].to_pylist())


def has_many_cancelled(days: pd.DataFrame) -> pd.Series:
    return (days["scheduled"] >= 20) & (days["cancelled"] >= days["scheduled"] / 4)


def severity_of(score: pd.Series, levels: tuple[float, float, float]) -> list[int]:
    return [sum(value >= level for level in levels) for value in score.fillna(-np.inf)]


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("three_sigma", (3.0, 4.0, 5.0)),
        ("random_cut_forest", (25.0, 50.0, 100.0)),
        ("gradient_boosting", (4.0, 6.0, 8.0)),
        ("arima", tuple(special.ndtri(0.99) + step for step in range(3))),
        ("delaywatch", (60.0, 180.0, 500.0)),
    ],
)
def test_the_severity_counts_the_levels_that_the_score_reaches(name: str, levels: tuple[float, float, float]) -> None:
    verdicts = verdicts_of(name, 1).to_pandas()

    is_mild_by_rule = generated_days(1).pipe(has_many_cancelled) & (name == "delaywatch")
    least = verdicts[["origin", "fl_date"]].merge(generated_days(1).assign(least=is_mild_by_rule))["least"]
    assert verdicts["severity"].tolist() == list(map(max, severity_of(verdicts["score"], levels), least))


# The model of each detector


def test_three_sigma_is_the_distance_from_the_mean_in_standard_deviations() -> None:
    days = generated_days(1)
    delay = pivoted(days, "mean_dep_delay_min")
    known, train = masks(days, "mean_dep_delay_min")
    mean, deviation = delay[train].mean(), delay[train].std()
    scored = known & (train.sum() >= MIN_DAYS)

    figures = {
        "expected": mean + 0 * delay,
        "lower": mean - 3 * deviation + 0 * delay,
        "upper": mean + 3 * deviation + 0 * delay,
        "score": (delay - mean) / deviation,
    }

    check_figures("three_sigma", days, {column: values.where(scored) for column, values in figures.items()})


def test_isolation_forest_is_scikit_learns_for_each_airport() -> None:
    days = generated_days(1)
    delay = pivoted(days, "mean_dep_delay_min")
    known, train = masks(days, "mean_dep_delay_min")
    figures = {
        name: pd.DataFrame(np.nan, delay.index, delay.columns) for name in ("expected", "lower", "upper", "score")
    }
    flags = []
    for origin in delay:
        is_known = known[origin].to_numpy()
        values = delay[[origin]].to_numpy()[is_known]
        is_usual = train[origin].to_numpy()[is_known]
        forest = IsolationForest(n_estimators=20, contamination=0.05, random_state=3).fit(values[is_usual])
        is_flagged = forest.predict(values) == -1
        unflagged = values[is_usual & ~is_flagged]
        figures["score"].loc[is_known, origin] = -forest.score_samples(values)
        figures["expected"].loc[is_known, origin] = np.median(values[is_usual])
        figures["lower"].loc[is_known, origin] = unflagged.min()
        figures["upper"].loc[is_known, origin] = unflagged.max()
        flags += [(origin, day) for day, flag in zip(delay.index[is_known], is_flagged, strict=True) if flag]
    params = {"n_estimators": 20, "contamination": 0.05, "random_state": 3}

    check_figures("isolation_forest", days, figures, **params)

    verdicts = detectors.run("isolation_forest", days, params).to_pandas()
    flagged = verdicts[verdicts["is_anomaly"]]
    assert list(zip(flagged["origin"], flagged["fl_date"], strict=True)) == flags
    assert flagged["severity"].tolist() == [1 + (score >= 0.7) + (score >= 0.8) for score in flagged["score"]]


def test_the_band_of_the_random_cut_forest_is_the_median_and_the_range_of_unflagged_days() -> None:
    days = generated_days(1)
    verdicts = verdicts_of("random_cut_forest", 1).to_pandas()
    delay, severity = pivoted(days, "mean_dep_delay_min"), pivoted(verdicts, "severity")
    known, train = masks(days, "mean_dep_delay_min")
    unflagged = delay[train & (severity == 0)]

    figures = {
        "expected": (delay[train].median() + 0 * delay).where(known),
        "lower": (unflagged.min() + 0 * delay).where(known),
        "upper": (unflagged.max() + 0 * delay).where(known),
        "score": pivoted(verdicts, "score").abs() * (delay - delay[train].median()).gt(0).replace({True: 1, False: -1}),
    }

    check_figures("random_cut_forest", days, figures, **few_trees("random_cut_forest", TREES))


def arima_walk(
    delays: Floats, p_max: int, q_max: int, shrink_days: float, most_spreads: float
) -> tuple[Floats, Floats]:
    """Forecast each day of a series without gaps, and the standard error, by the best order of the days before."""
    orders = [(p, d, q) for p in range(p_max + 1) for d in (0, 1) for q in range(q_max + 1)]
    orders.sort(key=sum)
    seen = {order: np.full(p_max + 2, delays[0]) for order in orders}  # clipped values, latest first
    shocks = {order: np.zeros(q_max) for order in orders}
    rows = {(p, d, q): np.zeros((0, p + q)) for p, d, q in orders}
    targets = {order: np.zeros(0) for order in orders}
    absolute, squared = dict.fromkeys(orders, 0.0), dict.fromkeys(orders, 0.0)
    forecasts, errors, fitted = [np.nan], [np.nan], [delays[0]]
    for day in range(1, len(delays)):
        best = min(orders, key=lambda order: absolute[order])
        past = list(fitted)
        for p, d, q in orders:
            order = p, d, q
            base = seen[order][0] if d else np.mean(past)
            lags = seen[order][:-1] - (seen[order][1:] if d else base)
            regressors = np.concatenate([lags[:p], shocks[order][:q]])
            moments = rows[order].T @ rows[order]
            moments += np.diag(np.diag(moments) * shrink_days / max(day - 1, 1) + 1e-6)
            forecast = base + regressors @ np.linalg.solve(moments, rows[order].T @ targets[order])
            forecast = np.clip(forecast, min(past), max(past))
            sigma = np.sqrt(squared[order] / max(day - 1, 1))
            error = delays[day] - forecast
            clipped = np.clip(error, -most_spreads * sigma, most_spreads * sigma) if day > 5 else error
            if order == best:
                forecasts.append(forecast)
                errors.append(sigma)
                fitted.append(forecast + clipped)
            absolute[order] += abs(error)
            squared[order] += clipped**2
            rows[order] = np.vstack([rows[order], regressors])
            targets[order] = np.append(targets[order], forecast + clipped - base)
            seen[order] = np.append(forecast + clipped, seen[order][:-1])
            shocks[order] = np.append(clipped, shocks[order])[:q_max]
    return np.array(forecasts), np.array(errors)


def arima_band(series: Floats) -> tuple[Floats, Floats, Floats]:
    """The forecast and the width of the band of 0.98 below and above it, which a day outside widens on its side."""
    expected, sigma = arima_walk(series, 2, 1, shrink_days=10, most_spreads=4)
    factors = {-1: 0.67 * stats.t.ppf(0.99, 8), 1: 0.75 * stats.t.ppf(0.99, 3)}
    widths: dict[int, list[float]] = {-1: [], 1: []}
    for day, value in enumerate(series):
        for side, width in widths.items():
            width.append(factors[side] * sigma[day])
            if day >= 14:
                is_outside = side * (value - expected[day]) > width[-1]
                factors[side] *= np.exp(0.12 * 0.99) if is_outside else np.exp(-0.12 * 0.01)
    return expected, np.array(widths[-1]), np.array(widths[1])


def test_arima_forecasts_by_the_order_with_the_smallest_errors_of_the_days_before() -> None:
    rng = np.random.default_rng(1)
    delays = np.zeros((60, 2))
    for day in range(1, 60):
        delays[day] = [0.7, 1.0] * delays[day - 1] + rng.normal(0, 6, 2)
    delays[40] += 90  # an error that is clipped
    delays = (delays + 20).astype(np.float32).astype(np.float64)
    dates = pd.date_range("2015-01-01", periods=60).date
    gaussian = special.ndtri(0.99)
    columns = {}
    for origin, series in zip(("A000", "A001"), delays.T, strict=True):
        ahead = arima_band(series)
        back = [values[::-1] for values in arima_band(series[::-1])]
        expected, below, above = (np.where(np.arange(60) < 14, *pair) for pair in zip(back, ahead, strict=True))
        below, above = np.maximum(below, gaussian), np.maximum(above, gaussian)
        columns[origin] = (
            expected,
            expected - below,
            expected + above,
            gaussian * (series - expected) / np.where(series > expected, above, below),
        )

    figures = {
        column: pd.DataFrame({origin: values[place] for origin, values in columns.items()}, index=dates)
        for place, column in enumerate(("expected", "lower", "upper", "score"))
    }

    check_figures("arima", days_of_delays(delays), figures, max_p=2)


def test_gradient_boosting_compares_a_day_with_trees_of_the_other_folds() -> None:
    """Trees of one fold from the features, weights and gaps in the docstring; the days 14 to 27 are scored."""
    rng = np.random.default_rng(1)
    delays = (rng.normal(0, 4, (70, 1)) + rng.normal(20, 3, (70, 3)) + [0, 5, 30]).astype(np.float32).astype(np.float64)
    days = days_of_delays(delays, scheduled=np.repeat([50, 90, 20], 70))
    dates = pd.date_range("2015-01-01", periods=70)
    is_test, is_train = (
        np.isin(np.arange(70), list(chosen)) for chosen in (range(14, 28), {*range(14), *range(35, 70)})
    )
    median, spread = np.median(delays[is_train], axis=0), delays[is_train].std(axis=0)
    spread = np.sqrt(((delays[is_train] - median) ** 2).mean(axis=0))
    relative = (delays - median) / spread
    clipped = relative.clip(-3, 6)
    size = np.sqrt((clipped[is_train] ** 2).sum(axis=0))
    similarity = (clipped[is_train].T @ clipped[is_train] / size / size[:, None]).clip(0) ** 4
    similarity[np.diag_indices(3)] = 0
    others = (clipped.sum(axis=1, keepdims=True) - clipped) / 2
    federal = pd.to_datetime(sorted(holidays.country_holidays("US", years=(2014, 2015, 2016))))
    apart = [min(((day - other).days for other in federal), key=abs) for day in dates]
    week = pd.DataFrame(relative).rolling(7, min_periods=1).mean()
    usual_flights = np.array([50, 90, 20])
    features = np.stack(
        [
            *(np.tile(values, (70, 1)) for values in (usual_flights, np.ones(3), median, spread)),
            *(np.tile(values, (3, 1)).T for values in (dates.day_of_week, dates.day_of_year, np.clip(apart, -7, 7))),
            *(pd.DataFrame(relative).shift(lag) for lag in (1, 2, 7)),
            week.shift(1),
            pd.DataFrame(others).shift(1),
            pd.DataFrame(clipped @ similarity / similarity.sum(axis=0)).shift(1),
        ],
        axis=2,
    ).astype(np.float64)
    trees = {"min_samples_leaf": 10, "learning_rate": 0.1, "max_leaf_nodes": 8, "random_state": 0}

    def fit(quantile: float, inputs: Floats, target: Floats) -> HistGradientBoostingRegressor:
        model = HistGradientBoostingRegressor(
            loss="quantile", quantile=quantile, max_iter=15, early_stopping=False, **trees
        )
        return model.fit(inputs, target)

    middle = fit(0.5, features[is_train].reshape(-1, 13), relative[is_train].ravel())
    residual = relative[is_train].ravel() - middle.predict(features[is_train].reshape(-1, 13))
    airport, tested = features[is_train][..., :4].reshape(-1, 4), features[is_test][..., :4].reshape(-1, 4)
    below, above = (
        fit(0.9, airport, sign * residual).predict(tested).reshape(14, 3) * spread / 1.2816 for sign in (-1, 1)
    )
    expected = middle.predict(features[is_test].reshape(-1, 13)).reshape(14, 3) * spread + median
    error = delays[is_test] - expected

    verdicts = detectors.load("gradient_boosting")(days, n_estimators=15, min_samples_leaf=10)

    scored = verdicts[np.tile(is_test, 3)]
    figures = {
        "expected": expected,
        "lower": expected - 4 * np.maximum(below, 1),
        "upper": expected + 4 * np.maximum(above, 1),
        "score": error / np.maximum(np.where(error > 0, above, below), 1),
    }
    for column, values in figures.items():
        np.testing.assert_allclose(scored[column], values.T.ravel(), rtol=1e-3, err_msg=column)


# delaywatch, day by day


class Delaywatch:
    """The published detector as docs/detectors.md and its docstring describe it, one day and airport at a time."""

    def __init__(self, days: pd.DataFrame, *, past_only: bool) -> None:
        """Read the series on their scales; `train` marks the days that are used for fitting."""
        self.past_only = past_only
        known, train = masks(days, "mean_effective_delay_min")
        self.known, self.train = known, train.to_numpy()
        self.dates = pd.DatetimeIndex(known.index)
        self.flights = pivoted(days, "scheduled").where(known).to_numpy()
        self.minutes = pivoted(days, "mean_effective_delay_min").to_numpy()
        self.mean_minutes = pivoted(days, "mean_dep_delay_min").where(known).to_numpy()
        self.mean_std = pivoted(days, "std_dep_delay_min").where(known).to_numpy()
        self.departed = pivoted(days, "departed").to_numpy()
        self.cancelled_flights = pivoted(days, "cancelled").to_numpy()
        self.disrupted_flights = pivoted(days, "disrupted").to_numpy()
        self.std = pivoted(days, "std_effective_delay_min").where(known).to_numpy()
        self.delay = np.sqrt(np.maximum(self.minutes + 12, 0))
        self.mean = np.sqrt(np.maximum(self.mean_minutes + 12, 0))
        self.cancelled, self.disrupted = (
            np.arcsin(np.sqrt((count + 0.375) / (self.flights + 0.75)))
            for count in (self.cancelled_flights, self.disrupted_flights)
        )

    def by_day(self, value_of_day: object) -> Floats:
        """Call `value_of_day(day, history)` for every day; history: the days that it is compared with."""
        n_days = len(self.dates)
        return np.array([value_of_day(day, np.arange(day if self.past_only else n_days)) for day in range(n_days)])  # type: ignore[operator]

    def window(self, day: int, past_days: int, around_days: int) -> slice:
        return (
            slice(max(day - past_days, 0), day)
            if self.past_only
            else slice(max(day - around_days, 0), day + around_days + 1)
        )

    def spread(self, values: Floats) -> Floats:
        steps = np.abs(np.diff(values, axis=0, prepend=np.nan)) * np.sqrt(np.pi) / 2
        return self.by_day(lambda day, history: mean(steps[history]))

    def expected(self, scale: Floats) -> Floats:
        train = np.where(self.train, scale, np.nan)

        def season(day: int, history: Floats) -> Floats:
            always, near = median(train[history]), median(train[self.window(day, 91, 45)])
            return np.asarray(always + 0.2 * np.nan_to_num(near - always))

        expected = self.by_day(season)
        expected = expected + self.weekday(train - expected)
        expected = expected + self.holiday(train - expected)
        return expected + self.shift(train - expected)

    def weekday(self, error: Floats) -> Floats:
        def effect(day: int, history: Floats) -> Floats:
            same = error[history[history % 7 == day % 7]]
            weeks, total = np.isfinite(same).sum(axis=0), np.nansum(same, axis=0)
            nation = total.sum() / max((weeks + 300 * (weeks > 0)).sum(), 1)
            return np.asarray((total + 300 * nation) / (weeks + 300))

        return self.by_day(effect)

    def holiday(self, error: Floats) -> Floats:
        nation = mean(error.T)
        federal = pd.to_datetime(list(holidays.country_holidays("US", years=range(2013, 2018), observed=False)))

        def kind(date_: pd.Timestamp) -> str:
            if (date_ in federal) or (date_.month, date_.day) in TURN:
                return "holiday" if date_ in federal else "turn of the year"
            return "near" if min(abs((date_ - other).days) for other in federal) <= 3 else ""

        kinds = np.array([kind(date_) for date_ in self.dates])

        def effect(day: int, history: Floats) -> float:
            alike = nation[history[kinds[history] == kinds[day]]]
            n_known = np.isfinite(alike).sum()
            return float(np.nanmedian(alike) * n_known / (n_known + 300)) if kinds[day] and n_known else 0.0

        return self.by_day(effect)[:, None]

    def shift(self, error: Floats) -> Floats:
        spread = self.spread(error)

        def level(day: int, _: Floats) -> Floats:
            before = error[max(day - 35, 0) : day]
            moved = np.where(np.isfinite(before).sum(axis=0) >= 18, median(before), 0)
            now = np.nan_to_num(median(error[self.window(day, 7, 7)]))
            least = np.where(moved * now > 0, np.sign(now) * np.minimum(abs(moved), abs(now)), 0)
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.asarray(np.nan_to_num(least * np.clip(abs(least) / spread[day] - 1.5, 0, 1)))

        return self.by_day(level)

    def sigma(self, error: Floats, noise: Floats, lowest: float) -> Floats:
        train = np.where(self.train, error, np.nan)
        most = 8 * self.spread(train)

        def variance(day: int, history: Floats) -> Floats:
            limit = np.broadcast_to(most, train.shape)[history]
            excess = np.fmin(abs(train[history]), limit) ** 2 - noise[history]
            excess[np.isnan(train[history])] = np.nan
            weight = np.where(train[history] > 0, 2, 1) * np.isfinite(excess)
            n_days = np.isfinite(excess).sum(axis=0)
            own = np.nansum(weight * excess, axis=0) / np.maximum(weight.sum(axis=0), 1)
            own = np.maximum(own, 0)
            network = (n_days * own).sum() / max(n_days.sum(), 1)
            return np.asarray((n_days * own + 20 * network) / (n_days + 20))

        return np.sqrt(np.maximum(self.by_day(variance), lowest**2) + noise)

    def noise(self, std: Floats, flights: Floats, expected: Floats) -> Floats:
        freedom = np.where(np.isfinite(std) & self.known.to_numpy(), np.maximum(flights - 1, 0), 0)
        squares = np.where(freedom > 0, std**2 * freedom, 0)
        usual = self.by_day(
            lambda _, history: (
                (squares * self.train)[history].sum(axis=0) / np.maximum((freedom * self.train)[history].sum(axis=0), 1)
            )
        )
        per_flight = (squares + 5 * usual) / (freedom + 5)
        return np.asarray(per_flight / (4 * np.maximum(flights, 1) * np.maximum(expected, 1) ** 2))

    def z(self) -> Floats:
        delay, mean_delay, cancelled = map(self.expected, (self.delay, self.mean, self.cancelled))
        sigma = self.sigma(self.delay - delay, self.noise(self.std, self.flights, delay), 0.3)
        mean_noise = self.noise(self.mean_std, self.departed, mean_delay)
        mean_z = (self.mean - mean_delay) / self.sigma(self.mean - mean_delay, mean_noise, 0.3)
        cancelled_error = self.cancelled - cancelled
        cancelled_z = cancelled_error / self.sigma(cancelled_error, 1 / (4 * self.flights + 2), 0.08)
        z = 0.6 * (self.delay - delay) / sigma + 0.2 * cancelled_z
        return np.asarray(np.where(np.isfinite(mean_z), z + 0.2 * mean_z.clip(0), z / 0.8))

    def usual(self, scale: Floats, is_flagged: Flags, share: float) -> Floats:
        without_flag = self.train & ~is_flagged
        n_before = self.by_day(lambda _, history: without_flag[history].sum(axis=0))
        values = np.where(without_flag | (self.train & (n_before < MIN_DAYS)), scale, np.nan)
        weekday = self.weekday(values - self.by_day(lambda _, history: mean(values[history])))
        values = values - weekday
        rank = (share * 62 - 1) / 60 if self.past_only else share

        def quantile(day: int, history: Floats) -> Floats:
            near, always = (pd.DataFrame(values[days]) for days in (self.window(day, 61, 30), history))
            return np.asarray(near.quantile(rank).where(near.count() >= MIN_DAYS // 2, always.quantile(rank)))

        return self.by_day(quantile) + weekday

    def figures(self) -> dict[str, pd.DataFrame]:
        scored = self.known & (self.by_day(lambda _, history: self.train[history].sum(axis=0)) >= MIN_DAYS)
        z = self.z()
        score = np.where(
            z > 1.85, 38 * np.exp((z - 1.85).clip(0) / 0.8), 1 + 37 * np.exp(1.65 * (z - 1.85).clip(max=0))
        )
        by_rule = (self.flights >= 20) & (self.cancelled_flights >= self.flights / 4)
        is_flagged = (scored.to_numpy() & (score >= 60)) | by_rule
        share = np.sin(np.clip(self.usual(self.disrupted, is_flagged, 0.5), 0, np.pi / 2)) ** 2
        return {
            column: pd.DataFrame(values, self.known.index, self.known.columns).where(scored)
            for column, values in {
                "expected": minutes(self.usual(self.delay, is_flagged, 0.5)),
                "lower": minutes(self.usual(self.delay, is_flagged, 0.05)),
                "upper": minutes(self.usual(self.delay, is_flagged, 0.95)),
                "score": score,
                "share": np.clip((share * (self.flights + 0.75) - 0.375) / self.flights, 0, 1),
            }.items()
        }


TURN = {(12, day) for day in range(20, 32)} | {(1, day) for day in range(1, 5)}


def minutes(scale: Floats) -> Floats:
    return np.maximum(scale, 0) ** 2 - 12


def mean(values: Floats) -> Floats:
    return pd.DataFrame(values).mean().to_numpy()


def median(values: Floats) -> Floats:
    return pd.DataFrame(values).median().to_numpy()


@pytest.mark.parametrize(("seed", "past_only"), [(1, False), (10, False), (1, True)])
def test_delaywatch_is_the_rarity_of_lateness_and_disruption_beyond_the_baseline(seed: int, past_only: bool) -> None:
    days = generated_days(seed)
    figures = Delaywatch(days, past_only=past_only).figures()
    share = figures.pop("share")

    check_figures("delaywatch", days, figures, past_only=past_only)

    expected = days[["origin", "fl_date"]].join(detectors.expectations(days, {"past_only": past_only}))
    for column, values in (("expected_effective_delay_min", figures["expected"]), ("expected_disrupted_share", share)):
        reference = [values.loc[day, origin] for origin, day in zip(days["origin"], days["fl_date"], strict=True)]
        np.testing.assert_allclose(expected[column], reference, rtol=1e-4, atol=1e-5)


def test_delaywatch_calls_a_flagged_day_a_closure_if_45_percent_of_the_flights_are_cancelled() -> None:
    verdicts = verdicts_of("delaywatch", 10).to_pandas()

    flagged = generated_days(10).merge(verdicts[verdicts["is_anomaly"]], on=["origin", "fl_date"])

    beyond = flagged["cancelled"] * 100 - flagged["scheduled"] * 45
    assert flagged["direction"].tolist() == ["closure" if flights >= 0 else "late" for flights in beyond]
    assert (beyond == 0).any()
