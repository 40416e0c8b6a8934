"""Rotation of generated secrets in the volumes: services get new values, old values stay until the end.

test_postgres_logins.py and test_superset_encryption.py show what Postgres and Superset do with them;
tests/e2e/test_rotation.py shows the whole stack.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import vault
from tests.integration.stack.volumes import Volumes

NAMES = sorted(vault.MAKERS)
# A login, and the two keys that data are encrypted with.
KINDS = ["airflow_password", "fernet_key", "superset_secret_key"]


class PowerCutError(Exception):
    """Ends a command before it replaces a file."""


@pytest.fixture
def volumes(volumes: Volumes) -> Volumes:
    """Return the volumes of a stack that has started once and has data."""
    volumes.setup()
    volumes.put("state/postgres/PG_VERSION", "17\n")
    return volumes


def kept(volumes: Volumes) -> dict[str, str]:
    """Return the files of the volume `secrets` without the certificate."""
    files = volumes.path("secrets").iterdir()
    return {path.name: path.read_text() for path in files if not path.name.startswith("tls")}


def new_values(volumes: Volumes) -> dict[str, str]:
    files = kept(volumes)
    return {name: files[f"{name}.next"] for name in NAMES if files.get(f"{name}.next")}


def cut_before_every_file(volumes: Volumes, command: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Volumes]:
    """Yield the volumes after a power cut before the command replaces its first file, its second, and so on."""
    replace = Path.replace
    for number in range(1, 200):
        copy = Volumes(volumes.root.with_name(f"{volumes.root.name}-cut-{number}"))
        shutil.copytree(volumes.root, copy.root)
        left = iter(range(number - 1))

        def replace_or_end(path: Path, target: Path, left: Iterator[int] = left) -> Path:
            if next(left, None) is None:
                raise PowerCutError
            return replace(path, target)

        with monkeypatch.context() as power:
            power.setattr(Path, "replace", replace_or_end)
            try:
                copy.run(command)
            except PowerCutError:
                pass
            else:
                return
        yield copy
    pytest.fail("the command does not end")


def check_that_nothing_is_lost(volumes: Volumes) -> None:
    """Check that the services' files match the kept values, and that the old encryption keys are still there."""
    old, new = kept(volumes), new_values(volumes)
    used = {name: new.get(name, old[name]) for name in NAMES}
    fernet_keys = list(dict.fromkeys([used["fernet_key"], old["fernet_key"]]))
    assert volumes.read("handed/airflow/fernet_key").split(",") == fernet_keys
    assert volumes.read("handed/superset/secret_key") == used["superset_secret_key"]
    previous = volumes.path("handed/superset/previous_secret_key")
    previous_key = old["superset_secret_key"] if "superset_secret_key" in new else None
    assert (previous.read_text() if previous.exists() else None) == previous_key
    for name in ("airflow_password", "postgres_password", "superset_password", "warehouse_password"):
        assert volumes.read(f"handed/postgres/{name}") == used[name]
    rotating = volumes.path("handed/postgres/rotating")
    assert (rotating.read_text().split() if rotating.exists() else []) == sorted(new)


def test_services_get_the_new_values_and_old_encryption_keys_until_the_end(volumes: Volumes) -> None:
    old = kept(volumes)

    outcome = volumes.run("rotate all")

    new = new_values(volumes)
    assert sorted(new) == NAMES
    assert [name for name in NAMES if new[name] == old[name] or len(new[name]) != len(old[name])] == []
    assert [name for name in NAMES if new[name] in outcome.out + outcome.err] == []
    assert [name for name in NAMES if not volumes.holders(new[name])] == []
    assert [name for name in NAMES if volumes.holders(old[name])] == ["fernet_key", "superset_secret_key"]
    check_that_nothing_is_lost(volumes)

    assert volumes.run("rotate --finish").code == 0
    assert kept(volumes) == new
    everything = "".join(path.read_text() for path in volumes.root.rglob("*") if path.is_file())
    assert [name for name in NAMES if old[name] in everything] == []
    assert {path.stat().st_mode & 0o777 for path in volumes.path("secrets").iterdir()} == {0o600}


def test_a_rotation_continues_after_a_power_cut_at_any_file(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    old, cuts = kept(volumes), 0

    for cut in cut_before_every_file(volumes, f"rotate {' '.join(KINDS)}", monkeypatch):
        is_marked = cut.path("handed/postgres/rotating").exists()
        assert is_marked == (cuts > 0), "the mark is written first: up.sh restarts programs that may use old values"
        cut.setup()
        check_that_nothing_is_lost(cut)
        assert {name: kept(cut)[name] for name in NAMES} == old
        begun = new_values(cut)
        cut.run(f"rotate {' '.join(KINDS)}")
        check_that_nothing_is_lost(cut)
        assert sorted(new_values(cut)) == KINDS
        assert new_values(cut).items() >= begun.items()
        cuts += 1

    assert cuts > 2 * len(KINDS)


def test_the_end_can_be_repeated_after_a_power_cut_at_any_file(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes.run(f"rotate {' '.join(KINDS)}")
    new, cuts = new_values(volumes), 0

    for cut in cut_before_every_file(volumes, "rotate --finish", monkeypatch):
        cut.setup()
        check_that_nothing_is_lost(cut)
        assert {name: new_values(cut).get(name) or kept(cut)[name] for name in KINDS} == new
        cut.run("rotate --finish")
        assert {name: kept(cut)[name] for name in KINDS} == new
        cuts += 1

    assert cuts >= len(KINDS)


def test_a_backup_during_a_rotation_is_refused(volumes: Volumes) -> None:
    volumes.run("rotate fernet_key")

    outcome = volumes.run("export")

    assert (outcome.code, outcome.raw) == (1, b"")
    assert "fernet_key" in outcome.err
    volumes.run("rotate --finish")
    assert volumes.run("export").code == 0


@pytest.mark.parametrize(
    ("names", "env", "named"),
    [
        ("fernet_key passwords", {}, "passwords"),
        ("admin_password", {"DELAYWATCH_ADMIN_PASSWORD": "mine-is-better"}, "DELAYWATCH_ADMIN_PASSWORD"),
    ],
)
def test_an_unknown_secret_or_one_of_env_is_refused_before_anything_changes(
    volumes: Volumes, names: str, env: dict[str, str], named: str
) -> None:
    volumes.setup(**env)
    before = volumes.snapshot("secrets", "handed")

    outcome = volumes.run(f"rotate {names}", env)

    assert (outcome.code, outcome.out) == (1, "")
    assert named in outcome.err
    assert volumes.snapshot("secrets", "handed") == before


def test_all_leaves_out_the_secrets_of_env(volumes: Volumes) -> None:
    volumes.run("rotate all", {"DELAYWATCH_ADMIN_PASSWORD": "mine-is-better"})

    assert set(NAMES) - new_values(volumes).keys() == {"admin_password"}
