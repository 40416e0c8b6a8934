"""A proposal: other settings of one detector. What they would cost on a year's flights, and the file that says them.

detectors.yaml is never replaced: a person looks at the proposal and commits it. How quality is measured is
`evaluation`'s, what a parameter may be is the detectors'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from utils import detectors
from utils.detectors import Parameter
from utils.errors import DelaywatchError
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
    to the top of its block, a block that it does not have to the end of the file. Raises DelaywatchError for an unknown
    detector or parameter, an impossible value, a file that cannot be used and one that only a person can change.
    """
    now = detectors.read_settings(path).get(detector, {})
    wanted = detectors.parameters(detector, {**now, **changed})
    differing = {name: _plain(wanted[name]) for name in changed if wanted[name] != now[name]}
    written = path.read_text(encoding="utf-8")
    meant = yaml.safe_load(written) or {}
    for name, value in differing.items():
        written = _with(written, detector, name, value)
        meant = {**meant, detector: {**(meant.get(detector) or {}), name: value}}
        if not _says(written, meant):
            raise DelaywatchError(
                f"{path} is written so that only a person can change it; write {_shown(differing)} into its {detector}."
            )
    return written


def write(text: str, name: str, folders: Sequence[Path]) -> Path:
    """Write a proposal into the first of the folders where this user may create the file, and return its path.

    In the stack Jupyter may be another user than the owner of notebooks/. Raises DelaywatchError if no folder works.
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
    raise DelaywatchError(
        f"{' and '.join(refused)}; copy the lines above, or set DELAYWATCH_SCRATCH to a folder that you may write to."
    )


def _with(before: str, detector: str, name: str, value: object) -> str:
    """The text of a YAML file with one value more or in place of another."""
    line = f"{name}: {_shown(value)}"
    block = _entry(yaml.compose(before, Loader=yaml.SafeLoader), detector)
    if block is None:
        return f"{before.rstrip()}\n\n{detector}:\n  {line}\n".lstrip()
    if not (isinstance(block, yaml.MappingNode) and block.value):  # nothing stands after the detector's name, or {}
        return f"{before[: block.start_mark.index].rstrip(' ')}\n  {line}{before[block.end_mark.index :]}"
    found = _entry(block, name)
    if found is not None:
        if isinstance(found, yaml.CollectionNode) and not found.flow_style:
            return before  # over several lines: it ends where the next value begins, past comments
        return before[: found.start_mark.index] + _shown(value) + before[found.end_mark.index :]
    first = block.value[0][0].start_mark
    between = ", " if block.flow_style else f"\n{' ' * first.column}"
    return f"{before[: first.index]}{line}{between}{before[first.index :]}"


def _entry(mapping: yaml.Node | None, key: str) -> yaml.Node | None:
    entries = mapping.value if isinstance(mapping, yaml.MappingNode) else []
    return next((value for name, value in entries if name.value == key), None)


def _plain(value: Parameter) -> object:
    """As YAML knows it: tuples are lists, and whole numbers are written without a fraction."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: object) -> str:
    """On one line, as in detectors.yaml."""
    return yaml.safe_dump([value], default_flow_style=True, width=float("inf")).strip()[1:-1]


def _says(written: str, meant: Mapping[str, object]) -> bool:
    try:
        return (yaml.safe_load(written) or {}) == meant
    except yaml.YAMLError:
        return False
