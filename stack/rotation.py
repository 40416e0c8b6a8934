"""Rotate generated secrets: keep the old value until all data and programs use the new one.

Three idempotent steps: `begin` stores the new values as NAME.next; every start hands them out, with the old values that
data still need (`hand_over`); `finish` deletes the old values. After an interruption both values are in the volume, and
`make up` continues. stack/up.sh has the order in which programs get the new values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stack import vault
from stack.files import put, sync
from stack.handover import READABLE, Content
from stack.settings import StackSettings
from utils.errors import InvalidInput

CERTIFICATE = "certificate"  # the self-signed pair; no data depends on it, so it is only created again
EFFECTS = {
    "admin_password": "password of admin in Airflow and Superset",
    "airflow_password": "password of Airflow's database",
    "airflow_secret_key": "signs Airflow's sessions; users must log in again",
    "feedback_password": "password of delaywatch_feedback, with which the pages write feedback",
    "fernet_key": "encrypts Airflow's connections and variables; they are re-encrypted",
    "jupyter_token": "token of Jupyter",
    "jwt_secret": "signs tokens of Airflow's API; programs that use the API must log in again",
    "postgres_password": "password of Postgres' superuser",
    "reader_password": "password of delaywatch_reader, with which Superset, Jupyter and the pages read the warehouse",
    "s3_access_key": "access key ID of the local object store",
    "s3_secret_key": "secret key of the local object store",
    "site_key": "signs the forms of the pages; people must load a page again",
    "superset_password": "password of Superset's database",
    "superset_secret_key": "signs Superset's sessions and encrypts its stored passwords; they are re-encrypted",
    "warehouse_password": "password of delaywatch, the owner of the local warehouse",
    CERTIFICATE: "self-signed certificate and its key; browsers warn again",
}
NEXT = ".next"
ROTATING = "rotating"  # file for Postgres and up.sh: the names, one per line


def choose(asked: Sequence[str], settings: StackSettings) -> list[str]:
    """Return the secrets to rotate; `all` means those in use. Raises InvalidInput for an unknown secret."""
    elsewhere = {
        name: f"{variable} in .env takes precedence; {remedy}"
        for name, variable, remedy, value in (
            (
                "admin_password",
                "DELAYWATCH_ADMIN_PASSWORD",
                "change it there, then run make up and make reset-password",
                settings.admin_password,
            ),
            ("jupyter_token", "DELAYWATCH_JUPYTER_TOKEN", "change it there, then run make up", settings.jupyter_token),
            (
                "reader_password",
                "DELAYWATCH_READER",
                "change the password there and in that warehouse, then run make up",
                settings.reader,
            ),
            (
                "feedback_password",
                "DELAYWATCH_FEEDBACK" if settings.feedback else "DELAYWATCH_READER",
                "change the password there and in that warehouse, then run make up",
                settings.feedback or settings.reader,
            ),
        )
        if value
    }
    if list(asked) == ["all"]:
        return [name for name in EFFECTS if name not in elsewhere]
    for name in asked:
        if name not in EFFECTS:
            raise InvalidInput(f"{name} is not a generated secret; choose from {', '.join(EFFECTS)}, or all.")
        if name in elsewhere:
            raise InvalidInput(f"{name} is not in use, because {elsewhere[name]}.")
    return list(dict.fromkeys(asked))


def under_way(folder: Path) -> dict[str, str]:
    """Return the new values of an unfinished rotation."""
    paths = {name: folder / f"{name}{NEXT}" for name in vault.MAKERS}
    return {name: value for name, path in paths.items() if path.is_file() and (value := path.read_text())}


def refuse_unfinished(folder: Path) -> None:
    """Raise InvalidInput during a rotation: a backup could not know which values its data need."""
    if names := under_way(folder):
        raise InvalidInput(f"The rotation of {', '.join(names)} is not finished; run make up to finish it.")


def begin(folder: Path, handed: Path, names: Sequence[str]) -> None:
    """Create new values. A new value of an interrupted rotation is kept, because it may be in use."""
    started = under_way(folder)
    # First, so that after any interruption the next start knows that programs may use old values.
    put(handed / "postgres" / ROTATING, _lines([*started, *(set(names) - started.keys())]), READABLE)
    for name in names:
        if name == CERTIFICATE:
            (folder / vault.KEY).unlink(missing_ok=True)
            (folder / vault.CERTIFICATE).unlink(missing_ok=True)
        elif name not in started:
            put(folder / f"{name}{NEXT}", vault.MAKERS[name]().encode(), vault.PRIVATE)


def finish(folder: Path) -> list[str]:
    """Replace the old values by the new ones."""
    names = list(under_way(folder))
    for name in names:
        (folder / f"{name}{NEXT}").replace(folder / name)
    sync(folder)
    return names


def hand_over(
    table: Mapping[str, Mapping[str, Content]], old: Mapping[str, str], new: Mapping[str, str]
) -> dict[str, dict[str, Content]]:
    """Return the services' files with the new values, and the old ones that data are encrypted with."""
    service_files = {service: dict(files) for service, files in table.items()}
    if "fernet_key" in new:  # Airflow encrypts with the first key and decrypts with any
        service_files["airflow"]["fernet_key"] = f"{new['fernet_key']},{old['fernet_key']}"
    if "superset_secret_key" in new:  # provision.py re-encrypts values of this key
        service_files["superset"]["previous_secret_key"] = old["superset_secret_key"]
    if new:
        service_files["postgres"][ROTATING] = _lines(new)
    return service_files


def _lines(names: Sequence[str] | Mapping[str, str]) -> bytes:
    return "".join(f"{name}\n" for name in sorted(names)).encode()
