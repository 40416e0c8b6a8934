"""A year's verdicts as sentences, tables and the year page.

Pure: takes frames and bytes, returns frames and text. `year_page.html.j2` has the layout, `plots` draws the figures.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from utils.analysis import judged_days
from utils.errors import InvalidInput, Missing
from utils.reporting import wording
from utils.reporting.wording import METRIC_NAMES, MONTHS
from utils.schemas import DIRECTIONS, SEVERITIES

FIGURES = {
    "daily_flights": "flights per day, departed and cancelled, abnormal days marked",
    "daily_delay": "observed and expected delay per day with the usual range, abnormal days marked",
}
TOP = 10  # rows of each table of worst days, airports and events
OPINION_WORDS = {"expected": "Acknowledged by", "right": "Called a true alarm by", "wrong": "Called a false alarm by"}


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

    Ranked by number of abnormal airports, sum of their severities, their highest score, then date. Early airports do
    not count, and days without an abnormal airport are not listed. Columns: fl_date, airports (with flights),
    abnormal_airports, late, closures, scheduled, cancelled, mean_effective_delay_min (of the day's flights),
    worst_origin, sentence.
    """
    joined = judged_days.join(days, verdicts)
    dates = joined.loc[joined["is_bad"], "fl_date"].unique()
    rows = []
    for fl_date, day in joined[joined["fl_date"].isin(dates)].groupby("fl_date"):
        flagged = _worst_first(day[day["is_bad"]])
        row = {
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
        rank = (-len(flagged), -int(flagged["severity"].sum()), -_highest_score(flagged), fl_date)
        rows.append((rank, row | {"sentence": _network_sentence(row)}))
    columns = ["fl_date", "airports", "abnormal_airports", "late", "closures", "scheduled", "cancelled"]
    columns += ["mean_effective_delay_min", "worst_origin", "sentence"]
    best = sorted(rows, key=lambda ranked: ranked[0])[:n]
    return pd.DataFrame([row for _, row in best], columns=columns)


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


def _highest_score(flagged: pd.DataFrame) -> float:
    """Return the highest score; 0 if no day has a score, because a day can be flagged without one."""
    return float(flagged["score"].fillna(0.0).max()) if len(flagged) else 0.0


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", frame.to_dict("records"))


def _airports(joined: pd.DataFrame, sentences: Mapping[tuple[Any, Any], str]) -> list[dict[str, Any]]:
    """Return one row per airport for the page, busiest first."""
    rows = []
    for origin, days in joined.groupby("origin"):
        flagged = days[days["is_anomaly"]].sort_values("fl_date")
        scheduled = int(days["scheduled"].sum())
        rows.append(
            {
                "origin": origin,
                "anchor": _anchor(str(origin)),
                "flights": scheduled,
                "cancelled_share": days["cancelled"].sum() / scheduled if scheduled else np.nan,
                "effective_min": weighted_mean(days["mean_effective_delay_min"], days["scheduled"]),
                "abnormal": len(flagged),
                "bad": int(days["is_bad"].sum()),
                "score": _highest_score(days[days["is_bad"]]),
                **{name: int((flagged["direction"] == name).sum()) for name in DIRECTIONS},
                "sentences": [sentences[origin, day] for day in flagged["fl_date"]],
            }
        )
    return sorted(rows, key=lambda row: (-row["flights"], row["origin"]))


def _sentences(joined: pd.DataFrame, reasons: pd.DataFrame, feedback: pd.DataFrame) -> dict[tuple[Any, Any], str]:
    """Return the sentence of each flagged airport-day: its reasons if they are known, and its feedback."""
    key = ["origin", "fl_date"]
    flagged = joined[joined["is_anomaly"]]
    texts = {(row["origin"], row["fl_date"]): sentence(row, row) for row in _records(flagged)}
    why = reasons.assign(fl_date=pd.to_datetime(reasons["fl_date"]))
    texts |= dict(zip(why[key].itertuples(index=False, name=None), why["sentence"], strict=True))
    for row in _records(feedback.assign(fl_date=pd.to_datetime(feedback["fl_date"]))):
        if (day := (row["origin"], row["fl_date"])) in texts:
            texts[day] += f" {OPINION_WORDS[row['opinion']]} {row['author']}{': ' if row['note'] else ''}{row['note']}."
    return texts


def _feedback_counts(flagged: pd.DataFrame, feedback: pd.DataFrame) -> dict[str, Any]:
    """Return the numbers of flagged days with the feedback `right` and `wrong`, and the share of `right`."""
    opinions = flagged[["origin", "fl_date"]].merge(feedback, on=["origin", "fl_date"])["opinion"].value_counts()
    right, wrong = int(opinions.get("right", 0)), int(opinions.get("wrong", 0))
    return {"right": right, "wrong": wrong, "precision": right / (right + wrong) if right + wrong else np.nan}


def _detectors(verdicts: Mapping[str, pd.DataFrame], published: str, feedback: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one row per detector, the published one first."""
    feedback = feedback.assign(fl_date=pd.to_datetime(feedback["fl_date"]))
    rows = []
    for name in sorted(verdicts, key=lambda name: (name != published, name)):
        own_verdicts = verdicts[name]
        flagged = own_verdicts[own_verdicts["is_anomaly"].eq(True)]
        judged = int((own_verdicts["status"] == "ok").sum())
        rows.append(
            {
                "name": name,
                "flagged": len(flagged),
                "share": len(flagged) / judged if judged else np.nan,
                "airports": int(flagged["origin"].nunique()),
                "judged": judged,
                "not_judged": len(own_verdicts) - judged,
                **_feedback_counts(flagged.assign(fl_date=pd.to_datetime(flagged["fl_date"])), feedback),
            }
        )
    return rows


def _key_figures(joined: pd.DataFrame) -> dict[str, Any]:
    scheduled = int(joined["scheduled"].sum())
    flying = joined[joined["scheduled"] > 0]
    return {
        "flights": scheduled,
        "airports": int(flying["origin"].nunique()),
        "airport_days": len(flying),
        "cancelled_share": joined["cancelled"].sum() / scheduled if scheduled else np.nan,
        "mean_delay_min": weighted_mean(joined["mean_dep_delay_min"], joined["departed"]),
        "effective_min": weighted_mean(joined["mean_effective_delay_min"], joined["scheduled"]),
        "abnormal": int(joined["is_anomaly"].sum()),
    }


def _coverage(joined: pd.DataFrame) -> dict[str, float]:
    """Return the shares of the days with a band that are inside it, of the days without a flag and of all days."""
    with_band = joined[joined[["observed", "lower", "upper"]].notna().all(axis=1)]
    is_inside = (with_band["observed"] >= with_band["lower"]) & (with_band["observed"] <= with_band["upper"])
    return {"without_flag": is_inside[~with_band["is_anomaly"].astype(bool)].mean(), "all": is_inside.mean()}


# Page


def year_page(
    year: int,
    days: pd.DataFrame,
    verdicts: Mapping[str, pd.DataFrame],
    published: str,
    quality: Mapping[str, Any],
    plots: Iterable[tuple[str, str, bytes]],
    *,
    reasons: pd.DataFrame,
    events: pd.DataFrame,
    feedback: pd.DataFrame,
) -> str:
    """Return the year as one HTML file that loads no other file: figures are embedded.

    days: rows of AIRPORT_DAYS; verdicts: rows of ANOMALIES by detector; published: the detector that the page shows;
    quality: the year's quality report; plots: (origin, kind, PNG) as `plots.render_year` yields them, in any order;
    reasons, events, feedback: rows of ANOMALY_REASONS, EVENTS and FEEDBACK. Deterministic. Raises Missing if the
    published detector has no verdicts, InvalidInput for a figure of another airport or of an unknown kind.
    """
    if published not in verdicts:
        detectors = ", ".join(sorted(verdicts)) or "no detector"
        raise Missing(f"{year} has verdicts of {detectors}, not of {published}; run the detect step of {year}.")
    joined = judged_days.join(days, verdicts[published])
    sentences = _sentences(joined, reasons, feedback)
    airports = _airports(joined, sentences)
    return _template().render(
        year=year,
        published=published,
        key=_key_figures(joined),
        coverage=_coverage(joined),
        detectors=_detectors(verdicts, published, feedback),
        grid=_severity_grid(joined),
        severities=SEVERITIES[1:],
        airports=airports,
        figures=_figures(plots, [row["origin"] for row in airports], year),
        **_worst(days, verdicts[published], events, airports, sentences),
        **_quality(quality),
    )


def _figures(plots: Iterable[tuple[str, str, bytes]], origins: list[str], year: int) -> dict[str, list[dict[str, Any]]]:
    """Return the figures by airport, in the order of FIGURES."""
    figures: dict[str, list[dict[str, Any]]] = {origin: [] for origin in origins}
    for origin, kind, png in plots:
        if origin not in figures:
            raise InvalidInput(f"A figure shows {origin}, which has no days in {year}; run the plot step again.")
        if kind not in FIGURES:
            raise InvalidInput(f"The year page cannot show the figure {kind} of {origin}; delete the figure.")
        figures[origin].append(_figure(origin, year, kind, png))
    for shown in figures.values():
        shown.sort(key=lambda figure: list(FIGURES).index(figure["kind"]))
    return figures


def _worst(
    days: pd.DataFrame,
    verdicts: pd.DataFrame,
    events: pd.DataFrame,
    airports: list[dict[str, Any]],
    sentences: Mapping[tuple[Any, Any], str],
) -> dict[str, Any]:
    """Return the tables of the largest events and of the worst days, airport-days and airports."""
    airport_days = _records(worst_airport_days(days, verdicts, TOP))
    return {
        "events": _records(largest_events(events, TOP)),
        "event_count": len(events),
        "single_count": int((events["airports"] == 1).sum()),
        "worst_days": _records(worst_days(days, verdicts, TOP)),
        "worst_airport_days": [
            row | {"anchor": _anchor(row["origin"]), "sentence": sentences[row["origin"], row["fl_date"]]}
            for row in airport_days
        ],
        "worst_airports": sorted(
            (row for row in airports if row["bad"]), key=lambda row: (-row["bad"], -row["score"], row["origin"])
        )[:TOP],
    }


def _quality(quality: Mapping[str, Any]) -> dict[str, Any]:
    """Return the quality report with its tables of months and of missing values."""
    nulls = sorted(quality["null_share"].items(), key=lambda item: (-item[1], item[0]))
    return {"quality": quality, "months": _months(quality), "nulls": nulls}


def _anchor(origin: str) -> str:
    return f"airport-{quote(origin, safe='')}"


def _severity_grid(joined: pd.DataFrame) -> dict[str, list[int]]:
    """Count flagged airport-days per direction and severity, mild first."""
    flagged = joined[joined["is_anomaly"]]
    counts = flagged.groupby(["direction", "severity"]).size()
    return {name: [int(counts.get((name, level), 0)) for level in range(1, len(SEVERITIES))] for name in DIRECTIONS}


def _months(quality: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per month of the quality report, with its problems in words."""
    unusual = {entry["month"]: entry["typical"] for entry in quality.get("unusual_months", [])}
    rows = []
    for month, name in enumerate(MONTHS, start=1):
        notes = ["missing"] if month in quality["missing_months"] else []
        notes += ["was in the file twice"] if month in quality["doubled_months"] else []
        notes += [f"usually about {unusual[month]:,.0f}"] if month in unusual else []
        rows.append(
            {
                "name": name,
                "rows": quality["rows_per_month"].get(str(month), 0),
                "duplicates": quality["duplicate_per_month"].get(str(month), 0),
                "note": ", ".join(notes),
            }
        )
    return rows


def _figure(origin: str, year: int, kind: str, png: bytes) -> dict[str, Any]:
    width, height = struct.unpack(">II", png[16:24])  # the first chunk of every PNG, see RFC 2083, 4.1.1
    # Base64 needs no HTML escaping, which would be slow for megabytes of text.
    address = Markup("data:image/png;base64,") + Markup(base64.b64encode(png).decode("ascii"))  # noqa: S704 # nosec B704
    return {
        "kind": kind,
        "address": address,
        "width": width,
        "height": height,
        "alt": f"{origin} {year}: {FIGURES[kind]}",
    }


def _csp_hash(source: str) -> str:
    """Return the Content-Security-Policy source expression that allows exactly this inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


@functools.lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "date": wording.date,
        "number": lambda value: f"{int(value):,}",
        "percent": wording.percent,
        "minutes": wording.minutes,
        "csp_hash": _csp_hash,
    }
    return environment.get_template("year_page.html.j2")
