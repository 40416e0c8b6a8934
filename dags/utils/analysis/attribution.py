"""Attribute the delay of a flagged day to causes, carriers and destinations. Pure.

The usual value of a part (a carrier, a destination, a cause) is its rate per scheduled flight on the airport's ordinary
days, times the part's scheduled flights of the flagged day. Ordinary days are neither flagged nor excluded. The rate of
a carrier or destination with n ordinary flights is shrunk towards the airport's rate:

    rate = (its sum + PRIOR_FLIGHTS × airport's sum / airport's flights) / (n + PRIOR_FLIGHTS)

Excess is the observed value minus the usual value. Delay minutes are minutes of late departures; an early departure
counts 0. For causes they are the minutes by cause in gold, which count arrivals that are 15 or more minutes late. Where
both measures are combined (the columns `top_*`, the order of destinations), a cancelled flight counts as DELAY_CAP_MIN
minutes, as in the effective delay. Usual value and excess are missing for an airport without ordinary flights, and for
causes in a year without minutes by cause or without cancellation codes.

The sentence names a carrier or a destination if it differs from the other flights of that airport and day:

- it has at least MIN_SHARE of the total excess of all parts with an excess,
- its excess per flight is at least MIN_TIMES_OTHERS times that of the other flights,
- the difference is at least MIN_STANDARD_ERRORS standard errors. The error is Welch's for two means with unequal
  variances, where neither variance is below that of all flights of the day. One cancelled flight of a small carrier,
  or one flight that is six hours late, has a large standard error, so it is not named.

So a carrier with 80% of the flights can be named, and no carrier is named on a day that affects all carriers alike. A
cause has no flights of its own: its excess is divided by its usual minutes, and the third condition does not apply. Of
the parts that meet the conditions, the sentence names the largest excess of both measures combined; without one, the
largest excess of cancellations.

Detectors decide which days are flagged; `events` groups flagged days.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from utils import schemas
from utils.analysis import judged_days
from utils.errors import InvalidInput
from utils.layers import columns
from utils.layers.gold import DELAY_CAP_MIN
from utils.reporting import wording

FLIGHT_COLUMNS = ("fl_date", "origin", "dest", "op_carrier", "dep_delay", "cancelled")  # read from silver
EXPECTED_COLUMNS = ("expected_effective_delay_min", "expected_disrupted_share")
# A carrier or destination with this many flights weighs its own rate and the airport's rate equally. Estimated on real
# flights of 2008 and 2013: delay minutes have a standard deviation of 36 between flights and 4 between carriers of an
# airport, which gives 80 flights; cancellations give 70, destinations 70, and more where flights of a day fail
# together.
PRIOR_FLIGHTS = 100
MAX_PARTS = {"destination": 10}  # parts kept per day, farthest from usual first; all carriers and causes are kept
MERGE_ROWS = 1 << 20  # number of rows of partial sums that triggers a merge

CAUSE_WORDS = {
    "carrier": "by the carriers",
    "weather": "by weather",
    "nas": "by the aviation system (NAS)",
    "security": "by security",
    "late_aircraft": "by late aircraft",
}
# Conditions for naming a part, see the module docstring. docs/dashboards-and-pages.md has how often they hold.
MIN_SHARE = {"cause": 0.25, "carrier": 0.1, "destination": 0.1}
MIN_TIMES_OTHERS = 1.5
MIN_STANDARD_ERRORS = {"carrier": 2.0, "destination": 3.0}  # of many destinations, one is always far from the rest

MORE_THAN_USUAL, SPREAD = "more than usual", "spread over "
MEASURE_WORDS = {"delay_min": "delay", "cancelled": "cancellations"}
_MEASURES = tuple(MEASURE_WORDS)
_BOTH = "both"  # both measures in minutes: a cancelled flight counts as DELAY_CAP_MIN
_SUMS = ("scheduled", *_MEASURES, "delay_min2")  # delay_min2: sum of squared minutes of single flights
_DIMENSIONS = {"carrier": "op_carrier", "destination": "dest"}
_ABSENT, _UNUSED = -2, -1


def explain(
    flights: Iterator[pa.RecordBatch | pa.Table], days: pd.DataFrame, verdicts: pd.DataFrame, expected: pd.DataFrame
) -> tuple[pa.Table, pa.Table]:
    """Return the reasons for every flagged day and their parts as ANOMALY_REASONS and ANOMALY_FACTORS (see `schemas`).

    flights: all silver flights of the year (at least FLIGHT_COLUMNS), in batches of any size and order; they are read
    once, and only sums are kept. days: AIRPORT_DAYS, optionally with `is_excluded` and `is_expected`. verdicts:
    ANOMALIES of the published detector. expected: EXPECTED_COLUMNS with the index of `days`.

    The flights are not read if no day is flagged. Raises DelaywatchError if the flights, the days and the verdicts do
    not come from the same gold.
    """
    if not expected.index.equals(days.index):
        raise ValueError("the expectations do not have the index of the days")
    joined = _joined(days.assign(**{name: expected[name] for name in EXPECTED_COLUMNS}), verdicts)
    if not joined["is_flagged"].any():
        return schemas.ANOMALY_REASONS.empty_table(), schemas.ANOMALY_FACTORS.empty_table()
    groups = _Groups.create(joined)
    sums = _sums(flights, groups)
    _check_whole(sums["day"], groups)
    rates = _rates(sums["day"], groups)
    parts = {name: _parts(sums[name], rates, groups) for name in _DIMENSIONS} | {"cause": _causes(groups)}
    parts = {name: _weighed(parts[name]) for name in schemas.FACTOR_DIMENSIONS}
    reasons = _reasons(sums["day"], rates, parts, groups)
    kept = pd.concat(
        [frame[frame["rank"] < MAX_PARTS.get(name, len(frame))].assign(dimension=name) for name, frame in parts.items()]
    )
    factors = kept.join(groups.flagged[["origin", "fl_date"]], on="day")
    factors = factors.sort_values(["origin", "fl_date", "dimension", "name"])
    return _table(reasons, schemas.ANOMALY_REASONS, "reasons"), _table(factors, schemas.ANOMALY_FACTORS, "factors")


# Groups of flights


def _joined(days: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return the days by airport and date with is_flagged, direction, severity and score, and is_excluded."""
    is_excluded = np.zeros(len(days), dtype=np.bool_)
    for name in {"is_excluded", "is_expected"} & set(days):
        is_excluded |= days[name].to_numpy(dtype=np.bool_)
    flags = verdicts[["origin", "fl_date", "is_anomaly", "direction", "severity", "score"]]
    joined = judged_days.join(days.assign(is_excluded=is_excluded), flags)
    return joined.rename(columns={"is_anomaly": "is_flagged"}).sort_values(["origin", "fl_date"], ignore_index=True)


