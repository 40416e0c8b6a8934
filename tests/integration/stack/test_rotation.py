"""Rotation as the volumes see it: both values until the end, and a start after whatever interruption.

What Postgres, Superset and Airflow do with them is in test_postgres_logins.py, test_superset_encryption.py and
tests/dag/test_fernet_rotation.py; all of it together in tests/e2e/test_rotation.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet, MultiFernet

from stack import rotation, vault
from tests.integration.stack.volumes import ROOT, Volumes

NAMES = sorted(vault.MAKERS)
KINDS = ["airflow_password", "fernet_key", "superset_secret_key"]  # a login, and the two that data are encrypted with


class PowerCutError(Exception):
    """What ends a command in the middle here."""


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    """A stack that has started once and has data."""
    volumes = Volumes.make(tmp_path / "stack")
    volumes.setup()
    volumes.put("state/postgres/PG_VERSION", "17\n")
    return volumes


def kept(volumes: Volumes) -> dict[str, str]:
    """What `setup` keeps, by file, without the certificate."""
    return {
        path.name: path.read_text() for path in volumes.path("secrets").iterdir() if not path.name.startswith("tls")
    }


def new_values(volumes: Volumes) -> dict[str, str]:
    return {name: value for name in NAMES if (value := kept(volumes).get(f"{name}.next"))}


def cut_power(monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    """Let the command end before the file of this number takes its place."""
    replace, count = Path.replace, iter(range(1, 1000))

    def replace_or_end(path: Path, target: Path) -> Path:
        if next(count) == before:
            raise PowerCutError
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replace_or_end)


def cut_at_every_file(volumes: Volumes, command: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Volumes]:
    """The volumes as they are after a cut of the command before its first file, its second, and so on to the last."""
    for before in range(1, 200):
        copy = Volumes(volumes.root.with_name(f"cut-{before}"))
        shutil.copytree(volumes.root, copy.root)
        with monkeypatch.context() as cut:
            cut_power(cut, before)
            try:
                copy.run(command)
            except PowerCutError:
                pass
            else:
                return
        yield copy
    pytest.fail("the command never comes through")


def check_that_nothing_is_lost(volumes: Volumes) -> None:
    """What the services have fits what is kept, and what data were encrypted with is still there."""
    old, new = kept(volumes), new_values(volumes)
    used = {name: new.get(name, old[name]) for name in NAMES}
    both = [used["fernet_key"], old["fernet_key"]]
    assert volumes.read("handed/airflow/fernet_key").split(",") == list(dict.fromkeys(both))
    assert volumes.read("handed/superset/secret_key") == used["superset_secret_key"]
    previous = volumes.path("handed/superset/previous_secret_key")
    assert (previous.read_text() if previous.exists() else None) == (
        old["superset_secret_key"] if "superset_secret_key" in new else None
    )
    for name in ("airflow_password", "postgres_password", "superset_password", "warehouse_password"):
        assert volumes.read(f"handed/postgres/{name}") == used[name]
    rotating = volumes.path("handed/postgres/rotating")
    assert (rotating.read_text().split() if rotating.exists() else []) == sorted(new)


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_gets_a_new_value_of_its_own_kind_while_the_old_one_is_kept(volumes: Volumes, name: str) -> None:
    before = kept(volumes)

    outcome = volumes.run(f"rotate {name}")

    assert outcome.code == 0
    assert outcome.out.startswith(f"Rotation: {name} begun")
    assert new_values(volumes).keys() == {name}
    value = new_values(volumes)[name]
    assert value != before[name]
    assert len(value) == len(before[name])
    assert {file: text for file, text in kept(volumes).items() if file != f"{name}.next"} == before
    assert value not in outcome.out + outcome.err
    check_that_nothing_is_lost(volumes)


def test_the_services_get_the_new_values_and_the_old_ones_of_what_is_encrypted(volumes: Volumes) -> None:
    old = kept(volumes)

    volumes.run("rotate all")

    new = new_values(volumes)
    assert sorted(new) == NAMES
    assert volumes.read("handed/s3/access_key") == new["s3_access_key"]
    assert new["warehouse_password"] in volumes.read("handed/airflow/connections.json")
    assert new["reader_password"] in volumes.read("handed/superset/warehouse_url")
    sealed = Fernet(old["fernet_key"]).encrypt(b"as before")
    keys = [Fernet(key) for key in volumes.read("handed/airflow/fernet_key").split(",")]
    assert MultiFernet(keys).decrypt(sealed) == b"as before"
    assert Fernet(new["fernet_key"]).decrypt(MultiFernet(keys).encrypt(b"new")) == b"new"
    handed = "".join(path.read_text() for path in volumes.path("handed").rglob("*") if path.is_file())
    assert [name for name in NAMES if old[name] in handed] == ["fernet_key", "superset_secret_key"]
    assert volumes.read("handed/postgres/rotating").split() == NAMES


def test_at_its_end_the_old_values_are_gone_everywhere(volumes: Volumes) -> None:
    old = kept(volumes)
    volumes.run("rotate all")
    new = new_values(volumes)

    outcome = volumes.run("rotate --finish")

    assert outcome.out == f"Rotation: {', '.join(NAMES)} finished; the old values are gone.\n"
    assert kept(volumes) == new
    everything = "".join(path.read_text() for path in volumes.root.rglob("*") if path.is_file())
    assert [name for name in NAMES if old[name] in everything] == []
    assert {path.stat().st_mode & 0o777 for path in volumes.path("secrets").iterdir()} == {0o600}
    assert volumes.setup().out == "Setup: nothing to do.\n"


def test_a_start_in_between_says_what_goes_on_and_changes_nothing(volumes: Volumes) -> None:
    volumes.run("rotate fernet_key jwt_secret")
    before = volumes.snapshot("secrets", "handed")

    assert volumes.setup().out == "Setup: rotation of fernet_key, jwt_secret goes on.\n"
    assert volumes.snapshot("secrets", "handed") == before


def test_a_second_rotation_before_the_end_makes_no_third_value(volumes: Volumes) -> None:
    volumes.run("rotate fernet_key")
    first = new_values(volumes)

    volumes.run("rotate fernet_key jwt_secret")

    assert new_values(volumes)["fernet_key"] == first["fernet_key"]
    assert new_values(volumes).keys() == {"fernet_key", "jwt_secret"}


def test_after_an_interruption_at_any_file_the_stack_starts_and_the_rotation_goes_on(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, count = kept(volumes), 0

    for cut in cut_at_every_file(volumes, f"rotate {' '.join(KINDS)}", monkeypatch):
        cut.setup()
        check_that_nothing_is_lost(cut)
        assert {name: kept(cut)[name] for name in NAMES} == old
        started = new_values(cut)
        cut.run(f"rotate {' '.join(KINDS)}")
        check_that_nothing_is_lost(cut)
        assert sorted(new_values(cut)) == KINDS
        assert new_values(cut).items() >= started.items()
        count += 1

    assert count > 2 * len(KINDS)


def test_after_an_interruption_of_its_end_each_value_is_whole_and_the_end_can_be_repeated(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes.run(f"rotate {' '.join(KINDS)}")
    new, count = new_values(volumes), 0

    for cut in cut_at_every_file(volumes, "rotate --finish", monkeypatch):
        cut.setup()
        check_that_nothing_is_lost(cut)
        assert {name: new_values(cut).get(name) or kept(cut)[name] for name in KINDS} == new
        cut.run("rotate --finish")
        assert {name: kept(cut)[name] for name in KINDS} == new
        count += 1

    assert count >= len(KINDS)


def test_an_interruption_before_anything_was_made_is_known_to_the_next_start(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark comes first: up.sh restarts who may hold an old value, even if the services have got no new one yet."""
    with monkeypatch.context() as cut, pytest.raises(PowerCutError):
        cut_power(cut, before=2)
        volumes.run("rotate fernet_key")

    assert volumes.read("handed/postgres/rotating") == "fernet_key\n"
    assert new_values(volumes) == {}


