"""What other settings cost, counted on few days, and the file that proposes them: only what is changed differs."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import detectors
from utils.errors import InvalidInput
from utils.tuning import proposal

SHIPPED = Path(__file__).parents[2] / "dags" / "detectors.yaml"
DATES = pd.date_range("2015-01-01", periods=60)


def judged(**flagged: list[int]) -> pd.DataFrame:
    """Verdicts on 60 days of each airport; `flagged` has the numbers of its flagged days, which have scores of 9."""
    frames = []
    for origin, numbers in flagged.items():
        is_flagged = np.isin(np.arange(len(DATES)), numbers)
        rows = {"origin": origin, "fl_date": DATES, "score": 8.0 * is_flagged + 1, "is_anomaly": is_flagged}
        frames.append(pd.DataFrame(rows).assign(status="ok"))
    return pd.concat(frames, ignore_index=True)


def labels(**abnormal: list[int]) -> pd.DataFrame:
    found = judged(**abnormal)
    return found[["origin", "fl_date"]].assign(is_abnormal=found["is_anomaly"])


def feedback(**opinions: tuple[int, str]) -> pd.DataFrame:
    """One opinion per airport: the number of the day, and what was said."""
    rows = [(origin, DATES[number].date(), said) for origin, (number, said) in opinions.items()]
    return pd.DataFrame(rows, columns=["origin", "fl_date", "opinion"])


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "detectors.yaml"
    path.write_text(text)
    return path


def changed_lines(before: str, after: str) -> list[str]:
    return [line for line in after.splitlines() if line not in before.splitlines()]


# What it costs


def test_the_cost_counts_flags_and_who_is_right() -> None:
    on_all = judged(JFK=[3, 4, 5, 30], LGA=[3])
    on_half = judged(JFK=[3, 4, 50], LGA=[3])
    truth = labels(JFK=[3, 4, 5], LGA=[3, 40])

    found = proposal.cost(on_all, on_half, truth, feedback(JFK=(5, "right"), LGA=(3, "wrong"), EWR=(3, "right")))

    assert found.flags == 5
    assert found.flags_per_year == pytest.approx(5 / 120 * 365.25)
    assert found.precision.value == 3 / 4
    assert found.recall.value == 3 / 5
    assert (found.right, found.wrong) == (1, 1)
    assert found.precision.low <= 3 / 4 <= found.precision.high


def test_feedback_on_days_without_a_flag_and_expected_days_count_nowhere() -> None:
    said = feedback(JFK=(9, "right"), LGA=(3, "expected"))

    found = proposal.cost(judged(JFK=[3], LGA=[3]), judged(JFK=[3], LGA=[]), labels(JFK=[3], LGA=[]), said)

    assert (found.right, found.wrong) == (0, 0)


def test_a_setting_that_flags_nothing_has_no_precision_and_finds_nothing() -> None:
    nothing = judged(JFK=[], LGA=[])

    found = proposal.cost(nothing, nothing, labels(JFK=[3], LGA=[4]), feedback())

    assert found.flags == 0
    assert str(found.precision) == "-"
    assert found.recall.value == 0


def test_own_flags_are_those_of_the_settings_and_not_of_a_budget() -> None:
    truth = labels(JFK=[3, 4])
    verdicts = judged(JFK=list(range(20)))

    found = proposal.own_flags(truth, verdicts[verdicts["fl_date"] != DATES[0]])

    assert found["flag"].sum() == 19  # a day without a verdict has no flag
    assert len(found) == len(truth)


# How it is written


def test_only_the_changed_values_differ_and_comments_stay() -> None:
    before = SHIPPED.read_text()

    after = proposal.text(SHIPPED, "delaywatch", {"levels": [50, 120.5, 365], "past_only": True, "min_flights": 5})

    was = {line.split(":")[0]: line for line in before.split("delaywatch:")[1].splitlines()}
    assert changed_lines(before, after) == [
        was["  levels"].replace("[75, 180, 500]", "[50, 120.5, 365]"),
        was["  past_only"].replace("false #", "true  #"),
    ]
    assert len(after.splitlines()) == len(before.splitlines())


def test_nothing_differs_where_the_settings_are_those_of_the_file() -> None:
    assert proposal.text(SHIPPED, "three_sigma", {"threshold": 3}) == SHIPPED.read_text()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "three_sigma:\n  threshold: 3.5\n"),
        ("# ours\n", "# ours\n\nthree_sigma:\n  threshold: 3.5\n"),
        ("arima:\n  max_p: 4", "arima:\n  max_p: 4\nthree_sigma:\n  threshold: 3.5\n"),
        ("three_sigma: # ours\n", "three_sigma: # ours\n  threshold: 3.5\n"),
        ("three_sigma: {}\narima:\n", "three_sigma:\n  threshold: 3.5\narima:\n"),
        ("three_sigma: {min_days: 30} # ours\n", "three_sigma: {threshold: 3.5, min_days: 30} # ours\n"),
        ("{arima: {min_days: 40}}\n", "{arima: {min_days: 40}, three_sigma: {threshold: 3.5}}\n"),
        (
            "three_sigma:\n    # why\n    min_days: 30 # ours\n",
            "three_sigma:\n    # why\n    threshold: 3.5\n    min_days: 30 # ours\n",
        ),
    ],
)
def test_a_parameter_that_the_file_does_not_have_is_added(tmp_path: Path, before: str, after: str) -> None:
    assert proposal.text(written(tmp_path, before), "three_sigma", {"threshold": 3.5}) == after


@pytest.mark.parametrize(
    "unusual",
    [
        "arima: &both\n  min_days: 40\nthree_sigma: *both\n",
        "arima:\n   min_days: 40\nthree_sigma:\n  min_days: 40\n",
        "arima:   {min_days:   40}\n",
    ],
)
def test_a_file_that_a_change_would_damage_is_left_to_a_person(tmp_path: Path, unusual: str) -> None:
    path = written(tmp_path, unusual)

    with pytest.raises(InvalidInput, match=r"only a person can change it; write min_days: 50 into its three_sigma"):
        proposal.text(path, "three_sigma", {"min_days": 50})


def test_a_list_over_several_lines_keeps_its_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "delaywatch:\n  levels:\n  - 50\n  - 90\n  - 400\n")

    after = proposal.text(path, "delaywatch", {"levels": [60, 90, 450.5]})

    assert after == "delaywatch:\n  levels:\n  - 60\n  - 90\n  - 450.5\n"


def test_an_anchored_value_is_replaced_in_one_detector_alone(tmp_path: Path) -> None:
    path = written(tmp_path, "arima:\n  min_days: &least 40\nthree_sigma:\n  min_days: *least\n")

    after = written(tmp_path, proposal.text(path, "three_sigma", {"min_days": 50}))

    read = detectors.read_settings(after)
    assert (read["arima"]["min_days"], read["three_sigma"]["min_days"]) == (40, 50)


@pytest.mark.parametrize(
    ("detector", "changed", "sentence"),
    [
        ("delaywach", {"levels": [1, 2, 3]}, "there is no detector delaywach; there are three_sigma"),
        ("delaywatch", {"levls": [50, 120, 365]}, "delaywatch has no parameter levls; it has levels"),
        ("isolation_forest", {"contamination": 0.9}, "isolation_forest: contamination is 0.9; it must be a number"),
    ],
)
def test_what_a_detector_does_not_have_is_refused(detector: str, changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        proposal.text(SHIPPED, detector, changed)


SETTINGS = detectors.read_settings(SHIPPED)


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A detector and other values of some of its parameters."""
    name = draw(st.sampled_from(detectors.NAMES))
    schemas = importlib.import_module(f"utils.detectors.{name}").Parameters.model_json_schema()["properties"]
    changed: dict[str, Any] = {}
    for parameter in draw(st.lists(st.sampled_from(list(SETTINGS[name])), unique=True)):
        value, schema = SETTINGS[name][parameter], schemas[parameter]
        bounds = schema["prefixItems"][0] if isinstance(value, tuple) else schema
        low, high = bounds.get("minimum"), bounds.get("maximum")
        if isinstance(value, bool):
            changed[parameter] = draw(st.booleans())
        elif isinstance(value, int):
            changed[parameter] = draw(st.integers(int(low), int(high)))
        elif isinstance(value, float):
            changed[parameter] = draw(st.floats(low, high))
        else:
            numbers = st.lists(st.floats(low, high), min_size=len(value), max_size=len(value))
            changed[parameter] = sorted(draw(numbers))
    return name, changed


