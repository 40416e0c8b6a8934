"""Build the key of every object in the lake, and check years.

No other module builds keys. `lake` reads and writes the objects.
"""

from __future__ import annotations

import re

from utils.errors import InvalidInput

FIRST_YEAR, LAST_YEAR = 1987, 2100  # the Bureau of Transportation Statistics has data since October 1987
SILVER_FLIGHTS = "02_silver/flights/"
SITE_FOLDER = "04_plots/"  # the pages lie above the plots, which they show
# Gold tables that explain the published verdicts.
EXPLANATIONS = ("anomaly_reasons", "anomaly_factors", "events", "event_days")


def check_year(year: int) -> int:
    """Return the year. Raises InvalidInput unless it is from FIRST_YEAR to LAST_YEAR."""
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise InvalidInput(f"The year {year} is not in this dataset; choose a year from {FIRST_YEAR} to {LAST_YEAR}.")
    return year


def bronze_keys(year: int) -> tuple[str, str]:
    """Return both possible keys of the year's CSV; exactly one of the objects must exist."""
    return f"01_bronze/{year}.csv", f"01_bronze/{year}.csv.gz"


def fetch_record_key(year: int) -> str:
    """Return the key of the JSON record of the fetch. Readers of bronze skip names that begin with an underscore."""
    return f"01_bronze/_{year}.csv.json"


def silver_folder(year: int) -> str:
    """Return the folder of the year's silver parts and their manifest; folders end with a slash."""
    return f"{SILVER_FLIGHTS}year={year}/"


def manifest_key(year: int) -> str:
    """Return the key of the manifest of the year's silver. Parts that it does not name do not count."""
    return silver_folder(year) + "_manifest.json"


def sums_key(year: int) -> str:
    """Return the key of the year's gold.SUMS; in its own folder, so that a glob over the flights does not read it."""
    return f"02_silver/sums/year={year}/sums.parquet"


def rejected_key(year: int) -> str:
    """Return the key of the year's rejected rows, schemas.REJECTED."""
    return f"02_silver/rejected/year={year}/rejected.parquet"


def quality_key(year: int) -> str:
    """Return the key of the year's quality report, JSON."""
    return f"02_silver/quality/year={year}/quality.json"


def airport_days_key(year: int) -> str:
    """Return the key of the year's airport-days, schemas.AIRPORT_DAYS."""
    return f"03_gold/airport_days/year={year}/airport_days.parquet"


def history_key(year: int) -> str:
    """Return the key of the copy of the airport-days of the year before, schemas.AIRPORT_DAYS."""
    return f"03_gold/history/year={year}/history.parquet"


def anomalies_key(year: int, detector: str) -> str:
    """Return the key of one detector's verdicts, schemas.ANOMALIES."""
    return f"03_gold/anomalies/detector={detector}/year={year}/anomalies.parquet"


def explanation_key(year: int, name: str) -> str:
    """Return the key of an explanation table; `name` is one of EXPLANATIONS and names its schema."""
    return f"03_gold/{name}/year={year}/{name}.parquet"


def plots_folder(year: int) -> str:
    """Return the folder of the year's plots."""
    return f"{SITE_FOLDER}year={year}/"


def plot_key(year: int, origin: str, name: str) -> str:
    """Return the key of the plot `daily_flights` or `daily_delay`. Raises InvalidInput for an unsafe origin."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,16}", origin):
        raise InvalidInput(f"The origin {origin!r} is not an airport code; correct it in the bronze file of {year}.")
    return f"{plots_folder(year)}origin={origin}/{name}.png"


def site_key(path: str = "index.html") -> str:
    """Return the key of a page of the site, or of a file beside the pages. Raises InvalidInput for an unsafe path."""
    if ".." in path or not re.fullmatch(r"[A-Za-z0-9_./-]+", path):
        raise InvalidInput(f"The site cannot have a page {path!r}; correct the airport code in the bronze file.")
    return f"{SITE_FOLDER}{path}"


def site_year_key(year: int) -> str:
    """Return the key of the year's page, HTML."""
    return site_key(f"years/{year}.html")


def alerts_key(year: int) -> str:
    """Return the key of the JSON record of sent notifications. Without the record, all are sent again."""
    return f"05_alerts/{year}.json"


def probe_key(token: str) -> str:
    """Return the key of the temporary object of a lake check; `token` is unique per check. Readers skip it."""
    return f"_probe-{token}"
