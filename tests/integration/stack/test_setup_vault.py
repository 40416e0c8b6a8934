"""Lost secrets, and secrets from a backup: a start or an import uses all of them or refuses."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.stack.volumes import Volumes

Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture(scope="module")
def packed(started: Volumes) -> bytes:
    """Return the tar of `export`."""
    outcome = started.run("export")
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.raw


# --- lost secrets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["PG_VERSION", "17/docker/PG_VERSION"])
def test_secrets_that_the_data_of_postgres_need_are_not_generated_again(volumes: Volumes, place: str) -> None:
    volumes.put(f"state/postgres/{place}", "17\n")

    assert "make restore FROM=" in volumes.refusal()
    assert volumes.snapshot("secrets") == {}


def test_a_lost_secret_is_generated_again_only_if_no_data_need_it(volumes: Volumes) -> None:
    volumes.setup()
    before = volumes.snapshot("secrets")
    volumes.put("state/postgres/PG_VERSION", "17\n")
    volumes.path("secrets/jwt_secret").unlink()

    volumes.setup()

    after = volumes.snapshot("secrets")
    assert [name for name in before if after[name][0] != before[name][0]] == ["secrets/jwt_secret"]
    volumes.path("secrets/fernet_key").unlink()
    assert "fernet_key" in volumes.refusal()


# --- export and import ------------------------------------------------------------------------------------------------


def test_an_import_restores_the_same_stack(started: Volumes, packed: bytes, volumes: Volumes) -> None:
    outcome = volumes.run("import", stdin=packed)
    volumes.setup()

    assert (outcome.code, outcome.err) == (0, "")
    for folder in ("secrets", "handed"):
        old, new = ({name: entry[0] for name, entry in each.snapshot(folder).items()} for each in (started, volumes))
        assert new == old
    assert {path.stat().st_mode & 0o777 for path in volumes.path("secrets").iterdir()} == {0o600}


def test_a_backup_needs_no_secret_that_a_later_release_adds(volumes: Volumes) -> None:
    volumes.setup()
    volumes.path("secrets/site_key").unlink()

    assert volumes.run("export").code == 0
    volumes.path("secrets/fernet_key").unlink()
    assert "fernet_key" in volumes.run("export").err


def test_an_import_into_a_volume_with_secrets_is_refused(volumes: Volumes, packed: bytes) -> None:
    volumes.setup()
    before = volumes.snapshot("secrets")

    assert volumes.run("import", stdin=packed).code == 1
    assert volumes.snapshot("secrets") == before


def repacked(packed: bytes, change: Callable[[Members], Members]) -> bytes:
    """Return the tar with changed members."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        members = [(member, file.read()) for member in tar if (file := tar.extractfile(member))]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, content in change(members):
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def with_member(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE) -> Callable[[bytes], bytes]:
    """Return a function that adds a member or replaces it."""
    added = tarfile.TarInfo(name)
    added.type, added.linkname = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
    return lambda packed: repacked(
        packed, lambda members: [*(each for each in members if each[0].name != name), (added, content)]
    )


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "not a tar": lambda _: b"-----BEGIN PGP MESSAGE-----\n" * 100,
    "cut after a member": lambda packed: packed[:1024],
    "missing member": lambda packed: repacked(
        packed, lambda members: [member for member in members if member[0].name != "fernet_key"]
    ),
    "empty secret": with_member("fernet_key", b""),
    "member of megabytes": with_member("fernet_key", b"x" * 10**6),
    "foreign file": with_member("id_rsa"),
    "path outside": with_member("../tls.crt"),
    "link": with_member("tls.crt", kind=tarfile.SYMTYPE),
    "member twice": lambda packed: repacked(packed, lambda members: [*members, members[0]]),
}


@pytest.mark.security
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_tar_is_refused_before_anything_is_written(
    volumes: Volumes, packed: bytes, damage: str
) -> None:
    outcome = volumes.run("import", stdin=DAMAGES[damage](packed))

    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert list(volumes.path("secrets").iterdir()) == []


def test_an_import_from_a_release_with_fewer_secrets_is_completed(volumes: Volumes, packed: bytes) -> None:
    older = repacked(packed, lambda members: [each for each in members if each[0].name != "jwt_secret"])

    assert volumes.run("import", stdin=older).code == 0
    volumes.setup()

    assert len(volumes.read("secrets/jwt_secret")) >= 64


def test_an_interrupted_import_is_not_completed_with_new_secrets_and_can_be_repeated(
    started: Volumes, volumes: Volumes, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def fail_at_the_fernet_key(path: Path, target: Path) -> Path:
        if target.name == "fernet_key":
            raise OSError(5, "Input/output error", str(target))
        return replace(path, target)

    with monkeypatch.context() as disk:
        disk.setattr(Path, "replace", fail_at_the_fernet_key)
        assert volumes.run("import", stdin=packed).code == 1

    assert "interrupted" in volumes.refusal()
    assert volumes.run("import", stdin=packed).code == 0
    volumes.setup()
    assert volumes.read("secrets/fernet_key") == started.read("secrets/fernet_key")