@settings(max_examples=25)
@given(changes())
def test_whatever_is_proposed_is_read_back_as_it_was_meant(change: tuple[str, dict[str, Any]]) -> None:
    name, changed = change

    with tempfile.TemporaryDirectory() as folder:
        after = written(Path(folder), proposal.text(SHIPPED, name, changed))

        read = detectors.read_settings(after)

    assert read == {**SETTINGS, name: detectors.parameters(name, {**SETTINGS[name], **changed})}


# Where it is written


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write everywhere; be nobody for a while, as Jupyter is in the stack."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_a_proposal_is_written_into_the_first_folder_where_this_user_may_write() -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        read_only, scratch = Path(one), Path(other)
        read_only.chmod(0o555)
        scratch.chmod(0o777)

        with unprivileged():
            path = proposal.write("delaywatch:\n", "proposed.yaml", [read_only, scratch])

        assert path == scratch.resolve() / "proposed.yaml"
        assert path.read_text() == "delaywatch:\n"


def test_a_proposal_that_can_be_written_nowhere_names_every_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folders = [tmp_path / "file", tmp_path / "missing"]

    with pytest.raises(InvalidInput) as refused:
        proposal.write("delaywatch:\n", "proposed.yaml", folders)

    assert all(f"{folder / 'proposed.yaml'}" in str(refused.value) for folder in folders)
