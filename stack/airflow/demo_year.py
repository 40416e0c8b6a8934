"""Upload the demo's year to the lake if lake and warehouse have no year; runs in a container.

An empty lake with a warehouse that has years was probably lost, so it stays as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from utils.errors import DelaywatchError
from utils.pipeline import status
from utils.settings import Settings
from utils.sources.bronze import put_bronze
from utils.storage.lake import Lake

YEAR = 2013
CSV = Path("/opt/delaywatch/2013.csv.gz")

if __name__ == "__main__":
    try:
        settings = Settings.from_environment()
        if not Lake(settings).years():
            if years := ", ".join(map(str, status.warehouse_rows(settings))):
                sys.stderr.write(
                    f"Warning: the lake is empty, but the warehouse has {years}. If the lake's volume was lost, "
                    "restore it (make restore) or upload the CSV files of these years; the dashboards still work.\n"
                )
            else:
                put_bronze(settings, YEAR, CSV)
                sys.stdout.write(f"The demo's year {YEAR} was uploaded to the lake.\n")
    except DelaywatchError as error:
        sys.exit(f"Error: {error}")
