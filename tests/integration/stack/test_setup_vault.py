"""Secrets that were lost, and those that a backup brings back: refused or whole, never half."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.stack.volumes import Volumes


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes.make(tmp_path)


@pytest.mark.parametrize("place", ["PG_VERSION", "data/PG_VERSION", "17/docker/PG_VERSION"])
def test_lost_secrets_with_an_old_database_are_not_made_anew(volumes: Volumes, place: str) -> None:
    volumes.put(f"state/postgres/{place}", "17\n")

    said = volumes.refusal()

    assert said.startswith("The volume of the secrets is empty, but Postgres holds data that was made with them; ")
    assert "make destroy" in said
    assert "make restore FROM=" in said
    assert volumes.snapshot("secrets") == {}


def test_a_single_lost_secret_with_an_old_database_is_named(volumes: Volumes) -> None:
    volumes.setup()
    volumes.put("state/postgres/PG_VERSION", "17\n")
    volumes.path("secrets/fernet_key").unlink()

    assert "The volume of the secrets lacks fernet_key, but Postgres holds data" in volumes.refusal()


def test_a_secret_that_nothing_was_made_with_is_made_anew_beside_an_old_database(volumes: Volumes) -> None:
    """As one that a later release adds."""
    volumes.setup()
    before = volumes.snapshot("secrets")
    volumes.put("state/postgres/PG_VERSION", "17\n")
    volumes.path("secrets/jwt_secret").unlink()

    outcome = volumes.setup()

    assert outcome.out.startswith("Setup: 1 secrets created, ")
    after = volumes.snapshot("secrets")
    assert after.keys() == before.keys()
    assert [name for name in before if after[name][0] != before[name][0]] == ["secrets/jwt_secret"]


def test_an_old_database_with_its_secrets_is_no_reason_to_stop(volumes: Volumes) -> None:
    volumes.setup()
    volumes.put("state/postgres/PG_VERSION", "17\n")

    assert volumes.setup().out == "Setup: nothing to do.\n"


def test_a_database_that_cannot_be_looked_into_is_no_empty_one(volumes: Volumes) -> None:
    volumes.path("state/postgres").rmdir()
    volumes.put("state/postgres", "a file, which is no folder to look into for root either")

    assert str(volumes.path("state/postgres")) in volumes.refusal()
    assert volumes.snapshot("secrets") == {}


def test_a_backup_brings_the_same_stack_back(tmp_path: Path) -> None:
    old, new = Volumes.make(tmp_path / "old"), Volumes.make(tmp_path / "new")
    old.setup()
    packed = old.run("export")

    outcome = new.run("import", stdin=packed.raw)
    new.setup()

    assert (packed.code, packed.err) == (0, "")
    assert (outcome.code, outcome.out, outcome.err) == (0, "Secrets: 15 files imported.\n", "")
    for folder in ("secrets", "handed"):
        contents = [{name: entry[0] for name, entry in volumes.snapshot(folder).items()} for volumes in (old, new)]
        assert contents[0] == contents[1]
    assert {path.stat().st_mode & 0o777 for path in new.path("secrets").iterdir()} == {0o600}


def test_two_backups_of_one_stack_are_the_same_bytes(volumes: Volumes) -> None:
    volumes.setup()

    assert volumes.run("export").raw == volumes.run("export").raw


def test_there_is_nothing_to_back_up_before_the_first_start(volumes: Volumes) -> None:
    outcome = volumes.run("export")

    assert (outcome.code, outcome.raw) == (1, b"")
    assert "start the stack once" in outcome.err


def test_a_backup_is_not_brought_into_a_volume_that_is_in_use(tmp_path: Path) -> None:
    old, other = Volumes.make(tmp_path / "old"), Volumes.make(tmp_path / "other")
    old.setup()
    other.setup()
    before = other.snapshot("secrets")

    outcome = other.run("import", stdin=old.run("export").raw)

    assert outcome.code == 1
    assert "is not empty; nothing was imported" in outcome.err
    assert other.snapshot("secrets") == before


def repacked(packed: bytes, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]) -> bytes:
    """The tar with its list of members changed."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        members = [(member, file.read()) for member in tar if (file := tar.extractfile(member))]
    change(members)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, content in members:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def link(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda packed: b"",
    "no tar": lambda packed: b"-----BEGIN PGP MESSAGE-----\n" * 100,
    "cut in the middle": lambda packed: packed[: len(packed) // 2],
    "cut after a member": lambda packed: packed[:1024],
    "a member missing": lambda packed: repacked(packed, lambda members: members.pop(3)),
    "an empty secret": lambda packed: repacked(packed, lambda members: members.__setitem__(0, (members[0][0], b""))),
    "a secret of two lines": lambda packed: repacked(
        packed, lambda members: members.__setitem__(0, (members[0][0], b"a\nb"))
    ),
    "a foreign file": lambda packed: repacked(
        packed, lambda members: members.append((tarfile.TarInfo("id_rsa"), b"x"))
    ),
    "a file outside": lambda packed: repacked(
        packed, lambda members: members.append((tarfile.TarInfo("../tls.crt"), b"x"))
    ),
    "a link": lambda packed: repacked(packed, lambda members: members.append((link("tls.crt"), b""))),
    "a member twice": lambda packed: repacked(packed, lambda members: members.append(members[0])),
    "a member of megabytes": lambda packed: repacked(
        packed, lambda members: members.__setitem__(0, (members[0][0], b"x" * 10**6))
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_refused_before_anything_is_written(tmp_path: Path, damage: str) -> None:
    old, new = Volumes.make(tmp_path / "old"), Volumes.make(tmp_path / "new")
    old.setup()

    outcome = new.run("import", stdin=DAMAGES[damage](old.run("export").raw))

    assert outcome.code == 1
    assert outcome.err.startswith("The backup of the secrets ")
    assert outcome.err.endswith("nothing was imported.\n")
    assert list(new.path("secrets").iterdir()) == []


def test_a_backup_of_a_release_with_fewer_secrets_is_taken_and_completed(tmp_path: Path) -> None:
    old, new = Volumes.make(tmp_path / "old"), Volumes.make(tmp_path / "new")
    old.setup()
    packed = repacked(
        old.run("export").raw,
        lambda members: members.__setitem__(slice(None), [one for one in members if one[0].name != "jwt_secret"]),
    )

    assert new.run("import", stdin=packed).out == "Secrets: 14 files imported.\n"
    new.setup()

    assert new.read("secrets/jwt_secret") not in {"", old.read("secrets/jwt_secret")}
    assert new.read("secrets/fernet_key") == old.read("secrets/fernet_key")


def test_an_interrupted_import_is_not_filled_up_with_new_secrets_but_can_be_repeated(tmp_path: Path) -> None:
    old, new = Volumes.make(tmp_path / "old"), Volumes.make(tmp_path / "new")
    old.setup()
    packed = old.run("export").raw
    new.run("import", stdin=packed)
    new.path("secrets/fernet_key").unlink()
    new.put("secrets/import-unfinished", "")

    assert new.refusal().startswith("The restore of the secrets was interrupted; ")
    assert new.run("import", stdin=packed).code == 0
    assert new.read("secrets/fernet_key") == old.read("secrets/fernet_key")
    new.setup()