@dataclass(frozen=True)
class _Groups:
    """The groups that flights are summed by: an airport's ordinary flights, or a flagged airport-day.

    Groups below `airports` are ordinary flights, in the order of `codes`; `airports` + i is row i of `flagged`.
    """

    codes: list[str]
    days: pd.DataFrame  # the joined days with the columns `airport`, a position in codes, and `group`
    first_day: int  # days since 1970-01-01
    lookup: npt.NDArray[np.int32]  # airports × days: the group, _UNUSED or _ABSENT

    @property
    def airports(self) -> int:
        """Number of airports, which is the number of groups of ordinary flights."""
        return len(self.codes)

    @functools.cached_property
    def flagged(self) -> pd.DataFrame:
        """The flagged rows of `days`, numbered from 0."""
        return self.days[self.days["is_flagged"]].reset_index(drop=True)

    @functools.cached_property
    def ordinary(self) -> pd.DataFrame:
        """The days that usual values are computed from."""
        return self.days[self.days["group"].between(0, self.airports - 1)]

    @classmethod
    def create(cls, joined: pd.DataFrame) -> _Groups:
        """Create the groups of a year from the result of `_joined`."""
        airport, codes = pd.factorize(joined["origin"], sort=True)
        is_flagged = joined["is_flagged"].to_numpy()
        is_excluded = joined["is_excluded"].to_numpy(dtype=bool)
        flagged_group = len(codes) + np.cumsum(is_flagged) - 1
        group = np.where(is_flagged, flagged_group, np.where(is_excluded, _UNUSED, airport))
        day = joined["fl_date"].to_numpy().astype("datetime64[D]").astype(np.int64)
        lookup = np.full((len(codes), int(day.max() - day.min()) + 1), _ABSENT, np.int32)
        lookup[airport, day - day.min()] = group
        return cls(list(codes), joined.assign(airport=airport, group=group), int(day.min()), lookup)

    def group_of_each(self, batch: pa.RecordBatch | pa.Table) -> npt.NDArray[np.int32]:
        """Return the group of each flight. Raises InvalidInput for a flight on a day that gold does not have."""
        origin = _dictionary(batch["origin"])
        place = {code: number for number, code in enumerate(self.codes)}
        airport = np.array([place.get(code, -1) for code in origin.dictionary.to_pylist()], np.int64)
        airport = airport[columns.to_numpy(origin)]
        day = columns.to_numpy(columns.as_array(batch["fl_date"])).astype(np.int64) - self.first_day
        is_known = (airport >= 0) & (day >= 0) & (day < self.lookup.shape[1])
        if is_known.all():
            group: npt.NDArray[np.int32] = self.lookup[airport, day]
            is_known = group != _ABSENT
        if not is_known.all():
            lost = int(np.argmin(is_known))
            code, date = origin[lost].as_py(), columns.as_array(batch["fl_date"])[lost].as_py()
            raise InvalidInput(
                f"Silver has a flight from {code} on {date}, but gold has no such airport-day; run the gold and detect "
                "steps of the year again."
            )
        return group


