"""A proposal: other settings of one detector. What they would cost on a year's flights, and the file that says them.

detectors.yaml is never replaced: a person looks at the proposal and commits it. How quality is measured is
`evaluation`'s, what a parameter may be is the detectors'.
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
from utils.tuning import evaluation
from utils.tuning.evaluation import Estimate

_KEY = ["origin", "fl_date"]


# What it costs


@dataclass(frozen=True)
class Cost:
    """What one setting gives: how many flags, and how many of them are right by the other half of the flights."""

    flags: int
    flags_per_year: float  # of one airport
    precision: Estimate  # of the flags from one half: are they among the other half's worst days?
    recall: Estimate  # of the other half's worst days: are they flagged from this half?
    right: int  # flags that somebody called right
    wrong: int


def own_flags(labels: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """`evaluation.ranked` with the flags that the detector's own settings set, instead of a budget of flags.

    A labelled day without a verdict has no flag.
    """
    said = verdicts.loc[verdicts["is_anomaly"].eq(True), _KEY].assign(flag=1.0)
    said["fl_date"] = pd.to_datetime(said["fl_date"])
    ranking = evaluation.ranked(labels, verdicts).drop(columns="flag")
    return ranking.merge(said, on=_KEY, how="left", validate="one_to_one").fillna({"flag": 0.0})


def cost(
    verdicts: pd.DataFrame, on_half: pd.DataFrame, labels: pd.DataFrame, feedback: pd.DataFrame, replicates: int = 400
) -> Cost:
    """What a setting costs: its verdicts on all flights and on one half, against labels from the other half.

    verdicts, on_half: ANOMALIES with the setting, of all flights and of one of `evaluation.halves`; labels:
    `evaluation.worst_days` of the other; feedback: rows of FEEDBACK. With half of the flights a detector is less sure,
    so it flags somewhat less there than in `flags`.
    """
    flagged = verdicts[verdicts["is_anomaly"].eq(True)]
    said = feedback.assign(fl_date=pd.to_datetime(feedback["fl_date"]))
    opinions = flagged[_KEY].assign(fl_date=pd.to_datetime(flagged["fl_date"])).merge(said, on=_KEY)["opinion"]
    ranking = own_flags(labels, on_half)
    has_few_airports = ranking["origin"].nunique() < evaluation.FEW_AIRPORTS
    block_days = evaluation.BLOCK_DAYS if has_few_airports else None
    precision, recall = (
        evaluation.bootstrap(ranking, measure, block_days=block_days, replicates=replicates)
        for measure in (evaluation.precision, evaluation.recall)
    )
    judged = int((verdicts["status"] == "ok").sum())
    return Cost(
        flags=len(flagged),
        flags_per_year=len(flagged) * evaluation.DAYS_PER_YEAR / judged if judged else np.nan,
        precision=precision,
        recall=recall,
        right=int((opinions == "right").sum()),
        wrong=int((opinions == "wrong").sum()),
    )


# How it is written


def text(path: Path, detector: str, changed: Mapping[str, object]) -> str:
    """What `path`, a file like dags/detectors.yaml, would be with `changed` among the parameters of `detector`.

    Only the changed values differ: comments, order and spelling of all else stay, also a comment that the new value
    makes untrue, so whoever changes a value reads what stands beside it. A parameter that the file does not have goes
    to the top of its block, a block that it does not have to the end of the file. Raises InvalidInput for an unknown
    detector or parameter, an impossible value, a file that cannot be used and one that only a person can change.
    """
    now = detectors.read_settings(path).get(detector, {})
    wanted = detectors.parameters(detector, {**now, **changed})
    differing = {name: _plain(wanted[name]) for name in changed if wanted[name] != now[name]}
    before = path.read_text(encoding="utf-8")
    if not differing:
        return before
    after = _edited(before, detector, differing)
    if after is None:
        lines = ", ".join(f"{name}: {json.dumps(value)}" for name, value in differing.items())
        raise InvalidInput(f"{path} is written so that only a person can change it; write {lines} into its {detector}.")
    return after


def write(text: str, name: str, folders: Sequence[Path]) -> Path:
    """Write a proposal into the first of the folders where this user may create the file, and return its path.

    In the stack Jupyter may be another user than the owner of notebooks/. Raises InvalidInput if no folder works.
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
        f"{' and '.join(refused)}; copy the lines above, or set DELAYWATCH_SCRATCH to a folder that you may write to."
    )


def _edited(before: str, detector: str, differing: Mapping[str, object]) -> str | None:
    """Return the text with other values of a detector, or None where that would change anything else."""
    root, yaml = _round_trip(before)
    if root is None:  # nothing but comments, which ruamel.yaml does not keep
        return f"{before.rstrip()}\n\n{_written(yaml, {detector: dict(differing)})}".lstrip()
    if _written(yaml, root).rstrip() != before.rstrip():
        return None
    meant = {**copy.deepcopy(root), detector: {**(root.get(detector) or {}), **differing}}
    if not root.get(detector):
        root[detector] = CommentedMap()
    block = root[detector]
    for name, value in reversed(list(differing.items())):
        if name not in block:
            block.insert(0, name, value)
        elif isinstance(value, list):
            block[name][:] = value  # a list keeps its style and its comments
        else:
            block[name] = value
    after = _written(yaml, root)
    return after if _round_trip(after)[0] == meant else None


def _round_trip(text: str) -> tuple[Any, YAML]:
    """Return what a YAML file says, and the writer that keeps its comments, quotes and indent."""
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
    """Return the value as detectors.yaml spells it: a list on one line, whole numbers without a fraction."""
    if isinstance(value, tuple):
        numbers = CommentedSeq([_plain(item) for item in value])
        numbers.fa.set_flow_style()
        return numbers
    return int(value) if isinstance(value, float) and value.is_integer() else value
