"""A finished year with a new file in bronze, and the state after a run of that file without a fault."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import fresh
from tests.steps import BRONZE_KEY, OTHER_BRONZE, STEPS, files, rows
from utils.settings import Settings
from utils.storage.lake import Lake

State = tuple[dict[str, str], dict[str, Any]]


def state_of(settings: Settings) -> State:
    """Hash of every object in the lake, and the rows of the warehouse without their transactions."""
    objects = {key: hashlib.sha256(data or b"").hexdigest() for key, data in files(settings).items()}
    tables: dict[str, Any] = rows(settings)
    return objects, {name: [row for _, row in table] for name, table in tables.items()}


@pytest.fixture
def settings(done: Settings) -> Settings:
    """A finished year with a new file in bronze, so that every step has something to change."""
    Lake(done).store.put(BRONZE_KEY, OTHER_BRONZE)
    return done


@pytest.fixture(scope="session")
def expected(finished_year: tuple[Path, str], postgres: str, tmp_path_factory: pytest.TempPathFactory) -> State:
    """The state after a run of the new file without a fault."""
    folder, template = finished_year
    lake = tmp_path_factory.mktemp("expected") / "lake"
    shutil.copytree(folder, lake)
    databases = fresh(postgres, template)
    settings = Settings(lake=lake.as_uri(), warehouse=next(databases), scratch=lake.parent, threads=2)
    Lake(settings).store.put(BRONZE_KEY, OTHER_BRONZE)
    for step in STEPS.values():
        step(settings)
    state = state_of(settings)
    databases.close()  # type: ignore[attr-defined]
    return state
