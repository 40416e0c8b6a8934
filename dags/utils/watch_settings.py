"""What `health` looks at and what `sweep` keeps, read once from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from utils.errors import DelaywatchError
from utils.settings import read_secret


@dataclass(frozen=True)
class WatchSettings:
    """What `health` looks at beside lake and warehouse, and what `sweep` may remove; None: not looked at, or kept.

    certificate: PEM file of the edge. log_folder: Airflow's logs of tasks. airflow_database: URL of Airflow's own
    database. expected_year: whose bronze must be there, None for the last one that is complete. keep_*: how much
    of each `sweep` leaves. backup: where the daily backup is copied to. backup_record: file about the last backups.
    """

    certificate: Path | None = None
    log_folder: Path | None = None
    airflow_database: str | None = field(default=None, repr=False)
    expected_year: int | None = None
    keep_logs_days: int | None = None
    keep_plots_years: int | None = None
    keep_silver_years: int | None = None
    backup: str | None = None
    backup_record: Path | None = None

    @property
    def removes_anything(self) -> bool:
        """Whether `sweep` may ever remove anything."""
        return bool(self.keep_logs_days or self.keep_plots_years or self.keep_silver_years)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> WatchSettings:
        """Read the variables below; none is needed, and without the last three nothing is ever removed.

        | variable | what |
        |---|---|
        | DELAYWATCH_BACKUP | bucket or folder for the daily backup; empty: none is expected |
        | DELAYWATCH_BACKUP_RECORD | JSON file about the last backups, written by stack/backup.sh; may be missing |
        | DELAYWATCH_CERTIFICATE | PEM file whose days are counted |
        | DELAYWATCH_LOG_FOLDER | folder of Airflow's logs |
        | DELAYWATCH_AIRFLOW_DATABASE_FILE | a file with the URL of Airflow's Postgres |
        | DELAYWATCH_EXPECTED_YEAR | the year whose bronze must be there; empty: the last complete one |
        | DELAYWATCH_KEEP_LOGS_DAYS | logs that were written to within so many days stay |
        | DELAYWATCH_KEEP_PLOTS_YEARS | pictures and pages of the newest so many years stay |
        | DELAYWATCH_KEEP_SILVER_YEARS | flights in silver of the newest so many years stay |

        Raises DelaywatchError naming the variable that is not a whole number from 1 on, or the unreadable file.
        """
        env = os.environ if environ is None else environ

        def path(variable: str) -> Path | None:
            return Path(env[variable]) if env.get(variable) else None

        def number(variable: str) -> int | None:
            given = env.get(variable) or ""
            if given and not (re.fullmatch(r"[0-9]{1,6}", given) and int(given)):
                raise DelaywatchError(f"{variable} is {given!r}; set it to a whole number from 1 on, or to nothing.")
            return int(given) if given else None

        database = path("DELAYWATCH_AIRFLOW_DATABASE_FILE")
        return cls(
            certificate=path("DELAYWATCH_CERTIFICATE"),
            log_folder=path("DELAYWATCH_LOG_FOLDER"),
            airflow_database=read_secret(database, "DELAYWATCH_AIRFLOW_DATABASE_FILE").strip() if database else None,
            expected_year=number("DELAYWATCH_EXPECTED_YEAR"),
            keep_logs_days=number("DELAYWATCH_KEEP_LOGS_DAYS"),
            keep_plots_years=number("DELAYWATCH_KEEP_PLOTS_YEARS"),
            keep_silver_years=number("DELAYWATCH_KEEP_SILVER_YEARS"),
            backup=env.get("DELAYWATCH_BACKUP") or None,
            backup_record=path("DELAYWATCH_BACKUP_RECORD"),
        )