def test_there_is_no_backup_that_could_not_say_which_value_the_data_need(volumes: Volumes) -> None:
    volumes.run("rotate fernet_key")

    outcome = volumes.run("export")

    assert (outcome.code, outcome.raw) == (1, b"")
    assert outcome.err == "The rotation of fernet_key is not finished; end it first (make up).\n"
    volumes.run("rotate --finish")
    assert volumes.run("export").code == 0


def test_a_new_self_signed_certificate_is_made_at_once(volumes: Volumes) -> None:
    before = volumes.read("handed/nginx/tls.crt"), volumes.read("handed/nginx/tls.key")

    assert volumes.run("rotate certificate").code == 0

    after = volumes.read("handed/nginx/tls.crt"), volumes.read("handed/nginx/tls.key")
    assert not set(before) & set(after)
    assert not volumes.path("handed/postgres/rotating").exists()


@pytest.mark.parametrize(
    ("asked", "env", "sentence"),
    [
        ("fernet_key passwords", {}, "passwords is no generated secret; there are admin_password, "),
        ("fernet_key all", {}, "all is no generated secret; "),
        (
            "admin_password",
            {"DELAYWATCH_ADMIN_PASSWORD": "mine-is-better"},
            "admin_password is not in use: what counts is DELAYWATCH_ADMIN_PASSWORD in .env; change it there, then "
            "make up and make reset-password.",
        ),
        (
            "jupyter_token",
            {"DELAYWATCH_JUPYTER_TOKEN": "mine-is-better"},
            "jupyter_token is not in use: what counts is DELAYWATCH_JUPYTER_TOKEN in .env; ",
        ),
    ],
)
def test_what_cannot_be_rotated_is_refused_before_anything_is_changed(
    volumes: Volumes, asked: str, env: dict[str, str], sentence: str
) -> None:
    volumes.setup(**env)
    before = volumes.snapshot("secrets", "handed")

    outcome = volumes.run(f"rotate {asked}", env)

    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith(sentence)
    assert volumes.snapshot("secrets", "handed") == before


def test_all_leaves_out_what_env_decides(volumes: Volumes) -> None:
    volumes.run("rotate all", {"DELAYWATCH_ADMIN_PASSWORD": "mine-is-better"})

    assert set(NAMES) - new_values(volumes).keys() == {"admin_password"}


def test_before_the_first_start_there_is_nothing_to_rotate(tmp_path: Path) -> None:
    outcome = Volumes.make(tmp_path).run("rotate fernet_key")

    assert outcome.code == 1
    assert "start the stack once" in outcome.err


def test_without_a_name_every_secret_is_listed_and_none_is_changed(volumes: Volumes) -> None:
    before = volumes.snapshot("secrets", "handed")

    outcome = volumes.run("rotate")

    assert [line.split()[0] for line in outcome.out.splitlines()] == [*rotation.EFFECTS, "all"]
    assert set(rotation.EFFECTS) == {*NAMES, "certificate"}
    assert volumes.snapshot("secrets", "handed") == before


def test_every_secret_has_a_line_in_the_page_of_the_operator() -> None:
    page = (ROOT / "infra-notes/secrets.md").read_text()

    assert [name for name in rotation.EFFECTS if f"| `{name}` |" not in page] == []
