"""The first revision: the tables that `models.py` described when it was written, and those of the release before.

A warehouse without tables gets them from `models.py` as they are today and counts as migrated. Revisions after this
one change tables that exist, spell their columns out, and follow no later change of the models.
"""

from __future__ import annotations

revision = "0002"  # 0001, of former releases, had fewer tables
down_revision = None


def upgrade() -> None:
    """Do nothing: see above."""
