"""Comparison of detectors and proposals of settings, for notebooks and benchmarks; not imported by the DAG."""
