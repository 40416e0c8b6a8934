"""`make destroy` and `make down`, after all other tests that use the stack of conftest.py."""

from __future__ import annotations

import pytest

from tests.e2e.installation import Installation

pytestmark = pytest.mark.e2e


def test_make_destroy_without_confirmation_removes_nothing(stack: Installation) -> None:
    containers, volumes = stack.containers(), stack.volumes()

    code, _, message = stack.make("destroy")

    assert code != 0
    assert "CONFIRM=yes" in message
    assert (stack.containers(), stack.volumes()) == (containers, volumes)


def test_make_down_removes_every_container_and_no_volume(stack: Installation) -> None:
    volumes = stack.volumes()
    assert f"{stack.project}_postgres" in volumes

    stack.made("down")

    assert stack.containers() == {}
    assert stack.volumes() == volumes
