"""Airport-days joined with the verdicts of one detector."""

from __future__ import annotations

import pandas as pd

from utils.errors import Missing

KEY = ["origin", "fl_date"]


def join(days: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return `days` with the columns of their verdicts, in the order of `days`, with dates as timestamps.

    `is_anomaly` is False on a day without a verdict; `is_bad` is True on a flagged day whose direction is not early.
    Raises Missing if a flagged day is not in `days`.
    """
    left, right = (frame.assign(fl_date=pd.to_datetime(frame["fl_date"])) for frame in (days, verdicts))
    joined = left.merge(right, on=KEY, how="left", validate="one_to_one")
    joined["is_anomaly"] = joined["is_anomaly"].eq(True)
    flagged = right[right["is_anomaly"].eq(True)]
    if joined["is_anomaly"].sum() < len(flagged):
        is_lost = ~pd.MultiIndex.from_frame(flagged[KEY]).isin(pd.MultiIndex.from_frame(left[KEY]))
        lost = flagged[is_lost].iloc[0]
        raise Missing(
            f"{lost['origin']} has a verdict on {lost['fl_date']:%F} but no airport-day; run the detect step again."
        )
    return joined.assign(is_bad=joined["is_anomaly"] & (joined["direction"] != "early"))
