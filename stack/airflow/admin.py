"""Create Airflow's user `admin` if it is missing; with `--reset-password`, reset its password.

Runs in-process, because `airflow users create` would show the password in the host's process list.
"""

from __future__ import annotations

import sys
from pathlib import Path

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

NAME = "admin"
PASSWORD = Path("/run/delaywatch/admin_password")


def main(arguments: list[str]) -> int:
    """Create the user or reset its password, and print the result."""
    password = PASSWORD.read_text()
    with get_application_builder() as builder:
        manager = builder.sm
        user = manager.find_user(NAME)
        if user and "--reset-password" in arguments:
            manager.reset_password(user.id, password)
            print(f"Airflow: reset the password of {NAME} to the one that `make password` shows.")
        elif user:
            print(f"Airflow: the user {NAME} exists.")
        elif manager.add_user(NAME, "Admin", "", "admin@localhost", manager.find_role("Admin"), password):
            print(f"Airflow: created the user {NAME}; `make password` shows the password.")
        else:
            print(f"Airflow could not create the user {NAME}; see its log above.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
