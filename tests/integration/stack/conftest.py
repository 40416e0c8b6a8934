"""Volumes for the tests of `python -m stack`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.integration.stack.volumes import Volumes


@pytest.fixture(autouse=True, scope="package")
def without_fsync() -> Iterator[None]:
    """Save time: these volumes do not have to survive a power cut."""
    with mock.patch.object(os, "fsync"):
        yield


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    """Return empty volumes."""
    return Volumes.make(tmp_path)


@pytest.fixture(scope="package")
def started(tmp_path_factory: pytest.TempPathFactory) -> Volumes:
    """Return volumes after a first start without `.env`. Tests must not change them."""
    volumes = Volumes.make(tmp_path_factory.mktemp("started"))
    volumes.setup()
    return volumes
