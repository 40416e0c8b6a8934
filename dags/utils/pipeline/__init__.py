"""The steps of a run: read, compute, check, write. Only this package connects lake, warehouse and computations.

Every step takes the settings and a year, replaces its whole partition or upserts on the key, logs its counts once and
returns the key that it wrote. Every step is idempotent. The DAG files and the commands import a step's module when the
step begins, because some modules load pandas, SQLAlchemy or matplotlib.

prepare   create lake and tables, before the first year
refine    bronze CSV to silver and gold
detect    verdicts of the detectors, and explanations of the flagged days
plots     plots of a year
publish   upsert into the warehouse, and the record of the run
site      the pages of all years
status    contents of lake and warehouse
inputs    inputs of several steps
"""
