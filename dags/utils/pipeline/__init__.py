"""The steps of a run: read, compute, check, write. Nothing else joins the lake, the warehouse and the computations.

Every step takes the settings and a year, replaces its whole partition or upserts on the key, logs its counts once
and returns the key that it wrote; running one twice changes nothing. A step loads only what it needs, and some need
pandas, SQLAlchemy or matplotlib, so the DAG files and the commands import its module when the step begins.

prepare   lake and tables, before the first year
refine    bronze CSV to silver and gold
detect    verdicts of the detectors, and why the days are abnormal
plots     the pictures
publish   into the warehouse, and the year page
status    what is there
inputs    what several steps read
"""
