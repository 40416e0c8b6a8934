"""`python -m demo`: run one real year through the real DAG in a local folder, without Docker, cloud or credentials."""
