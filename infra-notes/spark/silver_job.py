"""Run the step `silver` of one year with Spark: the script of the Glue job, of EMR Serverless and of spark-submit.

    spark-submit --py-files utils.zip silver_job.py --year 2013 --lake s3://bucket/lake

Other arguments are ignored, because Glue adds its own. The last line of a failed run is the class and the message of
the error, such as "utils.errors.InvalidInput: 01_bronze/2013.csv has ..."; Airflow reads it from the run.
"""

from __future__ import annotations

import argparse
import logging

from utils.errors import DelaywatchError
from utils.pipeline import refine
from utils.settings import Settings


def main() -> None:
    """Write the year's silver. Raises DelaywatchError with its message on one line, because Glue keeps only one."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--year", type=int, required=True)
    parser.add_argument("--lake", required=True)
    given, _ = parser.parse_known_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)-8s %(message)s")
    logging.getLogger("utils").setLevel(logging.INFO)
    try:
        refine.write_silver(Settings.from_environment(lake=given.lake, warehouse=None, engine="spark"), given.year)
    except DelaywatchError as error:
        raise type(error)(" ".join(str(error).split())) from None


if __name__ == "__main__":
    main()
