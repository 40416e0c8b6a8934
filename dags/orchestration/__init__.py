"""Shared by the DAG files: connections, notifiers, the retry policy and the year of a run. Contains no DAG."""
