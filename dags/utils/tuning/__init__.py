"""Comparing detectors and proposing settings, for notebooks and benchmarks; no run of the DAG imports it."""
