"""Create, change or disable an account of Airflow: `user.py NAME ROLE`, with the password on stdin.

`stack/user.sh` (`make user`) runs it in a container. ROLE is analyst, admin or none; none disables the account.
In-process, because `airflow users create` would show the password in the host's process list.
"""

from __future__ import annotations

import sys

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

# Analysts read runs and logs; only admins start runs and change connections.
ROLES = {"analyst": "Viewer", "admin": "Admin"}


def main(arguments: list[str], password: str) -> int:
    """Create the account or change its role and password, or disable it; print the result."""
    name, role = arguments
    with get_application_builder() as builder:
        manager = builder.sm
        user = manager.find_user(name)
        if role == "none":
            if user is None:
                print(f"Airflow: there is no account {name}.")
                return 0
            user.active = False
            manager.update_user(user)
            print(f"Airflow: disabled the account {name}.")
            return 0
        if user is None:
            user = manager.add_user(name, name, "", f"{name}@localhost", manager.find_role(ROLES[role]), password)
            if not user:
                print(f"Airflow could not create the account {name}; see its log above.", file=sys.stderr)
                return 1
            print(f"Airflow: created the account {name} with the role {ROLES[role]}.")
            return 0
        user.active, user.roles = True, [manager.find_role(ROLES[role])]
        manager.update_user(user)
        manager.reset_password(user.id, password)
        print(f"Airflow: the account {name} has the role {ROLES[role]} and a new password.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin.readline().rstrip("\n")))
