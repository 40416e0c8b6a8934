"""Propose other settings of one detector: their effect on a year of flights, and the changed detectors.yaml.

detectors.yaml is never replaced: a person reviews and commits the proposal. `metrics` has the measures, the
detectors have the valid parameters.
"""

from __future__ import annotations

import copy
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.util import load_yaml_guess_indent

from utils import detectors
from utils.detectors import Parameter
from utils.errors import InvalidInput
from utils.tuning import metrics
from utils.tuning.metrics import Estimate

_KEY = ["origin", "fl_date"]


# Effect


@dataclass(frozen=True)
class Cost:
    """The effect of one setting: number of flags, and how many are right by the other half of the flights."""

    flags: int
    flags_per_year: float  # per airport
    precision: Estimate  # share of one half's flags that are among the other half's worst days
    recall: Estimate  # share of the other half's worst days that this half flags
    right: int  # flags with the feedback `right`
    wrong: int


def cost(
    verdicts: pd.DataFrame, on_half: pd.DataFrame, labels: pd.DataFrame, feedback: pd.DataFrame, replicates: int = 400
) -> Cost:
    """Return the effect of a setting from its verdicts on all flights and on one half, with labels from the other half.

    verdicts, on_half: ANOMALIES with the setting, on all flights and on one of `labels.halves`; labels:
    `labels.worst_days` of the other half; feedback: rows of FEEDBACK. A detector has more noise on half of the
    flights, so it flags fewer days there than in `flags`.
    """
    flagged = verdicts[verdicts["is_anomaly"].eq(True)]
    dated_feedback = feedback.assign(fl_date=pd.to_datetime(feedback["fl_date"]))
    opinions = (
        flagged[_KEY].assign(fl_date=pd.to_datetime(flagged["fl_date"])).merge(dated_feedback, on=_KEY)["opinion"]
    )
    ranking = metrics.own_flags(labels, on_half)
    has_few_airports = ranking["origin"].nunique() < metrics.FEW_AIRPORTS
    block_days = metrics.BLOCK_DAYS if has_few_airports else None
    precision, recall = (
        metrics.bootstrap(ranking, metric, block_days=block_days, replicates=replicates)
        for metric in (metrics.precision, metrics.recall)
    )
    judged = int((verdicts["status"] == "ok").sum())
    return Cost(
        flags=len(flagged),
        flags_per_year=len(flagged) * metrics.DAYS_PER_YEAR / judged if judged else np.nan,
        precision=precision,
        recall=recall,
        right=int((opinions == "right").sum()),
        wrong=int((opinions == "wrong").sum()),
    )


# Changed file


def text(path: Path, detector: str, changed: Mapping[str, object]) -> str:
    """Return the text of `path`, a file like dags/detectors.yaml, with the parameters `changed` of `detector`.

    Only the changed values differ: comments, order and spelling stay. A comment may become wrong, so review the lines
    near a changed value. A parameter that the file does not have is inserted at the top of its block, a new block at
    the end of the file. Raises InvalidInput for an unknown detector or parameter, an invalid value, an invalid file,
    and a file that cannot be edited without other changes.
    """
    current = detectors.read_settings(path).get(detector, {})
    new = detectors.parameters(detector, {**current, **changed})
    differing = {name: _plain(new[name]) for name in changed if new[name] != current[name]}
    before = path.read_text(encoding="utf-8")
    if not differing:
        return before
    after = _edited(before, detector, differing)
    if after is None:
        lines = ", ".join(f"{name}: {json.dumps(value)}" for name, value in differing.items())
        raise InvalidInput(
            f"{path} cannot be changed without changing its other lines; edit it and set {lines} in {detector}."
        )
    return after


def write(text: str, name: str, folders: Sequence[Path]) -> Path:
    """Write a proposal into the first of the folders where this user may create the file, and return its path.

    In the stack, Jupyter may run as another user than the owner of notebooks/. Raises InvalidInput if no folder is
    writable.
    """
    refused = []
    for folder in folders:
        path = (folder / name).resolve()
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            refused.append(f"{path} cannot be written ({error.strerror})")
        else:
            return path
    raise InvalidInput(
        f"{' and '.join(refused)}; copy the lines above, or set DELAYWATCH_SCRATCH to a writable folder."
    )


def _edited(before: str, detector: str, differing: Mapping[str, object]) -> str | None:
    """Return the text with changed values of a detector, or None if the edit would change anything else."""
    root, yaml = _round_trip(before)
    if root is None:  # only comments, which ruamel.yaml does not keep
        return f"{before.rstrip()}\n\n{_written(yaml, {detector: dict(differing)})}".lstrip()
    if _written(yaml, root).rstrip() != before.rstrip():
        return None
    expected = {**copy.deepcopy(root), detector: {**(root.get(detector) or {}), **differing}}
    if not root.get(detector):
        root[detector] = CommentedMap()
    block = root[detector]
    for name, value in reversed(list(differing.items())):
        if name not in block:
            block.insert(0, name, value)
        elif isinstance(value, list):
            block[name][:] = value  # keeps the style and the comments of the list
        else:
            block[name] = value
    after = _written(yaml, root)
    return after if _round_trip(after)[0] == expected else None


def _round_trip(text: str) -> tuple[Any, YAML]:
    """Return the parsed YAML file, and a writer that keeps its comments, quotes and indent."""
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, sys.maxsize
    root, indent, _ = load_yaml_guess_indent(text, yaml=yaml)
    yaml.map_indent = indent or 2
    return root, yaml


def _written(yaml: YAML, root: Any) -> str:
    stream = io.StringIO()
    yaml.dump(root, stream)
    return stream.getvalue()


def _plain(value: Parameter) -> object:
    """Return the value as written in detectors.yaml: a list on one line, whole numbers without a fraction."""
    if isinstance(value, tuple):
        numbers = CommentedSeq([_plain(item) for item in value])
        numbers.fa.set_flow_style()
        return numbers
    return int(value) if isinstance(value, float) and value.is_integer() else value
