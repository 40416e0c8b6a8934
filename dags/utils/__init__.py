"""Delaywatch's core, imported as `utils`. It does not depend on Airflow.

cli         the commands of `python -m utils`
pipeline    the steps of a run; uses the packages below
layers      bronze to silver to gold, and the quality report
detectors   one module per detector
analysis    why a day was abnormal, events, airports, excluded days
reporting   the site, plots, wording of numbers and dates
tuning      comparing detectors and proposing settings, for notebooks and benchmarks
storage     keys, parquet, the lake in a folder or a bucket
warehouse   Postgres, behind `db_handler.DBHandler`
sources     downloads from the Bureau of Transportation Statistics and Kaggle into bronze
monitoring  health, messages about runs, retention
web         the served site: pages, feedback, API
settings    settings from the environment
errors      the exceptions that Delaywatch raises
schemas     Arrow schemas of every layer and table
parallel    function calls in child processes
"""

__version__ = "0.1.0"
