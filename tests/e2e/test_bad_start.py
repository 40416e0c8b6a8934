"""Starts that must fail: `make up` ends with one clear sentence and an exit code, and what was there before stays.

Each has a clone and a Compose project of its own and stops before anything big has started. A machine of 4 GiB and a
full disk are played in tests/integration/stack/test_setup.py.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stack import certificate
from tests.e2e.installation import Installation, docker

pytestmark = pytest.mark.e2e

NOTHING_LISTENS = "http://127.0.0.1:9"


@pytest.fixture
def clone(project: str, tmp_path: Path) -> Iterator[Installation]:
    """A clone of its own, removed with all that it has started."""
    clone = Installation.fresh(tmp_path / "clone", f"{project}-bad")
    yield clone
    clone.remove()


def refusal(clone: Installation, **variables: str) -> str:
    """The last line of a `make up` that fails."""
    code, said, complaint = clone.make("up", **variables)
    assert code != 0
    assert "Delaywatch is up" not in said
    (sentence,) = (line for line in complaint.splitlines() if line.startswith("Delaywatch is not up: "))
    return sentence


def test_a_port_that_another_program_has_is_named(clone: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        said = refusal(clone, DELAYWATCH_HTTPS_PORT=str(port))

    assert f"port {port} is taken by another program" in said
    assert "DELAYWATCH_HTTPS_PORT" in said


def test_a_misspelt_variable_is_refused_with_the_name_that_was_meant(clone: Installation) -> None:
    (clone.folder / ".env").write_text("DELAYWATCH_LKAE=s3://flights\n")

    said = refusal(clone)

    assert "DELAYWATCH_LKAE" in said
    assert "DELAYWATCH_LAKE" in said


def test_a_secret_that_is_only_in_the_shell_is_refused_by_name(clone: Installation) -> None:
    said = refusal(clone, DELAYWATCH_ADMIN_PASSWORD="swordfish-swordfish")

    assert "DELAYWATCH_ADMIN_PASSWORD" in said
    assert ".env" in said
    assert "swordfish" not in said


@pytest.mark.parametrize("value", ["sword${fish", "'swordfish", '"sword"fish"'])
def test_an_env_that_compose_cannot_read_is_refused_without_the_value(clone: Installation, value: str) -> None:
    (clone.folder / ".env").write_text(f"DELAYWATCH_ADMIN_PASSWORD={value}\n")

    said = refusal(clone)

    assert ".env cannot be read" in said
    assert "fish" not in said


def test_a_variable_that_is_needed_and_empty_is_named(clone: Installation) -> None:
    (clone.folder / ".env").write_text("DELAYWATCH_LOCAL=0\nDELAYWATCH_LAKE=s3://flights\nDELAYWATCH_WAREHOUSE=\n")

    assert "DELAYWATCH_WAREHOUSE" in refusal(clone)


def test_lost_secrets_beside_an_old_database_are_refused_and_the_database_stays(clone: Installation) -> None:
    clone.compose("up", "--detach", "--wait", "postgres")
    clone.psql("postgres", "CREATE TABLE precious AS SELECT 1 AS one")
    clone.compose("down")
    docker("volume", "rm", f"{clone.project}_secrets")

    said = refusal(clone)

    assert "make restore" in said
    assert f"{clone.project}_postgres" in clone.volumes()
    assert docker(
        "run", "--rm", "--entrypoint=cat", "-v", f"{clone.project}_postgres:/data:ro", "postgres:17", "/data/PG_VERSION"
    )


def test_a_wrong_password_of_the_warehouse_is_told_without_the_password(clone: Installation) -> None:
    url = "postgresql://delaywatch:not-it-at-all@postgres:5432/warehouse"
    (clone.folder / ".env").write_text(f"DELAYWATCH_WAREHOUSE={url}\n")

    said = refusal(clone)

    assert "airflow-init" in said
    assert "password" in said
    assert "not-it-at-all" not in said


def test_a_store_that_cannot_be_reached_is_named(clone: Installation) -> None:
    keys = "AWS_ACCESS_KEY_ID=AKIAMADEUPMADEUPMADE\nAWS_SECRET_ACCESS_KEY=made-up-made-up-made-up\n"
    (clone.folder / ".env").write_text(keys)

    said = refusal(clone, DELAYWATCH_LAKE="s3://flights", AWS_ENDPOINT_URL=NOTHING_LISTENS)

    assert "airflow-init" in said
    assert NOTHING_LISTENS in said


def certificate_and_key(folder: Path, now: datetime) -> tuple[bytes, bytes]:
    """What setup would sign itself at that time."""
    folder.mkdir()
    made = certificate.find(folder, folder, folder, "localhost", now)
    return made.chain, made.key


def test_a_key_that_is_not_the_certificates_is_refused(clone: Installation, tmp_path: Path) -> None:
    chain, _ = certificate_and_key(tmp_path / "one", datetime.now(UTC))
    _, key = certificate_and_key(tmp_path / "other", datetime.now(UTC))
    (clone.folder / "nginx/certs/tls.crt").write_bytes(chain)
    (clone.folder / "nginx/certs/tls.key").write_bytes(key)

    said = refusal(clone)

    assert "tls.key" in said
    assert "tls.crt" in said


def test_an_expired_certificate_is_refused_with_its_last_day(clone: Installation, tmp_path: Path) -> None:
    chain, key = certificate_and_key(tmp_path / "old", datetime(2020, 1, 1, tzinfo=UTC))
    (clone.folder / "nginx/certs/tls.crt").write_bytes(chain)
    (clone.folder / "nginx/certs/tls.key").write_bytes(key)

    assert re.search(r"tls\.crt.* expired on 2022-", refusal(clone))


def test_an_old_docker_played_by_a_script_of_that_name_is_told_to_be_upgraded(
    clone: Installation, tmp_path: Path
) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\necho 19.03.15\n")
    (tmp_path / "docker").chmod(0o755)

    said = refusal(clone, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    assert "Docker Engine is 19.03.15; upgrade it to " in said
