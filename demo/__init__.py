"""`python -m demo`: one real year through the real DAG in a local folder; no Docker, no cloud, no credentials."""
