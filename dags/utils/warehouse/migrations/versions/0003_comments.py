"""The comments of schema, tables, columns and the view detector_feedback are reworded.

`env.py` writes the comments of `models.py` after every migration, so this revision only makes existing warehouses run
it. A later change of comments alone needs a revision like this one.
"""

from __future__ import annotations

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Do nothing; see the module docstring."""
