"""Registry of the detectors: load one by name, check its settings, run it on a year of airport days.

The contract: `detect(days, params) -> verdicts`, over all airports of one year at once. `days` has the columns of
`schemas.AIRPORT_DAYS`, with rows in any order and any index; the result has the same index and order and the columns of
`schemas.ANOMALIES` without `params_hash`. `params` is an instance of the module's model `Parameters`. A detector is
deterministic, does not change its input, never flags a day without a value, and returns `insufficient_data` if it has
too few days or flights. A rule that needs no history (`delaywatch`) may flag a day without a score, with status `ok`.

`days` may have three more boolean columns (default False). `is_history` days, of the year before, are used for fitting
only: `run` passes them to the detectors with the parameter `past_only` and drops their verdicts. `is_excluded` days,
known incidents, are scored but not used for fitting: their values change the verdict of no other day. `is_expected`
days, from feedback, are scored but not used for fitting their own airport; this column changes no verdict of another
airport. `Calendar` in `shared.verdicts` implements both exclusions for a detector that fits each airport separately; a
detector that fits values over several airports must use only first columns for them.

A year so far is scored in past-only mode, so that later days change no verdict. A detector without the parameter
`past_only` cannot do this, so `run` gives all days of such a year the status `insufficient_data`.

To add a detector, write `detectors/<name>.py` with a function `detect` and a model `Parameters`, whose fields have a
type, a default, bounds and a description, and add a block to `dags/detectors.yaml`. Every module of this folder is a
detector; `shared` has the common code. The tests run on every name in `NAMES`. A new detector also needs
floors of precision and recall in tests/integration/detectors.

DAG files import this package when they are parsed. Detectors are imported on use, because they import pandas.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils import yaml_file
from utils.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# The order of the flags in the warehouse's view, where moving a column breaks users' views. New detectors come last.
_FIRST = ("three_sigma", "isolation_forest", "arima", "random_cut_forest", "gradient_boosting", "delaywatch")
_MODULES = {module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg}
NAMES = (*(name for name in _FIRST if name in _MODULES), *sorted(_MODULES.difference(_FIRST)))
PUBLISHED = "delaywatch"  # the detector of the pages, the plots and the dashboard

# The history that is used with the whole year in view: as much as there is on the other side of a day in January. The
# rest of last year would only mix its level into that of the year.
SEASON_OF_HISTORY_DAYS = 91

Parameter = bool | int | float | tuple[float, ...]


def load(name: str) -> Callable[..., pd.DataFrame]:
    """Return the detector `name` as a function of airport days and its parameters as keywords.

    Raises InvalidInput if the detector does not exist. The function raises it for an unknown parameter or an invalid
    value.
    """
    module = _module(name)
    return lambda days, **params: module.detect(days, module.Parameters.checked(name, params))


def parameters(name: str, given: Mapping[str, object] | None = None) -> dict[str, Parameter]:
    """Return all parameters of the detector `name`: the values in `given`, else the defaults.

    Raises InvalidInput for an unknown detector or parameter, a value of the wrong type, and a value out of range.
    """
    checked: dict[str, Parameter] = _module(name).Parameters.checked(name, given or {}).model_dump()
    return checked


def describe(name: str) -> list[dict[str, object]]:
    """Return one row per parameter of the detector `name`: its default, allowed values and meaning."""
    rows: list[dict[str, object]] = _module(name).Parameters.table()
    return rows


def params_hash(name: str, given: Mapping[str, object] | None = None, excluded: str = "") -> str:
    """Return 12 hexadecimal digits: a hash of the detector, all parameter values (defaults too) and the excluded days.

    excluded: the days that are not used for fitting, as `exclusions.fingerprint` returns them.
    """
    hashed = [name, parameters(name, given), *([excluded] if excluded else [])]
    canonical = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def read_settings(path: Path) -> dict[str, dict[str, Parameter]]:
    """Return the parameters of every detector in NAMES from `path`, a file like dags/detectors.yaml, else the defaults.

    Raises InvalidInput with file and line for an invalid entry, and Missing if the file does not exist.
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


def has_past_only(name: str) -> bool:
    """Return True if the detector `name` can score from earlier days only; then it also uses history."""
    return "past_only" in _module(name).Parameters.model_fields


def in_year_so_far(name: str, given: Mapping[str, object]) -> Mapping[str, object]:
    """Return the parameters that score a year so far: `given` with `past_only`, if the detector has it."""
    return {**given, "past_only": True} if has_past_only(name) else given


def run(
    name: str,
    days: pd.DataFrame,
    given: Mapping[str, object] | None = None,
    excluded: str = "",
    is_so_far: bool = False,
) -> pa.Table:
    """Judge `days` with the detector `name`. Return a table with exactly `schemas.ANOMALIES`, by origin and fl_date.

    excluded: the fingerprint of `is_excluded` and `is_expected` in `days`, for `params_hash`. is_so_far: the year is
    not over. The table has no `is_history` days. Raises InvalidInput as `parameters` does, and if `days` are not
    airport days.
    """
    params = in_year_so_far(name, given or {}) if is_so_far else given or {}
    shared = importlib.import_module("utils.detectors.shared.verdicts")
    used_days = _with_useful_history(name, days, params)
    if is_so_far and not has_past_only(name):
        verdicts = shared.unscored(used_days, _module(name).METRIC)
    else:
        verdicts = without_history(load(name)(used_days, **params), used_days)
    hashed = verdicts.assign(params_hash=params_hash(name, params, excluded))
    table: pa.Table = shared.table(hashed, f"The verdict of {name}")
    return table


def expectations(days: pd.DataFrame, given: Mapping[str, object] | None = None) -> pd.DataFrame:
    """Return the published detector's EXPECTED_COLUMNS (see `attribution`) for the days that are not history."""
    module = _module(PUBLISHED)
    params = module.Parameters.checked(PUBLISHED, given or {})
    used_days = _with_useful_history(PUBLISHED, days, params.model_dump())
    return without_history(module.expectations(used_days, params), used_days)


def without_history(rows: pd.DataFrame, days: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose airport-days are not `is_history`; both frames have the same order."""
    if "is_history" not in days:
        return rows
    return rows[~days["is_history"].to_numpy(dtype=bool, na_value=False)]


def _with_useful_history(name: str, days: pd.DataFrame, params: Mapping[str, object]) -> pd.DataFrame:
    """Return the days of the year after the history that the detector uses."""
    judged_days = without_history(days, days)
    if len(judged_days) in (0, len(days)) or not has_past_only(name):
        return judged_days
    if params.get("past_only"):
        return days
    january = judged_days["fl_date"].astype("datetime64[ns]").min()
    return days[days["fl_date"].astype("datetime64[ns]") >= january - timedelta(days=SEASON_OF_HISTORY_DAYS)]


def _unknown(name: object) -> str:
    return f"{name} is not a detector; use one of {', '.join(NAMES)}."


def _module(name: str) -> Any:
    if name not in NAMES:
        raise InvalidInput(_unknown(name))
    return importlib.import_module(f"utils.detectors.{name}")
