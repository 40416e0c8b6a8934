"""A year's verdicts as sentences and ranked tables, for notebooks, the demo and notifications. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pandas as pd

from utils.analysis import judged_days
from utils.reporting import wording
from utils.reporting.wording import METRIC_NAMES

# Sentences


def sentence(day: Mapping[str, Any] | pd.Series, verdict: Mapping[str, Any] | pd.Series) -> str:
    """Describe one airport-day in one sentence. day: a row of AIRPORT_DAYS; verdict: a row of ANOMALIES."""
    subject = f"{day['origin']}, {wording.date(day['fl_date'])}"
    if not day["scheduled"]:
        return f"{subject}: no scheduled flights."
    facts = [wording.count(day["scheduled"], "scheduled flight")]
    if not pd.isna(verdict["observed"]):
        expected = "" if pd.isna(verdict["expected"]) else f" (expected {verdict['expected']:.0f})"
        name = METRIC_NAMES.get(verdict["metric"], verdict["metric"])
        facts.append(f"{verdict['observed']:.0f} min {name}{expected}")
    facts.append(wording.cancelled(day["cancelled"], day["scheduled"]))
    return f"{subject}: {', '.join(facts)}: {_verdict(verdict)}."


def _verdict(verdict: Mapping[str, Any] | pd.Series) -> str:
    if verdict["is_anomaly"]:
        return wording.flag(verdict["direction"], verdict["severity"])
    return "as usual" if verdict["status"] == "ok" else "too few flights to judge"


def _network_sentence(row: Mapping[str, Any]) -> str:
    kinds = [wording.count(row["closures"], "closure")] if row["closures"] else []
    kinds += [f"{row['late']} late"] if row["late"] else []
    return (
        f"{wording.date(row['fl_date'])}: {row['abnormal_airports']} of {wording.count(row['airports'], 'airport')} "
        f"abnormal ({', '.join(kinds)}), {wording.count(row['scheduled'], 'scheduled flight')}, "
        f"{row['mean_effective_delay_min']:.0f} min effective delay, "
        f"{wording.cancelled(row['cancelled'], row['scheduled'])}; worst at {row['worst_origin']}."
    )


# Tables


def weighted_mean(values: pd.Series, weights: pd.Series) -> float:
    """Return the weighted mean of `values` without missing values; NaN if all are missing.

    A year's mean delay must weigh days by flights: the plain mean of daily means would give an airport's quiet days the
    weight of its busy ones. Gold's counts are close to the number of flights behind a daily mean, not equal: use
    `departed` for the mean delay and `scheduled` for the effective delay; both include the few flights that departed
    with an unknown delay.
    """
    known = values.notna()
    total = float(weights[known].sum())
    return float((values[known].astype("float64") * weights[known]).sum()) / total if total else float("nan")


def worst_days(days: pd.DataFrame, verdicts: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return the `n` worst days of the network, worst first, one row each with a sentence.

    Ranked by number of abnormal airports, effective delay per flight, then date, as on the site. Early airports do not
    count, and days without an abnormal airport are not listed. Columns: fl_date, airports (with flights),
    abnormal_airports, late, closures, scheduled, cancelled, mean_effective_delay_min (of the day's flights),
    worst_origin, sentence.
    """
    joined = judged_days.join(days, verdicts)
    dates = joined.loc[joined["is_bad"], "fl_date"].unique()
    rows = []
    for fl_date, day in joined[joined["fl_date"].isin(dates)].groupby("fl_date"):
        flagged = _worst_first(day[day["is_bad"]])
        row: dict[str, Any] = {
            "fl_date": fl_date,
            "airports": int((day["scheduled"] > 0).sum()),
            "abnormal_airports": len(flagged),
            "late": int((flagged["direction"] == "late").sum()),
            "closures": int((flagged["direction"] == "closure").sum()),
            "scheduled": int(day["scheduled"].sum()),
            "cancelled": int(day["cancelled"].sum()),
            "mean_effective_delay_min": weighted_mean(day["mean_effective_delay_min"], day["scheduled"]),
            "worst_origin": flagged["origin"].iloc[0],
        }
        rows.append(row | {"sentence": _network_sentence(row)})
    columns = ["fl_date", "airports", "abnormal_airports", "late", "closures", "scheduled", "cancelled"]
    columns += ["mean_effective_delay_min", "worst_origin", "sentence"]
    order = {"abnormal_airports": False, "mean_effective_delay_min": False, "fl_date": True}
    worst = pd.DataFrame(rows, columns=columns).sort_values(list(order), ascending=list(order.values()))
    return worst.head(n).reset_index(drop=True)


def worst_airport_days(days: pd.DataFrame, verdicts: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return the `n` worst late or closed airport-days, worst first: all columns of both frames, and a sentence.

    Ranked by severity, then score, then airport and date.
    """
    joined = judged_days.join(days, verdicts)
    worst = _worst_first(joined[joined["is_bad"]]).head(n).drop(columns="is_bad").reset_index(drop=True)
    return worst.assign(sentence=[sentence(row, row) for row in _records(worst)])


def largest_events(events: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return the `n` largest events by number of airports, then airport-days, severity and first day.

    Ranked by airports first: by airport-days, one airport closed for a week would rank above a storm at six airports.
    """
    order = {"airports": False, "airport_days": False, "severity": False, "first_day": True, "event_id": True}
    return events.sort_values(list(order), ascending=list(order.values()), kind="stable").head(n)


def _worst_first(flagged: pd.DataFrame) -> pd.DataFrame:
    order = {"severity": False, "score": False, "origin": True, "fl_date": True}
    return flagged.sort_values(list(order), ascending=list(order.values()), kind="stable")


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", frame.to_dict("records"))
