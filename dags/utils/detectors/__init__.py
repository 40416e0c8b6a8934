"""The detectors by name: their settings, and running one over a year of airport days. No method lives here.

The contract: `detect(days, **params) -> verdicts`, over all airports of one year at once. `days` has the columns of
`schemas.AIRPORT_DAYS`, its rows in any order and with any index; the result has the same index and order and the
columns of `schemas.ANOMALIES` without `params_hash`. A detector is deterministic, changes nothing in place, never flags
a day without a value, and says `insufficient_data` instead of guessing from too few days or flights.

`days` may have two more columns of booleans (absent: all False). Days that are `is_excluded`, known incidents, are
scored and not used for fitting: their values change the verdict of no other day. Days that are `is_expected`, by
feedback, are scored and not used for fitting their own airport; the verdicts of all other airports are the same with
and without this column. `verdicts.Calendar` does both for a detector that fits each airport by itself; one that fits
something over several airports must use first columns alone there.

To add a detector: write `detectors/<name>.py` with a function `detect`, whose keyword-only parameters carry the
defaults, and a table `LIMITS` with the lowest and highest value of every number among them; put the name into `NAMES`
and a block into `dags/detectors.yaml`. `verdicts.py` has what detectors share. The contract's test in
tests/unit/test_detectors.py runs over `NAMES` by itself.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from utils.errors import DelaywatchError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

NAMES = ("three_sigma", "isolation_forest", "arima", "random_cut_forest", "gradient_boosting", "delaywatch")
PUBLISHED = "delaywatch"  # the one whose verdict the year page, the plots and the dashboard show

Parameter = bool | int | float | tuple[float, ...]


class Detect(Protocol):
    """The contract's signature; parameters are keyword-only and have defaults."""

    def __call__(self, days: pd.DataFrame, **params: Any) -> pd.DataFrame:
        """Judge every airport and day of one year."""


def load(name: str) -> Detect:
    """The function `detect` of the detector called `name`.

    Raises DelaywatchError when there is no such detector.
    """
    detect: Detect = _module(name).detect
    return detect


def parameters(name: str, given: Mapping[str, object] | None = None) -> dict[str, Parameter]:
    """All parameters that the detector called `name` runs with: its defaults, replaced by those in `given`.

    Raises DelaywatchError for an unknown detector or parameter and for a value of the wrong kind or out of range.
    """
    defaults, limits = _defaults(name), _module(name).LIMITS
    for parameter, value in (given or {}).items():
        if parameter not in defaults:
            known = ", ".join(defaults)
            raise DelaywatchError(f"{name} has no parameter {parameter}; it has {known}.")
        defaults[parameter] = _checked(f"{name}: {parameter}", value, defaults[parameter], limits.get(parameter))
    return defaults


def params_hash(name: str, given: Mapping[str, object] | None = None, excluded: str = "") -> str:
    """12 hexadecimal digits that name the detector, every parameter's value, written out or not, and what is excluded.

    excluded: which days are not used for fitting, as `incidents.fingerprint` returns them.
    """
    what = [name, parameters(name, given), *([excluded] if excluded else [])]
    canonical = json.dumps(what, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def read_settings(path: Path) -> dict[str, dict[str, Parameter]]:
    """The parameters of every detector in NAMES: what `path`, a file like dags/detectors.yaml, says, else the default.

    Raises DelaywatchError naming the file and the line of whatever cannot be used.
    """
    from utils import yaml_file

    root = yaml_file.read(path, "detectors.yaml")
    settings = {name: parameters(name) for name in NAMES}
    for name, name_line, block in yaml_file.entries(path, root, "detector: its parameters"):
        if name not in NAMES:
            raise DelaywatchError(f"{path}, line {name_line}: {_unknown(name)}")
        for parameter, line, node in yaml_file.entries(path, block, "parameter: value"):
            value = yaml_file.value_of(node)
            try:
                settings[name] = parameters(name, {**settings[name], parameter: value})
            except DelaywatchError as error:
                raise DelaywatchError(f"{path}, line {line}: {error}") from error
    return settings


def run(name: str, days: pd.DataFrame, given: Mapping[str, object] | None = None, excluded: str = "") -> pa.Table:
    """Judge `days` with the detector called `name`: a table with exactly `schemas.ANOMALIES`, by origin and fl_date.

    excluded: the fingerprint of `is_excluded` and `is_expected` of `days`, for `params_hash`. Raises DelaywatchError as
    `parameters` does, and when `days` are not airport days.
    """
    import pyarrow as pa

    from utils import schemas

    found = load(name)(days, **parameters(name, given)).assign(params_hash=params_hash(name, given, excluded))
    found = found.sort_values(["origin", "fl_date"])
    table = pa.Table.from_pandas(found, schema=schemas.ANOMALIES, preserve_index=False).replace_schema_metadata(None)
    return schemas.check(table, schemas.ANOMALIES, f"The verdict of {name}")


def expectations(days: pd.DataFrame, given: Mapping[str, object] | None = None) -> pd.DataFrame:
    """What the published detector expects of each day: EXPECTED columns of `reasons`, with the index of `days`."""
    found: pd.DataFrame = _module(PUBLISHED).expectations(days, **parameters(PUBLISHED, given))
    return found


def _unknown(name: str) -> str:
    return f"there is no detector {name}; there are {', '.join(NAMES)}."


def _module(name: str) -> ModuleType:
    if name not in NAMES:
        raise DelaywatchError(_unknown(name))
    return importlib.import_module(f"utils.detectors.{name}")


def _defaults(name: str) -> dict[str, Parameter]:
    signature = inspect.signature(load(name))
    return {key: p.default for key, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _checked(what: str, value: object, default: Parameter, limits: tuple[float, float] | None) -> Parameter:
    """`value` as the type of `default`. A whole number may stand for a fraction; nothing else is converted."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise DelaywatchError(f"{what} is {value!r}; it must be true or false.")
        return value
    if isinstance(default, tuple):
        wanted = f"a list of {len(default)} ascending numbers"
        if not isinstance(value, list | tuple) or len(value) != len(default):
            raise DelaywatchError(f"{what} is {value!r}; it must be {wanted}, such as {list(default)}.")
        items = [_checked(what, item, like, limits) for item, like in zip(value, default, strict=True)]
        numbers = tuple(float(item) for item in items if not isinstance(item, tuple))
        if sorted(numbers) != list(numbers):
            raise DelaywatchError(f"{what} is {value!r}; it must be {wanted}, such as {list(default)}.")
        return numbers
    kind = "a whole number" if isinstance(default, int) else "a number"
    low, high = limits or (float("-inf"), float("inf"))
    is_number = isinstance(value, int | float if isinstance(default, float) else int) and not isinstance(value, bool)
    if not (is_number and isinstance(value, int | float) and low <= value <= high):
        raise DelaywatchError(f"{what} is {value!r}; it must be {kind} from {low:g} to {high:g}.")
    return type(default)(value)
