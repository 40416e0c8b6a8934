"""Delaywatch's core, imported as `utils`: layers, detectors, lake, warehouse and the steps of a run; no Airflow."""

__version__ = "0.1.0"