def _dictionary(column: pa.ChunkedArray | pa.Array) -> pa.DictionaryArray:
    array = columns.as_array(column)
    return array if pa.types.is_dictionary(array.type) else array.dictionary_encode()


# Sums


def _sums(flights: Iterator[pa.RecordBatch | pa.Table], groups: _Groups) -> dict[str, pd.DataFrame]:
    """Sum flights, delay minutes and cancellations by group ("day"), and by group and name for each dimension."""
    partial: dict[str, list[pa.Table]] = {name: [] for name in _DIMENSIONS}
    for batch in flights:
        group = groups.group_of_each(batch)
        is_used = group != _UNUSED
        is_cancelled = columns.to_numpy(columns.as_array(batch["cancelled"]))
        late_min = np.maximum(columns.to_numpy(columns.as_array(batch["dep_delay"])).astype(np.int64), 0)
        measured = pa.table(
            {
                "group": pa.array(group[is_used]),
                "scheduled": pa.array(np.ones(int(is_used.sum()), np.int64)),
                "delay_min": pa.array(np.where(is_cancelled, 0, late_min)[is_used]),
                "cancelled": pa.array(is_cancelled[is_used].astype(np.int64)),
                "delay_min2": pa.array(np.where(is_cancelled, 0, late_min**2)[is_used]),
            }
        )
        for name, column in _DIMENSIONS.items():
            named = measured.append_column("name", _dictionary(batch[column]).filter(pa.array(is_used)))
            partial_sums = _summed(named)
            partial[name].append(partial_sums.set_column(1, "name", partial_sums["name"].cast(pa.string())))
        for name, tables in partial.items():
            if sum(table.num_rows for table in tables) > MERGE_ROWS:
                partial[name] = [_merged(tables)]
    sums: dict[str, pd.DataFrame] = {name: _merged(tables).to_pandas() for name, tables in partial.items()}
    return {"day": sums["carrier"].groupby("group", as_index=False)[list(_SUMS)].sum(), **sums}


def _summed(table: pa.Table) -> pa.Table:
    """Sum by group and name. The sums are integers, so the order and the batches of the flights do not change them."""
    by = ["group", "name"]
    summed = table.group_by(by, use_threads=False).aggregate([(name, "sum") for name in _SUMS])
    return summed.select([*by, *(f"{name}_sum" for name in _SUMS)]).rename_columns([*by, *_SUMS])


def _merged(tables: list[pa.Table]) -> pa.Table:
    if not tables:
        return pa.table({name: pa.array([], pa.int64()) for name in ("group", "name", *_SUMS)})
    return _summed(pa.concat_tables(tables))


