"""Options of the warehouse's connection that nobody wrote; the rest of connections is in test_run and test_alerts."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize(
    ("host", "extra", "options"),
    [
        ("delaywatch.c1.eu-central-1.rds.amazonaws.com", None, "?sslmode=require"),
        ("delaywatch.c1.cn-north-1.rds.amazonaws.com.cn", None, "?sslmode=require"),
        ("DELAYWATCH.C1.EU-CENTRAL-1.RDS.AMAZONAWS.COM", {"keepalives": 30}, "?sslmode=require&keepalives=30"),
        ("delaywatch.c1.eu-central-1.rds.amazonaws.com", {"sslmode": "verify-full"}, "?sslmode=verify-full"),
        ("postgres", None, ""),
        ("rds.amazonaws.com.example.com", None, ""),
    ],
)
def test_a_warehouse_of_rds_is_spoken_to_with_tls_though_its_secret_has_no_place_for_that(
    airflow: None, monkeypatch: pytest.MonkeyPatch, host: str, extra: object, options: str
) -> None:
    from orchestration import connections

    # As SecretsManagerBackend makes it of the secret that RDS has completed.
    made = {"login": "l", "password": "p", "host": host, "port": 5432, "schema": "w", "conn_type": "postgres"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(made | {"extra": extra}))
    monkeypatch.setenv("DELAYWATCH_LAKE", "s3://flights")

    settings = connections.settings()

    assert settings.warehouse is not None
    assert settings.warehouse.lower() == f"postgresql://l:p@{host.lower()}:5432/w{options}"
