"""The demo's year as bronze of a lake that has no year at all; any other lake stays as it is. Runs in a container."""

from __future__ import annotations

import sys
from pathlib import Path

from utils import pipeline
from utils.errors import DelaywatchError
from utils.lake import Lake
from utils.settings import Settings

YEAR = 2013
CSV = Path("/opt/delaywatch/2013.csv.gz")

if __name__ == "__main__":
    try:
        settings = Settings.from_environment()
        if not Lake(settings).bronze_years():
            pipeline.put_bronze(settings, YEAR, CSV)
    except DelaywatchError as error:
        sys.exit(f"Error: {error}")
