"""Unit tests open no socket."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_socket(socket_disabled: None) -> None:
    """Let every attempt to open a socket fail."""
