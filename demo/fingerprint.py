"""Fingerprints of a run's results: equal ones before and after a run prove that it changed nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import psycopg2
from psycopg2 import sql

LAYERS = ("02_silver", "03_gold", "04_plots")
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'flights' AND tablename <> 'runs' ORDER BY tablename"
# A row's xmin and ctid change with every write, even of the same values.
ROW_VERSIONS = "SELECT count(*), md5(coalesce(string_agg(ctid || ' ' || xmin, ',' ORDER BY ctid), '')) FROM flights.{}"

Fingerprints = dict[str, str]


def hash_files(lake: Path) -> Fingerprints:
    """Return the SHA-256 of every file of silver, gold and plots, by key."""
    fingerprints = {}
    for path in sorted(path for layer in LAYERS for path in (lake / layer).rglob("*") if path.is_file()):
        with path.open("rb") as file:
            fingerprints[path.relative_to(lake).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return fingerprints


def hash_tables(url: str) -> Fingerprints:
    """Return number and versions of the rows of each table of schema `flights` but `runs`, which gets a row per run."""
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(TABLES)
            fingerprints = {}
            for (table,) in cursor.fetchall():
                cursor.execute(sql.SQL(ROW_VERSIONS).format(sql.Identifier(table)))
                rows, versions = cursor.fetchone() or (0, "")
                fingerprints[f"flights.{table}"] = f"{rows} rows {versions}"
            return fingerprints
    finally:
        connection.close()


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the sorted names of added, removed and changed fingerprints."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
