"""Reasons and factors of flagged days: every column against SQL, and what a sentence names."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple
from unittest import mock

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from utils import schemas
from utils.analysis import attribution
from utils.errors import InvalidInput, Missing
from utils.layers import gold

STORM, INCIDENT = dt.date(2013, 2, 9), dt.date(2013, 2, 7)
COLUMNS = tuple(dict.fromkeys((*attribution.FLIGHT_COLUMNS, *gold.COLUMNS)))
KEY = ["origin", "fl_date"]
CANCELLED = None


class Flight(NamedTuple):
    """One flight. A delay of None cancels it; with `is_cancelled` it left the gate before. Causes are the Bureau's."""

    carrier: str | None = "UA"
    delay: int | None = 0
    dest: str = "ORD"
    origin: str = "JFK"
    day: dt.date = STORM
    code: str | None = None
    weather_min: int | None = None
    carrier_min: int | None = None
    is_cancelled: bool = False


def silver(flights: Sequence[Flight]) -> pa.Table:
    rows = [
        dict.fromkeys(COLUMNS)
        | {
            "fl_date": flight.day,
            "origin": flight.origin,
            "dest": flight.dest,
            "op_carrier": flight.carrier,
            "dep_delay": flight.delay,
            "cancelled": flight.is_cancelled or flight.delay is CANCELLED,
            "cancellation_code": flight.code,
            "diverted": False,
            "weather_delay": flight.weather_min,
            "carrier_delay": flight.carrier_min,
        }
        for flight in flights
    ]
    return pa.Table.from_pylist(rows, pa.schema([schemas.SILVER.field(name) for name in COLUMNS]))


def on_ordinary_days(*flights: Flight) -> list[Flight]:
    """The flights on each of ten days of January."""
    return [flight._replace(day=dt.date(2013, 1, number)) for flight in flights for number in range(1, 11)]


