"""The comment of feedback.opinion defines expected as on the pages: the reason is known.

`env.py` writes the comments of `models.py` after every migration.
"""

from __future__ import annotations

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Do nothing; see the module docstring."""