def _check_whole(by_group: pd.DataFrame, groups: _Groups) -> None:
    """Raise DelaywatchError unless every group has as many flights as gold counts."""
    days = groups.days
    in_gold = days[days["group"] != _UNUSED].groupby("group")["scheduled"].sum()
    in_silver = by_group.set_index("group")["scheduled"].reindex(in_gold.index, fill_value=0)
    wrong = in_gold.index[in_gold != in_silver]
    if len(wrong):
        origin = days.loc[days["group"] == wrong[0], "origin"].iloc[0]
        counted = wording.count(in_gold[wrong[0]], "flight")
        raise InvalidInput(
            f"Gold counts {counted} from {origin} but silver has {in_silver[wrong[0]]:,}; run the gold and detect "
            "steps of the year again."
        )


# Usual values


def _rates(by_group: pd.DataFrame, groups: _Groups) -> pd.DataFrame:
    """Return delay minutes and cancellations per ordinary flight, one row per airport; NaN without ordinary flights."""
    sums = by_group.set_index("group").reindex(range(groups.airports))
    return sums[list(_MEASURES)].div(sums["scheduled"], axis=0)


def _parts(sums: pd.DataFrame, rates: pd.DataFrame, groups: _Groups) -> pd.DataFrame:
    """Return the parts of each flagged day by name, with usual and excess values."""
    sums = sums.dropna(subset="name")
    is_day = sums["group"] >= groups.airports
    ordinary = sums[~is_day].rename(columns={"group": "airport"})
    parts = sums[is_day].assign(day=lambda part: part["group"] - groups.airports)
    parts["airport"] = groups.flagged["airport"].to_numpy()[parts["day"]]
    parts = parts.merge(ordinary, on=["airport", "name"], how="left", suffixes=("", "_ordinary"))
    weight = parts["scheduled_ordinary"].fillna(0) + PRIOR_FLIGHTS
    for measure in _MEASURES:
        prior = PRIOR_FLIGHTS * rates[measure].to_numpy()[parts["airport"]]
        usual = parts["scheduled"] * (parts[f"{measure}_ordinary"].fillna(0) + prior) / weight
        parts[f"usual_{measure}"] = usual
        parts[f"excess_{measure}"] = parts[measure] - usual
    return parts


def _causes(groups: _Groups) -> pd.DataFrame:
    """Return the causes of each flagged day; a measure that is not reported in the year is missing."""
    columns_of = {"delay_min": "{}_min", "cancelled": "cancelled_{}"}
    flagged = groups.flagged
    sums = groups.ordinary.groupby("airport").sum(numeric_only=True).reindex(range(groups.airports))
    flights = sums["scheduled"].where(sums["scheduled"] > 0)
    frames = []
    for cause in schemas.CAUSES:
        frame = pd.DataFrame({"day": flagged.index, "name": cause, "scheduled": np.nan})
        for measure, pattern in columns_of.items():
            column = pattern.format(cause)
            if column in flagged and _is_reported(groups.days, pattern):
                observed = flagged[column].astype(np.float64)
                usual = (sums[column] / flights).to_numpy()[flagged["airport"]] * flagged["scheduled"]
            else:  # no cancellation code exists for late aircraft
                observed = usual = pd.Series(np.nan, flagged.index)
            frame[measure], frame[f"usual_{measure}"], frame[f"excess_{measure}"] = observed, usual, observed - usual
        frames.append(frame)
    return pd.concat(frames, ignore_index=True).dropna(subset=list(_MEASURES), how="all")


def _is_reported(days: pd.DataFrame, pattern: str) -> bool:
    """Return True if the file has values by cause. Every year has late flights, so only zeros mean that it has none."""
    names = [name for cause in schemas.CAUSES if (name := pattern.format(cause)) in days]
    return bool(days[names].to_numpy().any())


# Notable parts


def _weighed(parts: pd.DataFrame) -> pd.DataFrame:
    """Add `weight`, the excess in minutes with cancelled flights as DELAY_CAP_MIN, and `rank` within the day.

    Rank 0 is the part farthest from usual in either direction.
    """
    parts = parts.assign(weight=_values(parts, _BOTH, "excess_"))
    parts = parts.assign(distance=parts["weight"].abs()).sort_values(["distance", "name"], ascending=[False, True])
    return parts.assign(rank=parts.groupby("day").cumcount())


