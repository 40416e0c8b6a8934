"""dags/detectors.yaml: what it means, which errors name which line, and proposals that change only some values."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from utils import detectors
from utils.errors import InvalidInput
from utils.tuning import proposal

SHIPPED = Path(__file__).parents[2] / "dags" / "detectors.yaml"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "detectors.yaml"


def test_the_shipped_file_has_every_parameter_with_its_default() -> None:
    shipped = yaml.safe_load(SHIPPED.read_text())

    assert {name: list(block) for name, block in shipped.items()} == {
        name: list(detectors.parameters(name)) for name in detectors.NAMES
    }
    assert detectors.read_settings(SHIPPED) == {name: detectors.parameters(name) for name in detectors.NAMES}


def test_values_are_those_of_yaml_1_1_as_in_earlier_releases_and_others_have_their_defaults(path: Path) -> None:
    path.write_text("arima:\n  late_only: off\n  past_only: yes\n  min_flights: 010\n  level: 5e-1\nthree_sigma:\n")

    given = {"late_only": False, "past_only": True, "min_flights": 8, "level": 0.5}
    defaults = {name: detectors.parameters(name) for name in detectors.NAMES}
    assert detectors.read_settings(path) == {**defaults, "arima": {**defaults["arima"], **given}}


@pytest.mark.parametrize(
    ("text", "line", "named"),
    [
        ("# ours\nfour_sigma:\n", 2, ["four_sigma", "three_sigma, isolation_forest"]),
        ("three_sigma:\n  treshold: 3\n", 2, ["treshold", "threshold, late_only"]),  # codespell:ignore
        ("three_sigma:\n  threshold: '3'\n", 2, ["'3'", "number"]),
        ("three_sigma:\n  threshold: .nan\n", 2, ["nan"]),
        ("three_sigma:\n  min_days: 2.5\n", 2, ["2.5", "whole number from 2 to 366"]),
        ("isolation_forest:\n  contamination: 0.9\n", 2, ["0.9"]),
        ("delaywatch:\n  past_only: 1\n", 2, ["past_only", "true or false"]),
        ("delaywatch:\n  levels: [3, 2, 4]\n", 2, ["[3, 2, 4]", "ascending"]),
        ("delaywatch:\n  min_days: 30\n  min_days: 40\n", 3, ["min_days"]),
        ("delaywatch: 3\n", 1, ["parameter: value"]),
    ],
)
def test_an_invalid_entry_is_named_with_its_line(path: Path, text: str, line: int, named: list[str]) -> None:
    path.write_text(text)

    with pytest.raises(InvalidInput) as caught:
        detectors.read_settings(path)

    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert [word for word in named if word not in str(caught.value)] == []


def test_a_proposal_changes_only_the_given_values() -> None:
    before = SHIPPED.read_text()

    after = proposal.text(SHIPPED, "delaywatch", {"levels": [50, 120.5, 365], "past_only": True, "min_flights": 5})

    pairs = zip(before.splitlines(), after.splitlines(), strict=True)
    changed = [(old.strip(), new.strip()) for old, new in pairs if old != new]
    assert [old.split(":")[0] for old, _ in changed] == ["levels", "past_only"]
    assert [new.split("#")[0].strip() for _, new in changed] == ["levels: [50, 120.5, 365]", "past_only: true"]
    assert all(new.split("#")[1] == old.split("#")[1] for old, new in changed)


def test_a_file_that_an_edit_would_damage_is_refused(path: Path) -> None:
    path.write_text("arima: &both\n  min_days: 40\nthree_sigma: *both\n")

    with pytest.raises(InvalidInput, match=r"min_days: 50.*three_sigma"):
        proposal.text(path, "three_sigma", {"min_days": 50})
