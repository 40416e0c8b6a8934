"""Why a flagged day is abnormal: its delay by cause, carrier and destination against the airport's usual mix. Pure.

Whether a day is abnormal is a detector's business; which flagged days belong together is that of `events`.
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

from utils import columns, schemas, words
from utils.errors import DelaywatchError
from utils.gold import DELAY_CAP_MIN

FLIGHT_COLUMNS = ("fl_date", "origin", "dest", "op_carrier", "dep_delay", "cancelled")  # of silver, all that is read
EXPECTED_COLUMNS = ("expected_effective_delay_min", "expected_disrupted_share")
# A carrier or destination with this many flights counts half by its own rate, half by the airport's. Delay minutes vary
# by 36 between flights and by 4 between the carriers of an airport, which weighs as 80 flights; cancellations 70,
# destinations 70, more where the flights of a day fail together (real flights of 2008 and 2013).
PRIOR_FLIGHTS = 100
MOST = {"destination": 10}  # parts of a day that are kept, those farthest from usual; all carriers and causes are
MERGE_ROWS = 1 << 20  # partial sums wait until they are so many

CAUSE_WORDS = {
    "carrier": "by the carriers",
    "weather": "by weather",
    "nas": "by the aviation system (NAS)",
    "security": "by security",
    "late_aircraft": "by aircraft that came late",
}
# A sentence names the first of them when it has a tenth of the excess and this many times its share of the flights. Of
# the many destinations of an airport, one is always somewhat above its share.
NOTABLE_SHARE, NOTABLE_TIMES = 0.1, {"carrier": 1.25, "destination": 1.5}

MEASURE_WORDS = {"delay_min": "delay", "cancelled": "cancellations"}
_MEASURES = tuple(MEASURE_WORDS)
_DIMENSIONS = {"carrier": "op_carrier", "destination": "dest"}
_ABSENT, _UNUSED = -2, -1


def explain(
    flights: Iterator[pa.RecordBatch | pa.Table], days: pd.DataFrame, verdicts: pd.DataFrame, expected: pd.DataFrame
) -> tuple[pa.Table, pa.Table]:
    """Reasons for every flagged day and their parts: tables of schemas.ANOMALY_REASONS and schemas.ANOMALY_FACTORS.

    flights: all silver flights of the year (FLIGHT_COLUMNS of them), in pieces of any size and order; read once, and
    only sums are kept. days: AIRPORT_DAYS, with `is_excluded` and `is_expected` if any day is. verdicts: the published
    detector's ANOMALIES. expected: EXPECTED_COLUMNS with the index of `days`.

    What is usual for a part of a flagged day (a carrier's, a destination's, a cause's) is its rate per scheduled flight
    on the airport's ordinary days, which are neither flagged nor excluded, times the part's scheduled flights of that
    day. The rate of a carrier or destination with n ordinary flights is drawn towards that of the airport:

        rate = (its sum + PRIOR_FLIGHTS × airport's sum / airport's flights) / (n + PRIOR_FLIGHTS)

    Excess is what was observed minus what is usual. Delay minutes are those of late departures, an early one counts 0;
    for a cause they are the minutes by cause of gold, which count for arrivals 15 minutes late or more. To weigh both
    measures together, as for the columns `top_*` and the order of destinations, a cancelled flight counts as
    DELAY_CAP_MIN minutes, as it does in the effective delay. An airport without any ordinary flight has no usual and no
    excess, and a year without minutes by cause, or without cancellation codes, has none of them here.

    A year without flagged days is not read. Raises DelaywatchError when the flights, the days and the verdicts are not
    of the same gold.
    """
    if not expected.index.equals(days.index):
        raise ValueError("the expectations do not have the index of the days")
    joined = _joined(days.assign(**{name: expected[name] for name in EXPECTED_COLUMNS}), verdicts)
    if not joined["is_flagged"].any():
        return schemas.ANOMALY_REASONS.empty_table(), schemas.ANOMALY_FACTORS.empty_table()
    groups = _Groups.of(joined)
    sums = _sums(flights, groups)
    _check_whole(sums["day"], groups)
    rates = _rates(sums["day"], groups)
    parts = {name: _parts(sums[name], rates, groups) for name in _DIMENSIONS} | {"cause": _causes(groups)}
    parts = {name: _weighed(parts[name]) for name in schemas.FACTOR_DIMENSIONS}
    reasons = _reasons(sums["day"], rates, parts, groups)
    kept = pd.concat(
        [frame[frame["rank"] < MOST.get(name, len(frame))].assign(dimension=name) for name, frame in parts.items()]
    )
    factors = kept.join(groups.flagged[["origin", "fl_date"]], on="day")
    factors = factors.sort_values(["origin", "fl_date", "dimension", "name"])
    return _table(reasons, schemas.ANOMALY_REASONS, "reasons"), _table(factors, schemas.ANOMALY_FACTORS, "factors")


# Which flights count for what


def _joined(days: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Days by airport and date, with is_flagged, direction, severity and score of their verdict, and is_excluded."""
    known = verdicts.loc[verdicts["is_anomaly"].eq(True), ["origin", "fl_date", "direction", "severity", "score"]]
    known = known.assign(fl_date=pd.to_datetime(known["fl_date"]), is_flagged=True)
    is_excluded = np.zeros(len(days), dtype=np.bool_)
    for name in {"is_excluded", "is_expected"} & set(days):
        is_excluded |= days[name].to_numpy(dtype=np.bool_)
    days = days.assign(is_excluded=is_excluded)
    days = days.assign(fl_date=pd.to_datetime(days["fl_date"]))
    joined = days.merge(known, on=["origin", "fl_date"], how="left", validate="one_to_one")
    joined["is_flagged"] = joined["is_flagged"].eq(True)
    if joined["is_flagged"].sum() != len(known):
        lost = known.merge(days[["origin", "fl_date"]], how="left", indicator=True).query("_merge == 'left_only'")
        raise DelaywatchError(
            f"{lost['origin'].iloc[0]} has a verdict on {lost['fl_date'].iloc[0]:%F} and no airport-day; "
            "run the detect step again."
        )
    return joined.sort_values(["origin", "fl_date"], ignore_index=True)


@dataclass(frozen=True)
class _Groups:
    """What each flight is added to: its airport's ordinary flights, or its flagged airport-day.

    Groups below `airports` are the former, in the order of `codes`; `airports` + i is row i of `flagged`.
    """

    codes: list[str]
    days: pd.DataFrame  # the joined days with the columns `airport`, a position in codes, and `group`
    first_day: int  # since 1970
    lookup: npt.NDArray[np.int32]  # airports × days: the group, _UNUSED or _ABSENT

    @property
    def airports(self) -> int:
        """How many groups of ordinary flights there are."""
        return len(self.codes)

    @functools.cached_property
    def flagged(self) -> pd.DataFrame:
        """The flagged ones of `days`, numbered from 0."""
        return self.days[self.days["is_flagged"]].reset_index(drop=True)

    @functools.cached_property
    def ordinary(self) -> pd.DataFrame:
        """The days that tell what is usual."""
        return self.days[self.days["group"].between(0, self.airports - 1)]

    @classmethod
    def of(cls, joined: pd.DataFrame) -> _Groups:
        """The groups of a year, from days as `_joined` gives them."""
        airport, codes = pd.factorize(joined["origin"], sort=True)
        is_flagged = joined["is_flagged"].to_numpy()
        is_ordinary = ~is_flagged & ~joined["is_excluded"].to_numpy(dtype=bool)
        flagged_group = len(codes) + np.cumsum(is_flagged) - 1
        group = np.where(is_flagged, flagged_group, np.where(is_ordinary, airport, _UNUSED))
        day = joined["fl_date"].to_numpy().astype("datetime64[D]").astype(np.int64)
        lookup = np.full((len(codes), int(day.max() - day.min()) + 1), _ABSENT, np.int32)
        lookup[airport, day - day.min()] = group
        return cls(list(codes), joined.assign(airport=airport, group=group), int(day.min()), lookup)

    def of_flights(self, batch: pa.RecordBatch | pa.Table) -> npt.NDArray[np.int32]:
        """The group of each flight. Raises DelaywatchError for a flight on a day that gold does not have."""
        origin = _dictionary(batch["origin"])
        place = {code: number for number, code in enumerate(self.codes)}
        airport = np.array([place.get(code, -1) for code in origin.dictionary.to_pylist()], np.int64)
        airport = airport[columns.values(origin)]
        day = columns.values(columns.one(batch["fl_date"])).astype(np.int64) - self.first_day
        is_known = (airport >= 0) & (day >= 0) & (day < self.lookup.shape[1])
        if is_known.all():
            group: npt.NDArray[np.int32] = self.lookup[airport, day]
            is_known = group != _ABSENT
        if not is_known.all():
            lost = int(np.argmin(is_known))
            code, date = origin[lost].as_py(), columns.one(batch["fl_date"])[lost].as_py()
            raise DelaywatchError(
                f"Silver has a flight from {code} on {date}, and gold has no such airport-day; run the gold and detect "
                "steps of the year again."
            )
        return group


def _dictionary(column: pa.ChunkedArray | pa.Array) -> pa.DictionaryArray:
    found = columns.one(column)
    return found if pa.types.is_dictionary(found.type) else found.dictionary_encode()


# Sums


def _sums(flights: Iterator[pa.RecordBatch | pa.Table], groups: _Groups) -> dict[str, pd.DataFrame]:
    """Scheduled flights, delay minutes and cancellations: by group ("day") and by group and name of each dimension."""
    partial: dict[str, list[pa.Table]] = {"day": [], **{name: [] for name in _DIMENSIONS}}
    for batch in flights:
        group = groups.of_flights(batch)
        is_used = group != _UNUSED
        is_cancelled = columns.values(columns.one(batch["cancelled"]))
        late_min = np.maximum(columns.values(columns.one(batch["dep_delay"])).astype(np.int64), 0)
        measured = pa.table(
            {
                "group": pa.array(group[is_used]),
                "scheduled": pa.array(np.ones(int(is_used.sum()), np.int64)),
                "delay_min": pa.array(np.where(is_cancelled, 0, late_min)[is_used]),
                "cancelled": pa.array(is_cancelled[is_used].astype(np.int64)),
            }
        )
        partial["day"].append(_summed(measured, ["group"]))
        for name, column in _DIMENSIONS.items():
            named = measured.append_column("name", _dictionary(batch[column]).filter(pa.array(is_used)))
            found = _summed(named, ["group", "name"])
            partial[name].append(found.set_column(1, "name", found["name"].cast(pa.string())))
        for name, tables in partial.items():
            if sum(table.num_rows for table in tables) > MERGE_ROWS:
                partial[name] = [_merged(tables)]
    return {name: _merged(tables).to_pandas() for name, tables in partial.items()}


def _summed(table: pa.Table, by: list[str]) -> pa.Table:
    """Sums by `by`; whole numbers only, so neither the order nor the cut of the flights can change them."""
    summed = table.group_by(by, use_threads=False).aggregate(
        [(name, "sum") for name in ("scheduled", *_MEASURES)],
    )
    return summed.select([*by, "scheduled_sum", *(f"{name}_sum" for name in _MEASURES)]).rename_columns(
        [*by, "scheduled", *_MEASURES]
    )


def _merged(tables: list[pa.Table]) -> pa.Table:
    if not tables:
        return pa.table({name: pa.array([], pa.int64()) for name in ("group", "name", "scheduled", *_MEASURES)})
    whole = pa.concat_tables(tables)
    return _summed(whole, [name for name in ("group", "name") if name in whole.column_names])


def _check_whole(by_group: pd.DataFrame, groups: _Groups) -> None:
    """Raise DelaywatchError unless every group has as many flights as gold counts."""
    days = groups.days
    in_gold = days[days["group"] != _UNUSED].groupby("group")["scheduled"].sum()
    in_silver = by_group.set_index("group")["scheduled"].reindex(in_gold.index, fill_value=0)
    wrong = in_gold.index[in_gold != in_silver]
    if len(wrong):
        origin = days.loc[days["group"] == wrong[0], "origin"].iloc[0]
        counted = words.count(in_gold[wrong[0]], "flight")
        raise DelaywatchError(
            f"Gold counts {counted} from {origin} where silver has {in_silver[wrong[0]]:,}; run the gold and detect "
            "steps of the year again."
        )


# What is usual


def _rates(by_group: pd.DataFrame, groups: _Groups) -> pd.DataFrame:
    """Delay minutes and cancellations per ordinary flight, one row per airport; NaN where there was no such flight."""
    sums = by_group.set_index("group").reindex(range(groups.airports))
    return sums[list(_MEASURES)].div(sums["scheduled"], axis=0)


def _parts(sums: pd.DataFrame, rates: pd.DataFrame, groups: _Groups) -> pd.DataFrame:
    """The parts of each flagged day by name, with what is usual: see `explain`."""
    sums = sums.dropna(subset="name")
    is_day = sums["group"] >= groups.airports
    ordinary = sums[~is_day].rename(columns={"group": "airport"})
    found = sums[is_day].assign(day=lambda part: part["group"] - groups.airports)
    found["airport"] = groups.flagged["airport"].to_numpy()[found["day"]]
    found = found.merge(ordinary, on=["airport", "name"], how="left", suffixes=("", "_ordinary"))
    weight = found["scheduled_ordinary"].fillna(0) + PRIOR_FLIGHTS
    for measure in _MEASURES:
        prior = PRIOR_FLIGHTS * rates[measure].to_numpy()[found["airport"]]
        usual = found["scheduled"] * (found[f"{measure}_ordinary"].fillna(0) + prior) / weight
        found[f"usual_{measure}"] = usual
        found[f"excess_{measure}"] = found[measure] - usual
    return found


def _causes(groups: _Groups) -> pd.DataFrame:
    """The parts of each flagged day by cause; a measure that the whole year says nothing about is missing."""
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
            else:  # late aircraft cancel nothing by code
                observed = usual = pd.Series(np.nan, flagged.index)
            frame[measure], frame[f"usual_{measure}"], frame[f"excess_{measure}"] = observed, usual, observed - usual
        frames.append(frame)
    return pd.concat(frames, ignore_index=True).dropna(subset=list(_MEASURES), how="all")


def _is_reported(days: pd.DataFrame, pattern: str) -> bool:
    """Whether any day has any of it by cause: a year in which nobody was late or cancelled does not exist."""
    names = [name for cause in schemas.CAUSES if (name := pattern.format(cause)) in days]
    return bool(days[names].to_numpy().any())


# What stands out


def _weighed(parts: pd.DataFrame) -> pd.DataFrame:
    """With `weight`, the excess in minutes with cancelled flights as DELAY_CAP_MIN, its `share` and `rank` in the day.

    The share is of all parts that exceed what is usual; rank 0 is the part farthest from usual, above or below.
    """
    weight = parts["excess_delay_min"].fillna(0) + DELAY_CAP_MIN * parts["excess_cancelled"].fillna(0)
    above = weight.clip(lower=0)
    parts = parts.assign(weight=weight, share=above / above.groupby(parts["day"]).transform("sum"))
    parts = parts.assign(distance=weight.abs()).sort_values(["distance", "name"], ascending=[False, True])
    return parts.assign(rank=parts.groupby("day").cumcount())


def _tops(parts: pd.DataFrame) -> pd.DataFrame:
    """The part of each day that exceeds what is usual the most, with its share of the day's flights; index: day."""
    flights = parts["scheduled"] / parts.groupby("day")["scheduled"].transform("sum")
    parts = parts.assign(share_of_flights=flights, of=parts.groupby("day")["name"].transform("size"))
    above = parts[parts["weight"] > 0].sort_values(["weight", "name"], ascending=[False, True])
    return above.drop_duplicates("day").set_index("day")[["name", "share", "share_of_flights", "of"]]


def _reasons(
    by_group: pd.DataFrame, rates: pd.DataFrame, parts: Mapping[str, pd.DataFrame], groups: _Groups
) -> pd.DataFrame:
    """The columns of schemas.ANOMALY_REASONS, one row per flagged day."""
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
    tops = {name: _tops(frame) for name, frame in parts.items()}
    for name, top in tops.items():
        reasons[f"top_{name}"] = top["name"].reindex(reasons.index)
    by_cause = [measure for measure in _MEASURES if parts["cause"][measure].notna().any()]
    of_day = {name: cast("dict[int, dict[str, Any]]", top.to_dict("index")) for name, top in tops.items()}
    reasons["sentence"] = [
        _sentence(row, {name: top[number] for name, top in of_day.items() if number in top}, by_cause)
        for number, row in enumerate(cast("list[dict[str, Any]]", reasons.to_dict("records")))
    ]
    return reasons


def _sentence(day: Mapping[str, Any], tops: Mapping[str, Mapping[str, Any]], by_cause: list[str]) -> str:
    """The day in plain words; tops: by dimension; by_cause: the measures that the year has by cause."""
    facts = [words.count(day["scheduled"], "scheduled flight")]
    if not pd.isna(day["effective_delay_min"]):
        usual = day["expected_effective_delay_min"]
        against = "" if pd.isna(usual) else f" against {usual:.0f} expected"
        facts.append(f"effective delay {day['effective_delay_min']:.0f} min{against}")
    if not pd.isna(day["disrupted_share"]):
        usual = day["expected_disrupted_share"]
        against = "" if pd.isna(usual) else f" against {words.share(usual)}"
        facts.append(f"{words.share(day['disrupted_share'])} disrupted{against}")
    flag = f"{words.flag(day['direction'], day['severity'])}, {words.rarity(day['score'])}"
    subject = f"{day['origin']}, {words.date(day['fl_date'])}, {flag}"
    more = _excess(day)
    if not more:
        return f"{subject}: {', '.join(facts)}."
    told = [*_cause(tops.get("cause"), more, by_cause), *_stands_out(tops)]
    excess = f"{words.listed(list(more.values()))} more than usual"
    return f"{subject}: {', '.join(facts)}; {': '.join(filter(None, [excess, ', '.join(told)]))}."


def _excess(day: Mapping[str, Any]) -> dict[str, str]:
    """What the day had more than usual, in words by measure; a missing excess is none."""
    more = {}
    if day["excess_cancelled"] >= 0.5:
        more["cancelled"] = words.count(round(day["excess_cancelled"]), "cancellation")
    if day["excess_delay_min"] >= 0.5:
        more["delay_min"] = f"{words.count(round(day['excess_delay_min']), 'minute')} of delay"
    return more


def _cause(top: Mapping[str, Any] | None, more: Mapping[str, str], by_cause: list[str]) -> list[str]:
    """The main cause, said of that measure alone which the year has by cause."""
    if top is None or not set(more) & set(by_cause):
        return []
    part = "" if len(by_cause) > 1 else f" of the {MEASURE_WORDS[by_cause[0]]}"
    return [f"{words.share(top['share'])}{part} {CAUSE_WORDS[top['name']]}"]


def _stands_out(tops: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The carrier and the destination with more than their part of the excess, or that there is none such."""
    choices = {name: tops[name] for name in _DIMENSIONS if name in tops and tops[name]["of"] > 1}
    notable = [
        f"{words.share(top['share'])} {'at' if name == 'carrier' else 'to'} {top['name']} "
        f"with {words.share(top['share_of_flights'])} of the flights"
        for name, top in choices.items()
        if top["share"] >= max(NOTABLE_SHARE, NOTABLE_TIMES[name] * top["share_of_flights"])
    ]
    spread = ["spread over carriers and destinations"] if len(choices) == len(_DIMENSIONS) else []
    return notable or spread


def _table(frame: pd.DataFrame, schema: pa.Schema, what: str) -> pa.Table:
    frame = frame[schema.names]
    numbers = {field.name: np.float32 for field in schema if pa.types.is_floating(field.type)}
    table = pa.Table.from_pandas(frame.astype(numbers), schema, preserve_index=False).replace_schema_metadata(None)
    return schemas.check(table, schema, f"The {what}")
