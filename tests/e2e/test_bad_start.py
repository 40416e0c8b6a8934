"""Starts that must fail: `make up` ends with one message and an exit code, and changes no data.

Each test has a clone and a Compose project of its own and ends before large services start. The rules for the lines of
`.env`, certificates, small hosts and full disks are tested without containers in tests/integration/stack.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, docker

pytestmark = pytest.mark.e2e

CLOSED = "http://127.0.0.1:9"  # no program listens there


@pytest.fixture
def clone(project: str, tmp_path: Path) -> Iterator[Installation]:
    """A clone of its own, removed with its containers and volumes."""
    clone = Installation.fresh(tmp_path / "clone", f"{project}-bad")
    yield clone
    clone.remove()


def failure(clone: Installation, env: str = "", **variables: str) -> str:
    """Run `make up` with these lines of .env, which must fail, and return its last message."""
    (clone.folder / ".env").write_text(env)
    code, stdout, stderr = clone.make("up", **variables)
    assert code != 0
    assert "Delaywatch is up" not in stdout
    (message,) = (line for line in stderr.splitlines() if line.startswith("Delaywatch is not up: "))
    return message


def test_a_port_in_use_and_an_env_file_that_compose_cannot_read_are_named(clone: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        message = failure(clone, DELAYWATCH_HTTPS_PORT=port)
    assert port in message
    assert "DELAYWATCH_HTTPS_PORT" in message

    for secret in ("sword${fish", "'swordfish", '"sword"fish"'):
        message = failure(clone, f"DELAYWATCH_ADMIN_PASSWORD={secret}\n")
        assert ".env" in message
        assert "fish" not in message


def test_lost_secrets_beside_an_old_database_are_refused_and_the_database_stays(clone: Installation) -> None:
    clone.compose("up", "--detach", "--wait", "postgres")
    clone.compose("down")
    docker("volume", "rm", f"{clone.project}_secrets")

    assert "make restore" in failure(clone)
    volume = f"{clone.project}_postgres:/data:ro"
    assert docker("run", "--rm", "--entrypoint=cat", "-v", volume, "postgres:17", "/data/PG_VERSION")


def test_an_unreachable_warehouse_or_lake_is_named_without_its_password(clone: Installation) -> None:
    warehouse = "postgresql://delaywatch:not-it-at-all@postgres:5432/warehouse"
    message = failure(clone, f"DELAYWATCH_WAREHOUSE={warehouse}\n")
    assert "airflow-init" in message
    assert "password" in message
    assert "not-it-at-all" not in message

    keys = "AWS_ACCESS_KEY_ID=AKIAMADEUPMADEUPMADE\nAWS_SECRET_ACCESS_KEY=made-up-made-up-made-up\n"
    message = failure(clone, keys, DELAYWATCH_LAKE="s3://flights", AWS_ENDPOINT_URL=CLOSED)
    assert "airflow-init" in message
    assert CLOSED in message
    assert "made-up" not in message
