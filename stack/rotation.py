"""Generated secrets that get a new value, kept beside the old one until all that was made with that has taken it.

Three steps, each of which may be repeated: `begin` keeps the new values as NAME.next; every start hands them out, and
with them the old ones that data still need (`hand_over`); `finish` drops the old ones. Whatever is interrupted leaves
both values in the volume, and `make up` goes on. Who takes the new ones, and when, is in stack/up.sh.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stack import vault
from stack.files import put, sync
from stack.handover import READABLE, Content
from stack.settings import StackSettings
from utils.errors import InvalidInput

CERTIFICATE = "certificate"  # the self-signed pair; nothing was made with it, so it is only made anew
EFFECTS = {
    "admin_password": "what admin types in Airflow and Superset",
    "airflow_password": "Airflow's login to its database",
    "airflow_secret_key": "signs Airflow's sessions: everybody logs in again",
    "fernet_key": "encrypts Airflow's connections and variables, which are encrypted anew",
    "jupyter_token": "what Jupyter asks for",
    "jwt_secret": "signs Airflow's tokens: programs that use the API log in again",
    "postgres_password": "Postgres' superuser",
    "reader_password": "the login delaywatch_reader, with which Superset and Jupyter read the warehouse",
    "s3_access_key": "name of the key to the local object store",
    "s3_secret_key": "the key to the local object store",
    "superset_password": "Superset's login to its database",
    "superset_secret_key": "signs Superset's sessions, encrypts its stored passwords, which are encrypted anew",
    "warehouse_password": "the login delaywatch of the local warehouse",
    CERTIFICATE: "the self-signed certificate and its key: browsers ask again whether it is trusted",
}
NEXT = ".next"
ROTATING = "rotating"  # handed to Postgres: the names, a line each; up.sh reads it too


def choose(asked: Sequence[str], settings: StackSettings) -> list[str]:
    """The secrets that are meant, `all` being those that are in use. Raises InvalidInput for one that is not ours."""
    elsewhere = {
        name: f"{variable} in .env; change it there, then {then}"
        for name, variable, then, value in (
            ("admin_password", "DELAYWATCH_ADMIN_PASSWORD", "make up and make reset-password", settings.admin_password),
            ("jupyter_token", "DELAYWATCH_JUPYTER_TOKEN", "make up", settings.jupyter_token),
            ("reader_password", "DELAYWATCH_READER", "in that warehouse, then make up", settings.reader),
        )
        if value
    }
    if list(asked) == ["all"]:
        return [name for name in EFFECTS if name not in elsewhere]
    for name in asked:
        if name not in EFFECTS:
            raise InvalidInput(f"{name} is no generated secret; there are {', '.join(EFFECTS)}, and all for every one.")
        if name in elsewhere:
            raise InvalidInput(f"{name} is not in use: what counts is {elsewhere[name]}.")
    return list(dict.fromkeys(asked))


def under_way(folder: Path) -> dict[str, str]:
    """The new values that are not yet the only ones."""
    found = {name: folder / f"{name}{NEXT}" for name in vault.MAKERS}
    return {name: value for name, path in found.items() if path.is_file() and (value := path.read_text())}


def refuse_unfinished(folder: Path) -> None:
    """Raise InvalidInput while there are old values beside new ones: a backup could not say which of them data need."""
    if names := under_way(folder):
        raise InvalidInput(f"The rotation of {', '.join(names)} is not finished; end it first (make up).")


def begin(folder: Path, handed: Path, names: Sequence[str]) -> None:
    """Make new values. One that an interrupted rotation has made already stays: it may be in use."""
    started = under_way(folder)
    # First, so that whatever is interrupted from here on, the next start knows that programs may hold old values.
    put(handed / "postgres" / ROTATING, _lines([*started, *(set(names) - started.keys())]), READABLE)
    for name in names:
        if name == CERTIFICATE:
            (folder / vault.KEY).unlink(missing_ok=True)
            (folder / vault.CERTIFICATE).unlink(missing_ok=True)
        elif name not in started:
            put(folder / f"{name}{NEXT}", vault.MAKERS[name]().encode(), vault.PRIVATE)


def finish(folder: Path) -> list[str]:
    """Put the new values in the place of the old ones, which are gone then."""
    names = list(under_way(folder))
    for name in names:
        (folder / f"{name}{NEXT}").replace(folder / name)
    sync(folder)
    return names


def hand_over(
    table: Mapping[str, Mapping[str, Content]], old: Mapping[str, str], new: Mapping[str, str]
) -> dict[str, dict[str, Content]]:
    """The services' files, made from the new values, and beside them the old ones with which data are encrypted."""
    found = {service: dict(files) for service, files in table.items()}
    if "fernet_key" in new:  # Airflow writes with the first and reads with any
        found["airflow"]["fernet_key"] = f"{new['fernet_key']},{old['fernet_key']}"
    if "superset_secret_key" in new:  # for provision.py, which encrypts anew what it reads with this one
        found["superset"]["previous_secret_key"] = old["superset_secret_key"]
    if new:
        found["postgres"][ROTATING] = _lines(new)
    return found


def _lines(names: Sequence[str] | Mapping[str, str]) -> bytes:
    return "".join(f"{name}\n" for name in sorted(names)).encode()