def _values(parts: pd.DataFrame, measure: str, prefix: str = "") -> pd.Series:
    """Return a measure of each part, or its usual value or excess by prefix; _BOTH is in minutes."""
    if measure != _BOTH:
        return parts[f"{prefix}{measure}"]
    return parts[f"{prefix}delay_min"].fillna(0) + DELAY_CAP_MIN * parts[f"{prefix}cancelled"].fillna(0)


def _top(parts: pd.DataFrame) -> pd.Series:
    """Return the name of the part with the largest excess of each day; index: day."""
    above = parts[parts["weight"] > 0].sort_values(["weight", "name"], ascending=[False, True])
    return above.drop_duplicates("day").set_index("day")["name"]


def _notable(parts: pd.DataFrame, measure: str, dimension: str) -> dict[int, dict[str, Any]]:
    """Return for each day the part to name for this measure, with its share of the excess and of the flights."""
    excess = _values(parts, measure, "excess_")
    base = _values(parts, measure, "usual_") if dimension == "cause" else parts["scheduled"]

    def others(values: pd.Series) -> pd.Series:
        return values.groupby(parts["day"]).transform("sum") - values

    above = excess.clip(lower=0)
    share = above / (above + others(above))
    is_notable = (excess > 0) & (share >= MIN_SHARE[dimension])
    is_notable &= excess * others(base) >= MIN_TIMES_OTHERS * others(excess) * base
    if dimension in MIN_STANDARD_ERRORS:
        difference = excess / base - others(excess) / others(base)
        is_notable &= difference >= MIN_STANDARD_ERRORS[dimension] * _standard_error(parts, measure)
    flights = parts["scheduled"] / (parts["scheduled"] + others(parts["scheduled"]))
    notable = parts.assign(excess=excess, share=share, share_of_flights=flights)[is_notable]
    notable = notable.sort_values(["excess", "name"], ascending=[False, True]).drop_duplicates("day").set_index("day")
    return cast("dict[int, dict[str, Any]]", notable[["name", "share", "share_of_flights"]].to_dict("index"))


def _standard_error(parts: pd.DataFrame, measure: str) -> pd.Series:
    """Return the standard error of a part's difference per flight to the rest; NaN if either has one flight."""
    squares = parts["cancelled"]
    if measure == _BOTH:
        squares = parts["delay_min2"] + DELAY_CAP_MIN**2 * parts["cancelled"]  # a cancelled flight has no delay
    sums = pd.DataFrame({"n": parts["scheduled"], "total": _values(parts, measure), "squares": squares})
    day = sums.groupby(parts["day"]).transform("sum")

    def variance(part: pd.DataFrame) -> pd.Series:
        return (part["squares"] - part["total"] ** 2 / part["n"]).clip(lower=0) / (part["n"] - 1)

    least = variance(day)
    own, rest = (np.maximum(variance(part), least) / part["n"] for part in (sums, day - sums))
    error: pd.Series = np.sqrt(own + rest)
    return error


def _reasons(
    by_group: pd.DataFrame, rates: pd.DataFrame, parts: Mapping[str, pd.DataFrame], groups: _Groups
) -> pd.DataFrame:
    """Return the columns of schemas.ANOMALY_REASONS, one row per flagged day."""
    flagged = groups.flagged
    observed = by_group.set_index("group").reindex(flagged.index + groups.airports)
    reasons = flagged.assign(
        effective_delay_min=flagged["mean_effective_delay_min"],
        disrupted_share=flagged["disrupted"] / flagged["scheduled"].where(flagged["scheduled"] > 0),
        delay_min=observed["delay_min"].fillna(0).to_numpy(),
    )
    for measure in _MEASURES:
        usual = rates[measure].to_numpy()[flagged["airport"]] * flagged["scheduled"]
        reasons[f"usual_{measure}"], reasons[f"excess_{measure}"] = usual, reasons[measure] - usual
    notable: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for name, frame in parts.items():
        reasons[f"top_{name}"] = _top(frame).reindex(reasons.index)
        reported = [measure for measure in _MEASURES if frame[measure].notna().any()]
        measures = [_BOTH, "cancelled"] if len(reported) > 1 else reported
        notable[name] = {measure: _notable(frame, measure, name) for measure in measures}
        reasons[f"parts_{name}"] = frame.groupby("day").size().reindex(reasons.index, fill_value=0)
    reasons["sentence"] = [
        _sentence(row, {name: {m: days.get(number) for m, days in of.items()} for name, of in notable.items()})
        for number, row in enumerate(cast("list[dict[str, Any]]", reasons.to_dict("records")))
    ]
    return reasons


