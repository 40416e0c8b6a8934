"""The detectors by name: their settings, and running one over a year of airport days. No method lives here.

The contract: `detect(days, params) -> verdicts`, over all airports of one year at once. `days` has the columns of
`schemas.AIRPORT_DAYS`, its rows in any order and with any index; the result has the same index and order and the
columns of `schemas.ANOMALIES` without `params_hash`. `params` is the module's model `Parameters`. A detector is
deterministic, changes nothing in place, never flags a day without a value, and says `insufficient_data` instead of
guessing from too few days or flights.

`days` may have two more columns of booleans (absent: all False). Days that are `is_excluded`, known incidents, are
scored and not used for fitting: their values change the verdict of no other day. Days that are `is_expected`, by
feedback, are scored and not used for fitting their own airport; the verdicts of all other airports are the same with
and without this column. `Calendar` in `shared.verdicts` does both for a detector that fits each airport by itself; one
that fits something over several airports must use first columns alone there.

To add a detector, write `detectors/<name>.py` with a function `detect` and a model `Parameters`, whose fields have a
type, a default, the lowest and highest value and a description, and put a block into `dags/detectors.yaml`. Every
module of this folder is a detector; `shared` holds what they have in common. The contract's test in
tests/unit/test_detectors.py runs over `NAMES` by itself.

A DAG file imports this package whenever it is parsed, so detectors are imported by name: they load pandas and more.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils import yaml_file
from utils.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# The order of the flags in the warehouse's view, where a column that moves breaks views that others have made of it. A
# detector that is not named here comes after these.
_FIRST = ("three_sigma", "isolation_forest", "arima", "random_cut_forest", "gradient_boosting", "delaywatch")
_MODULES = {module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg}
NAMES = (*(name for name in _FIRST if name in _MODULES), *sorted(_MODULES.difference(_FIRST)))
PUBLISHED = "delaywatch"  # the one whose verdict the year page, the plots and the dashboard show

Parameter = bool | int | float | tuple[float, ...]


def load(name: str) -> Callable[..., pd.DataFrame]:
    """Return the detector called `name` as a function of airport days, with its parameters as checked keywords.

    Raises InvalidInput if there is no such detector; the function does for an unknown parameter or a wrong value.
    """
    module = _module(name)
    return lambda days, **params: module.detect(days, module.Parameters.checked(name, params))


def parameters(name: str, given: Mapping[str, object] | None = None) -> dict[str, Parameter]:
    """All parameters that the detector called `name` runs with: its defaults, replaced by those in `given`.

    Raises InvalidInput for an unknown detector or parameter and for a value of the wrong kind or out of range.
    """
    checked: dict[str, Parameter] = _module(name).Parameters.checked(name, given or {}).model_dump()
    return checked


def describe(name: str) -> list[dict[str, object]]:
    """Return one row per parameter of the detector called `name`: its default, allowed values and meaning."""
    rows: list[dict[str, object]] = _module(name).Parameters.table()
    return rows


def params_hash(name: str, given: Mapping[str, object] | None = None, excluded: str = "") -> str:
    """12 hexadecimal digits that name the detector, every parameter's value, written out or not, and what is excluded.

    excluded: which days are not used for fitting, as `exclusions.fingerprint` returns them.
    """
    hashed = [name, parameters(name, given), *([excluded] if excluded else [])]
    canonical = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def read_settings(path: Path) -> dict[str, dict[str, Parameter]]:
    """The parameters of every detector in NAMES: what `path`, a file like dags/detectors.yaml, says, else the default.

    Raises InvalidInput naming the file and the line of whatever cannot be used, and Missing if there is no file.
    """
    blocks = yaml_file.entries(path, yaml_file.read(path, "detectors.yaml"), dict, "detector: its parameters")
    settings = {name: parameters(name) for name in NAMES}
    for name, block in blocks.items():
        line = yaml_file.line_of(blocks, name)
        if name not in NAMES:
            raise InvalidInput(f"{path}, line {line}: {_unknown(name)}")
        for parameter, value in yaml_file.entries(path, block, dict, "parameter: value", line).items():
            try:
                settings[name] = parameters(name, {**settings[name], parameter: value})
            except InvalidInput as error:
                raise InvalidInput(f"{path}, line {yaml_file.line_of(block, parameter)}: {error}") from error
    return settings


def run(name: str, days: pd.DataFrame, given: Mapping[str, object] | None = None, excluded: str = "") -> pa.Table:
    """Judge `days` with the detector called `name`: a table with exactly `schemas.ANOMALIES`, by origin and fl_date.

    excluded: the fingerprint of `is_excluded` and `is_expected` of `days`, for `params_hash`. Raises InvalidInput as
    `parameters` does, and when `days` are not airport days.
    """
    verdicts = load(name)(days, **(given or {})).assign(params_hash=params_hash(name, given, excluded))
    return importlib.import_module("utils.detectors.shared.verdicts").table(verdicts, f"The verdict of {name}")


def expectations(days: pd.DataFrame, given: Mapping[str, object] | None = None) -> pd.DataFrame:
    """Return EXPECTED_COLUMNS of `attribution` as the published detector expects them, with the index of `days`."""
    module = _module(PUBLISHED)
    expected: pd.DataFrame = module.expectations(days, module.Parameters.checked(PUBLISHED, given or {}))
    return expected


def _unknown(name: object) -> str:
    return f"there is no detector {name}; there are {', '.join(NAMES)}."


def _module(name: str) -> Any:
    if name not in NAMES:
        raise InvalidInput(_unknown(name))
    return importlib.import_module(f"utils.detectors.{name}")
