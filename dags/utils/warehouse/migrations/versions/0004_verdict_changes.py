"""The table verdict_changes: days whose severity by the published detector an upsert changed."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table; the default privileges of flights_owner let loaders write it and readers read it."""
    op.execute("""
        CREATE TABLE flights.verdict_changes (
            origin text NOT NULL,
            fl_date date NOT NULL,
            changed_at timestamptz NOT NULL,
            old_severity smallint NOT NULL,
            new_severity smallint NOT NULL,
            new_direction text,
            PRIMARY KEY (origin, fl_date, changed_at),
            CONSTRAINT verdict_changes_severities_known
                CHECK (old_severity BETWEEN 0 AND 3 AND new_severity BETWEEN 0 AND 3),
            CONSTRAINT verdict_changes_differ CHECK (old_severity <> new_severity),
            CONSTRAINT verdict_changes_direction_known CHECK (new_direction IN ('late', 'early', 'closure')),
            CONSTRAINT verdict_changes_flag_says_how CHECK ((new_direction IS NOT NULL) = (new_severity > 0))
        )
    """)
