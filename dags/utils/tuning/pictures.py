"""Pictures of a comparison of detectors, on axes of matplotlib, for notebook 03 and benchmarks/detection. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from utils.reporting import palette

SHADES = LinearSegmentedColormap.from_list("", [palette.PAPER, palette.EXPECTED])


def precision_recall(
    axes: Axes, curves: Mapping[str, pd.DataFrame], colours: Mapping[str, str], bold: str, title: str
) -> None:
    """Draw `metrics.curve` of each detector, the line of `bold` thicker.

    A line ends where days have no score. Of points with the same recall, the one with the highest precision is drawn.
    """
    for name, curve in curves.items():
        shown = curve[np.isfinite(curve["score"])].drop_duplicates("recall")
        width = 3.0 if name == bold else 1.4
        axes.plot(shown["recall"], shown["precision"], color=colours[name], lw=width, label=name)
    axes.set(
        title=title,
        xlabel="recall: share of the bad days that are flagged",
        ylabel="precision: share of the flags that are bad days",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axes.grid(color=palette.GRID)
    axes.spines[["top", "right"]].set_visible(False)


def shared_flags(axes: Axes, share: pd.DataFrame, text: pd.DataFrame, title: str) -> None:
    """Draw a heat map: `share` of the row's flags that the column's detector also sets, with `text` in each cell."""
    shares = share.to_numpy(dtype=float)
    axes.imshow(shares, vmin=0, vmax=1, aspect="auto", cmap=SHADES)
    for row, column in np.ndindex(shares.shape):
        colour = palette.PAPER if shares[row, column] > 0.6 else palette.INK
        axes.text(column, row, str(text.iloc[row, column]), ha="center", va="center", color=colour)
    axes.set_xticks(range(shares.shape[1]), list(share.columns), rotation=20, ha="right")
    axes.set_yticks(range(shares.shape[0]), list(share.index))
    axes.set_title(title)
