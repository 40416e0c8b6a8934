"""The key of every object in the lake, and the years that a key may name.

A key is built here and nowhere else. What is stored under a key is `lake`'s.
"""

from __future__ import annotations

import re

from utils.errors import InvalidInput

FIRST_YEAR, LAST_YEAR = 1987, 2100  # the Bureau of Transportation Statistics publishes from October 1987 on
EXPLANATIONS = ("anomaly_reasons", "anomaly_factors", "events", "event_days")  # of the published verdicts, in gold


def check_year(year: int) -> int:
    """Return the year. Raises InvalidInput if no flights can be from it."""
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise InvalidInput(f"{year} is not a year of this dataset; choose one from {FIRST_YEAR} to {LAST_YEAR}.")
    return year


def bronze_keys(year: int) -> tuple[str, str]:
    """The two keys that the year's CSV may have; exactly one of them must exist."""
    return f"01_bronze/{year}.csv", f"01_bronze/{year}.csv.gz"


def fetch_record_key(year: int) -> str:
    """Where the year's CSV was fetched from, JSON; readers of bronze skip names with an underscore."""
    return f"01_bronze/_{year}.csv.json"


def silver_folder(year: int) -> str:
    """The folder of the year's silver parts and their manifest; ends with a slash, as every folder does."""
    return f"02_silver/flights/year={year}/"


def manifest_key(year: int) -> str:
    """The file that names the parts of the year's silver: what it does not name is not there."""
    return silver_folder(year) + "_manifest.json"


def sums_key(year: int) -> str:
    """The year's sums per airport and day, gold.SUMS; not beside the parts, where a glob would read them as flights."""
    return f"02_silver/sums/year={year}/sums.parquet"


def rejected_key(year: int) -> str:
    """The rows of the year that could not be used, schemas.REJECTED."""
    return f"02_silver/rejected/year={year}/rejected.parquet"


def quality_key(year: int) -> str:
    """The year's quality report as JSON."""
    return f"02_silver/quality/year={year}/quality.json"


def airport_days_key(year: int) -> str:
    """The year's gold, schemas.AIRPORT_DAYS."""
    return f"03_gold/airport_days/year={year}/airport_days.parquet"


def anomalies_key(year: int, detector: str) -> str:
    """One detector's verdicts on the year, schemas.ANOMALIES."""
    return f"03_gold/anomalies/detector={detector}/year={year}/anomalies.parquet"


def explanation_key(year: int, name: str) -> str:
    """Why the year's flagged days are abnormal; `name` is one of EXPLANATIONS, as is its schema."""
    return f"03_gold/{name}/year={year}/{name}.parquet"


def plots_folder(year: int) -> str:
    """Where the year's pictures and its page are."""
    return f"04_plots/year={year}/"


def plot_key(year: int, origin: str, name: str) -> str:
    """`name` is `daily_flights` or `daily_delay`. Raises InvalidInput for an origin that is no plain code."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,16}", origin):
        raise InvalidInput(f"The origin {origin!r} cannot be part of a key; correct it in the year's bronze file.")
    return f"{plots_folder(year)}origin={origin}/{name}.png"


def year_page_key(year: int) -> str:
    """The year on one page, HTML."""
    return plots_folder(year) + "index.html"


def alerts_key(year: int) -> str:
    """What was sent about the year, JSON; without it the next message repeats everything."""
    return f"05_alerts/{year}.json"


def probe_key(token: str) -> str:
    """What a check of the lake writes, reads and deletes; a token of its own for every check. Readers skip it."""
    return f"_probe-{token}"
