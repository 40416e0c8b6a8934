"""Prepare for the first year: create the lake, the tables, the view and the logins of dashboards and pages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing

from utils import detectors
from utils.analysis import exclusions
from utils.db_handler import SCHEMA, VIEW, DBHandler
from utils.pipeline import inputs
from utils.settings import Settings
from utils.storage.lake import Lake

log = logging.getLogger(__name__)


def prepare(
    settings: Settings,
    reader: tuple[str, str] | None,
    report: Callable[[str], None] = log.info,
    labeller: tuple[str, str] | None = None,
) -> None:
    """Create what is missing of lake, tables, view, read-only login and the login that writes feedback.

    reader, labeller: login and password, or None. report: called with one line after each part is ready. Raises
    DelaywatchError at the first failure; a second call continues from there.
    """
    inputs.detector_settings()  # an error in these files would fail every run, so report it now
    exclusions.read(inputs.INCIDENTS_FILE)
    lake = Lake(settings)
    is_new = lake.prepare()
    state = "created" if is_new else "already exists"
    report(f"Lake {lake.uri}: {state}; objects can be listed, written, read and deleted.")
    with closing(DBHandler(settings.warehouse)) as warehouse:
        is_new = warehouse.create()
        report(f"Tables in the {warehouse}: {'created or migrated' if is_new else 'already up to date'}.")
        is_new = warehouse.publish_view(detectors.NAMES, detectors.PUBLISHED)
        names = ", ".join(detectors.NAMES)
        report(f"View {SCHEMA}.{VIEW}: {'published' if is_new else 'already up to date'}, with the detectors {names}.")
        logins = [
            (reader, warehouse.create_reader, f"read {SCHEMA}"),
            (labeller, warehouse.create_labeller, f"write {SCHEMA}.feedback"),
        ]
        for role, create, right in logins:
            if role:
                state = "created or corrected" if create(*role) else "already up to date"
                report(f"Login {role[0]}: {state}; it can only {right}.")


def check_warehouse(settings: Settings) -> None:
    """Connect to the warehouse and migrate its tables, so that a long computation does not fail at its end."""
    with closing(DBHandler(settings.warehouse)) as warehouse:
        warehouse.create()
