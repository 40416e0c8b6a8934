"""Airflow on a scratch home for this session, and a small real year in a lake of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo import airflow_home

STORM = ("BOS", "2015-01-27")


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Airflow reads its environment when it is imported, so import it only in tests that ask for this."""
    home = tmp_path_factory.mktemp("airflow")
    with pytest.MonkeyPatch.context() as environment:
        environment.setattr("os.environ", dict(__import__("os").environ))
        airflow_home.enter(home, lake="", warehouse="")
        airflow_home.prepare(home)
        yield