class Year(NamedTuple):
    """The input of `explain`."""

    flights: pa.Table
    days: pd.DataFrame
    verdicts: pd.DataFrame
    expected: pd.DataFrame

    def explain(self, pieces: Iterator[pa.Table | pa.RecordBatch] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
        flights = iter([self.flights]) if pieces is None else pieces
        reasons, factors = attribution.explain(flights, self.days, self.verdicts, self.expected)
        return reasons.to_pandas(), factors.to_pandas()


def year_of(flights: Sequence[Flight], direction: str = "late", flagged: Sequence[str] = ("JFK",)) -> Year:
    """Flags on STORM at some airports, an excluded INCIDENT, and expectations of 10 minutes and 5%."""
    table = silver(flights)
    days = gold.airport_days(gold.day_sums(table), 2013).to_pandas()
    is_anomaly = (days["fl_date"] == STORM) & days["origin"].isin(flagged)
    verdicts = days[KEY].assign(
        is_anomaly=is_anomaly,
        direction=is_anomaly.map({True: direction, False: None}),
        severity=np.where(is_anomaly, 2, 0),
        score=np.where(is_anomaly, 210, 2).astype(np.float32),
    )
    expected = pd.DataFrame(
        {"expected_effective_delay_min": 10.0, "expected_disrupted_share": 0.05}, index=days.index, dtype=np.float32
    )
    return Year(
        table.select(attribution.FLIGHT_COLUMNS),
        days.assign(is_excluded=days["fl_date"] == INCIDENT),
        verdicts,
        expected,
    )


def sentence_of(year: Year) -> str:
    reasons, _ = year.explain()
    return str(reasons["sentence"].item())


def test_the_sentence_of_a_day_without_a_score_says_that_its_history_is_too_short() -> None:
    year = year_of([Flight(delay=CANCELLED), *[Flight()] * 3], "late")
    year.verdicts["score"] = np.nan

    assert "severity strong, too little history to say how rare" in sentence_of(year)


# Every column


def generated_flights(seed: int) -> list[Flight]:
    """Up to 150 flights of two airports on five days; few seeds have minutes by cause or cancellation codes."""
    random = Random(seed)
    has_minutes, has_codes = random.random() < 0.7, random.random() < 0.7
    flights = []
    for _ in range(random.choice([1, 5, 40, 150])):
        delay = CANCELLED if random.random() < 0.2 else random.randint(-20, 400)
        flights.append(
            Flight(
                carrier=random.choice(["AA", "AA", "DL", "DL", "UA", "UA", None]),
                delay=delay,
                dest=f"D{random.randrange(15):02}",
                origin=random.choice(["JFK", "LGA"]),
                day=STORM - dt.timedelta(days=random.randrange(5)),
                code=random.choice("ABCD") if has_codes and delay is CANCELLED else None,
                is_cancelled=random.random() < 0.05,
                weather_min=random.randrange(200) if has_minutes else None,
                carrier_min=random.randrange(200) if has_minutes else None,
            )
        )
    return [*flights, Flight(delay=70)]


CAUSES = {"carrier": True, "weather": True, "nas": True, "security": True, "late_aircraft": False}
DAY_SQL = """
    CREATE VIEW marked AS
    SELECT flights.* EXCLUDE cancelled, flights.cancelled::INT AS cancelled, is_anomaly, is_excluded,
        IF(flights.cancelled, 0, greatest(dep_delay, 0)) AS delay_min
    FROM flights JOIN (FROM days JOIN verdicts USING (origin, fl_date)) USING (origin, fl_date);
    CREATE VIEW ordinary AS FROM marked WHERE NOT is_anomaly AND NOT is_excluded;
    CREATE VIEW rate AS
    SELECT origin, avg(delay_min) AS delay_min, avg(cancelled) AS cancelled FROM ordinary GROUP BY 1;
    CREATE VIEW day AS
    SELECT origin, fl_date, scheduled, observed.delay_min, observed.cancelled,
        scheduled * rate.delay_min AS usual_delay_min, scheduled * rate.cancelled AS usual_cancelled
    FROM (SELECT origin, fl_date, count(*) AS scheduled, sum(delay_min) AS delay_min, sum(cancelled) AS cancelled
        FROM marked WHERE is_anomaly GROUP BY ALL) AS observed LEFT JOIN rate USING (origin)
"""
PARTS_SQL = """
    SELECT origin, fl_date, '{dimension}' AS dimension, {column} AS name,
        part.scheduled, part.delay_min, part.cancelled,
        share * (coalesce(own.delay_min, 0) + 100 * rate.delay_min) AS usual_delay_min,
        share * (coalesce(own.cancelled, 0) + 100 * rate.cancelled) AS usual_cancelled
    FROM (
        SELECT origin, fl_date, {column},
            count(*) AS scheduled, sum(delay_min) AS delay_min, sum(cancelled) AS cancelled
        FROM marked WHERE is_anomaly AND {column} IS NOT NULL GROUP BY ALL
    ) AS part
    LEFT JOIN (
        SELECT origin, {column}, count(*) AS n, sum(delay_min) AS delay_min, sum(cancelled) AS cancelled
        FROM ordinary GROUP BY ALL
    ) AS own USING (origin, {column})
    LEFT JOIN rate USING (origin), LATERAL (SELECT part.scheduled / (coalesce(n, 0) + 100) AS share)
"""
CAUSE_SQL = """
    SELECT origin, fl_date, 'cause' AS dimension, '{cause}' AS name, NULL AS scheduled,
        IF({has_minutes}, {cause}_min, NULL) AS delay_min, IF({has_codes}, {cancelled}, NULL) AS cancelled,
        IF({has_minutes}, scheduled * minutes / n, NULL) AS usual_delay_min,
        IF({has_codes}, scheduled * codes / n, NULL) AS usual_cancelled
    FROM (FROM days JOIN verdicts USING (origin, fl_date) WHERE is_anomaly)
    LEFT JOIN (
        SELECT origin, sum({cause}_min) AS minutes, sum({cancelled}) AS codes, sum(scheduled) AS n
        FROM days JOIN verdicts USING (origin, fl_date) WHERE NOT is_anomaly AND NOT is_excluded GROUP BY 1
    ) USING (origin)
    WHERE {has_minutes} OR {has_codes}
"""


def computed_by_sql(year: Year) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Days and parts of days with observed, usual and excess values, by the rules in the docstring of `attribution`."""
    connection = duckdb.connect(config={"threads": 1})
    for name in ("flights", "days", "verdicts"):
        connection.register(name, getattr(year, name))
    connection.execute(DAY_SQL)
    has_minutes = bool(year.days[[f"{cause}_min" for cause in CAUSES]].to_numpy().any())
    has_codes = bool(
        year.days[[f"cancelled_{cause}" for cause, has_code in CAUSES.items() if has_code]].to_numpy().any()
    )
    queries = [
        PARTS_SQL.format(dimension=dimension, column=column)
        for dimension, column in (("carrier", "op_carrier"), ("destination", "dest"))
    ]
    queries += [
        CAUSE_SQL.format(
            cause=cause,
            cancelled=f"cancelled_{cause}" if has_code else "0",
            has_minutes=has_minutes,
            has_codes=has_codes and has_code,
        )
        for cause, has_code in CAUSES.items()
    ]
    days, parts = (
        connection.sql(query).to_arrow_table().to_pandas() for query in ("FROM day", " UNION ALL ".join(queries))
    )
    for frame in (days, parts):
        for column in frame.columns.difference([*KEY, "dimension", "name"]):
            frame[column] = frame[column].astype(float)
        for measure in ("delay_min", "cancelled"):
            frame[f"excess_{measure}"] = frame[measure] - frame[f"usual_{measure}"]
    minutes, flights = parts["excess_delay_min"].fillna(0), parts["excess_cancelled"].fillna(0)
    return days.sort_values(KEY, ignore_index=True), parts.assign(weight=minutes + 120 * flights)


@pytest.mark.parametrize("seed", range(10))
def test_every_column_of_reasons_and_factors_is_that_of_an_independent_computation(seed: int) -> None:
    year = year_of(generated_flights(seed), ["late", "closure"][seed % 2], ("JFK", "LGA"))
    days, parts = computed_by_sql(year)

    reasons, factors = year.explain()

    pd.testing.assert_frame_equal(reasons[days.columns], days, check_dtype=False, rtol=1e-4, atol=1e-3)
    flagged_days = year.days.join(year.expected).merge(year.verdicts, on=KEY).query("is_anomaly").reset_index(drop=True)
    share = (flagged_days["disrupted"] / flagged_days["scheduled"]).astype(np.float32)
    passed_on = flagged_days.assign(effective_delay_min=flagged_days["mean_effective_delay_min"], disrupted_share=share)
    columns = ["direction", "severity", *attribution.EXPECTED_COLUMNS, "effective_delay_min", "disrupted_share"]
    pd.testing.assert_frame_equal(reasons[columns], passed_on[columns], check_dtype=False)

    identity = [*KEY, "dimension", "name"]
    assert factors[identity].to_numpy().tolist() == sorted(factors[identity].to_numpy().tolist())
    both = parts.merge(factors[identity], on=identity, how="left", indicator="is_kept")
    kept = both[both["is_kept"] == "both"].sort_values(identity, ignore_index=True)
    pd.testing.assert_frame_equal(factors, kept[factors.columns], check_dtype=False, rtol=1e-4, atol=1e-3)
    for (*_, dimension), rows in both.groupby([*KEY, "dimension"]):
        is_kept, distance = rows["is_kept"] == "both", rows["weight"].abs()
        assert is_kept.sum() == min(len(rows), 10 if dimension == "destination" else len(rows))
        assert distance[is_kept].min() >= distance[~is_kept].max() - 1e-6 or is_kept.all()
    for dimension in schemas.FACTOR_DIMENSIONS:
        for reason in reasons.to_dict("records"):
            weights = parts[(parts["origin"] == reason["origin"]) & (parts["dimension"] == dimension)].set_index(
                "name"
            )["weight"]
            top = reason[f"top_{dimension}"]
            assert (0 if pd.isna(top) else weights[top]) == pytest.approx(
                max(weights.max(), 0) if len(weights) else 0, abs=1e-6
            )


def pieces(table: pa.Table, order: list[int], sizes: list[int]) -> Iterator[pa.RecordBatch | pa.Table]:
    """The rows in another order, in tables and record batches with their own dictionaries."""
    start = 0
    for number, size in enumerate([*sizes, table.num_rows]):
        piece = pa.Table.from_pylist(table.take(order).slice(start, size).to_pylist(), table.schema)
        start += size
        yield piece if number % 2 or not piece.num_rows else piece.to_batches()[0]


@pytest.mark.parametrize("seed", range(5))
def test_neither_order_nor_pieces_of_the_flights_change_a_bit(seed: int) -> None:
    random, year = Random(seed), year_of(generated_flights(seed))
    order = random.sample(range(year.flights.num_rows), year.flights.num_rows)
    rows = year.days.sample(frac=1, random_state=1).index
    shuffled = year._replace(days=year.days.loc[rows], verdicts=year.verdicts[::-1], expected=year.expected.loc[rows])

    with mock.patch.object(attribution, "MERGE_ROWS", 3 if seed % 2 else attribution.MERGE_ROWS):
        other = shuffled.explain(pieces(year.flights, order, [random.randrange(9) for _ in range(6)]))

    for frame, same in zip(year.explain(), other, strict=True):
        pd.testing.assert_frame_equal(frame, same)


# Sentences


def test_a_sentence_has_the_day_the_flag_both_series_the_excess_and_the_notable_parts() -> None:
    """With Chicago closed, United, which has 40% of the flights, has nearly all of the excess."""
    others = [Flight(carrier, dest=carrier * 3) for carrier in "ABCDEF"]
    usual = on_ordinary_days(*others, Flight(), Flight(dest="DEN", delay=40, weather_min=10))
    storm = [*[Flight(delay=CANCELLED, code="B")] * 4, *[Flight(dest="DEN", delay=90, weather_min=90)] * 2]

    sentence = sentence_of(year_of([*usual, *others * 2, *storm, *[Flight(dest="DEN")] * 2], "closure"))

    facts = [
        "JFK, Sat 9 Feb 2013", "closure", "strong", "once in 210 days", "20 scheduled flights", "33 min", "expected 10",
        "30%", "expected 5%", "4 cancellations and 80 minutes", "100% by weather", "100% at UA with 40%",
        "76% to ORD with 20%",
    ]  # fmt: skip
    assert re.search(".*".join(map(re.escape, facts)), sentence), sentence


def carrier_named(storm: list[Flight]) -> str | None:
    """The carrier in the sentence if every carrier usually has 8 minutes per flight."""
    usual = on_ordinary_days(*(Flight(carrier, 8) for carrier in sorted({str(flight.carrier) for flight in storm})))
    named = re.search(r" at (\w+) with", sentence_of(year_of([*usual, *storm])))
    return named[1] if named else None


def day_of(**delays: Sequence[int | None]) -> list[Flight]:
    """Flights from the delays of each carrier."""
    return [Flight(carrier, delay) for carrier, of_carrier in delays.items() for delay in of_carrier]


@pytest.mark.parametrize(
    ("storm", "named"),
    [
        (day_of(WN=[None] * 20 + [8] * 60, UA=[8] * 20), "WN"),  # most flights, all of the excess
        (day_of(WN=[None] * 20 + [100] * 60, UA=[100] * 20), "WN"),  # all cancellations; all flights are late alike
        (day_of(WN=[None] * 48 + [8] * 32, UA=[None] * 12 + [8] * 8), None),  # equal rates
        (day_of(WN=[None] * 300 + [8] * 200, UA=[None] * 250 + [8] * 250), None),  # significant, but not 1.5 times
        (day_of(WN=[8] * 95, UA=[8] * 4, OO=[None]), None),  # one cancelled flight of a small carrier
        (day_of(WN=[8] * 90, UA=[8] * 5, OO=[600, 8, 8, 8, 8]), None),  # one flight that is ten hours late
        (day_of(WN=[None] * 4 + [8] * 10, UA=[8] * 4), None),  # too few flights
    ],
)
def test_a_sentence_names_a_carrier_that_differs_from_the_others(storm: list[Flight], named: str | None) -> None:
    assert carrier_named(storm) == named


@pytest.mark.parametrize(
    ("flights", "present", "absent"),
    [
        ([*on_ordinary_days(Flight()), Flight(delay=61)], "61 minutes", "UA"),  # the only carrier
        ([*on_ordinary_days(Flight(delay=10)), Flight(delay=-30)], "-30 min", "more than usual"),
        ([Flight(delay=80), Flight(delay=CANCELLED, code="B")], "100 min", "more than usual"),  # no ordinary flights
        ([*on_ordinary_days(Flight(delay=10)), Flight(delay=90), Flight(delay=CANCELLED)], "1 cancellation", " by "),
    ],
)
def test_a_sentence_omits_unknown_comparisons_and_causes(flights: list[Flight], present: str, absent: str) -> None:
    sentence = sentence_of(year_of(flights))

    assert present in sentence
    assert absent not in sentence
    assert "nan" not in sentence


# Input that does not fit


FLIGHTS_IN_GOLD = [*on_ordinary_days(Flight()), Flight(delay=40), Flight(origin="LGA")]


@pytest.mark.parametrize(
    ("flights", "named"),
    [
        ([*FLIGHTS_IN_GOLD, Flight(origin="BOS")], "BOS on 2013-02-09"),
        ([*FLIGHTS_IN_GOLD, Flight(origin="LGA", day=dt.date(2013, 1, 5))], "LGA on 2013-01-05"),
        (FLIGHTS_IN_GOLD[1:], "10 flights from JFK.* 9"),
        ([*FLIGHTS_IN_GOLD, FLIGHTS_IN_GOLD[10]], "1 flight from JFK.* 2"),
    ],
)
def test_flights_that_gold_does_not_count_are_named(flights: list[Flight], named: str) -> None:
    year = year_of(FLIGHTS_IN_GOLD)._replace(flights=silver(flights).select(attribution.FLIGHT_COLUMNS))

    with pytest.raises(InvalidInput, match=f"{named}.*gold and detect"):
        year.explain()


def test_a_flagged_day_that_gold_does_not_have_is_named() -> None:
    year = year_of(FLIGHTS_IN_GOLD)
    is_other = year.days["fl_date"] != STORM

    with pytest.raises(Missing, match=r"JFK.* 2013-02-09.*detect"):
        year._replace(days=year.days[is_other], expected=year.expected[is_other]).explain()
