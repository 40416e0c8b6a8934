"""What must be there before the first year: the lake, the tables, the view over them and a login that only reads."""

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


def prepare(settings: Settings, reader: tuple[str, str] | None, tell: Callable[[str], None] = log.info) -> None:
    """Make what must be there before the first year: lake, tables, the view over them, and a login that only reads.

    reader: login and password, None for none. Calls `tell` with one line per thing, as soon as it is as it should be.
    The first thing that cannot be so raises DelaywatchError; a second call goes on from there.
    """
    inputs.detector_settings()  # a mistake in these would end every run, so it is told now
    exclusions.read(inputs.INCIDENTS_FILE)
    lake = Lake(settings)
    is_new = lake.prepare()
    tell(f"Lake {lake.uri}: {'made, ' if is_new else ''}can be listed, written, read and deleted from.")
    with closing(DBHandler(settings.warehouse)) as warehouse:
        is_new = warehouse.create()
        tell(f"Tables in the {warehouse}: {'brought to' if is_new else 'already at'} this release's state.")
        is_new = warehouse.publish_view(detectors.NAMES, detectors.PUBLISHED)
        names = ", ".join(detectors.NAMES)
        tell(f"View {SCHEMA}.{VIEW}: {'published' if is_new else 'already there'} with the detectors {names}.")
        if reader:
            login, password = reader
            is_new = warehouse.create_reader(login, password)
            tell(f"Login {login}: {'made or corrected' if is_new else 'already as asked'}, may only read {SCHEMA}.")


def check_warehouse(settings: Settings) -> None:
    """Reach the warehouse and bring its tables up to date, before a long computation needs them."""
    with closing(DBHandler(settings.warehouse)) as warehouse:
        warehouse.create()
