"""What the DAG files share: connections, notifiers, the retry policy and the year of a run. Holds no DAG."""