def _sentence(day: Mapping[str, Any], notable: Mapping[str, Mapping[str, Mapping[str, Any] | None]]) -> str:
    """Describe the day in one sentence. notable: the part to name, or None, by dimension and measure of the year."""
    facts = [wording.count(day["scheduled"], "scheduled flight")]
    if not pd.isna(day["effective_delay_min"]):
        usual = day["expected_effective_delay_min"]
        expected = "" if pd.isna(usual) else f" (expected {usual:.0f})"
        facts.append(f"effective delay {day['effective_delay_min']:.0f} min{expected}")
    if not pd.isna(day["disrupted_share"]):
        usual = day["expected_disrupted_share"]
        expected = "" if pd.isna(usual) else f" (expected {wording.share(usual)})"
        facts.append(f"{wording.share(day['disrupted_share'])} disrupted{expected}")
    flag = f"{wording.flag(day['direction'], day['severity'])}, {wording.rarity(day['score'])}"
    subject = f"{day['origin']}, {wording.date(day['fl_date'])}, {flag}"
    more = _excess(day)
    if not more:
        return f"{subject}: {', '.join(facts)}."
    excess = f"{wording.listed(list(more.values()))} {MORE_THAN_USUAL}"
    return f"{subject}: {', '.join(facts)}; {': '.join(filter(None, [excess, _stands_out(day, notable, more)]))}."


def stands_out(sentence: str) -> str:
    """Return the named parts of a reason's sentence, `55% by weather`; an empty text if it names none."""
    named = sentence.rstrip(".").partition(f"{MORE_THAN_USUAL}: ")[2]
    return named.partition(SPREAD)[0].rstrip(", ")


def _excess(day: Mapping[str, Any]) -> dict[str, str]:
    """Return the day's excess in words by measure, without missing or zero excess."""
    more = {}
    if day["excess_cancelled"] >= 0.5:
        more["cancelled"] = wording.count(round(day["excess_cancelled"]), "cancellation")
    if day["excess_delay_min"] >= 0.5:
        more["delay_min"] = f"{wording.count(round(day['excess_delay_min']), 'minute')} of delay"
    return more


def _stands_out(
    day: Mapping[str, Any], notable: Mapping[str, Mapping[str, Mapping[str, Any] | None]], more: Mapping[str, str]
) -> str:
    """Describe the notable cause, carrier and destination, and list the dimensions without one."""
    named, spread = {}, []
    for dimension, by_measure in notable.items():
        candidates = {measure: part for measure, part in by_measure.items() if measure in {_BOTH, *more}}
        first_named = next(((measure, part) for measure, part in candidates.items() if part), None)
        if day[f"parts_{dimension}"] > 1 and first_named:
            named[dimension] = _named(dimension, *first_named, is_one_of_two=len(more) > 1)
        elif day[f"parts_{dimension}"] > 1 and candidates:
            spread.append(dimension)
    if not {"carrier", "destination"} <= set(spread):
        spread = [name for name in spread if name == "cause"]
    over = [f"{SPREAD}{wording.listed([f'{name}s' for name in spread])}"] if spread else []
    return ", ".join([*named.values(), *over])


def _named(dimension: str, measure: str, part: Mapping[str, Any], is_one_of_two: bool) -> str:
    of = f" of the {MEASURE_WORDS[measure]}" if is_one_of_two and measure != _BOTH else ""
    share = f"{wording.share(part['share'])}{of}"
    if dimension == "cause":
        return f"{share} {CAUSE_WORDS[part['name']]}"
    place = "at" if dimension == "carrier" else "to"
    return f"{share} {place} {part['name']} with {wording.share(part['share_of_flights'])} of the flights"


def _table(frame: pd.DataFrame, schema: pa.Schema, table_name: str) -> pa.Table:
    frame = frame[schema.names]
    numbers = {field.name: np.float32 for field in schema if pa.types.is_floating(field.type)}
    table = pa.Table.from_pandas(frame.astype(numbers), schema, preserve_index=False).replace_schema_metadata(None)
    return schemas.check(table, schema, f"The {table_name}")
