"""The first revision: the tables of `models.py` at the time of writing, and of the release before.

A warehouse without tables gets the tables of the current `models.py` and is stamped with the newest revision. Later
revisions change existing tables. They write columns out, because `models.py` changes after them.
"""

from __future__ import annotations

revision = "0002"  # 0001, of former releases, had fewer tables
down_revision = None


def upgrade() -> None:
    """Do nothing; see the module docstring."""
