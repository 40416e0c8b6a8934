"""The volume `secrets`: create, keep, save and restore generated secrets.

It contains nothing of `.env`, and only setup mounts it; `handover` gives each service its secrets.
"""

from __future__ import annotations

import base64
import io
import os
import re
import secrets
import string
import tarfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from stack.files import put, sync
from utils.errors import InvalidInput, Missing

# Need no quoting in URL, shell, ini, JSON or SQL, and cannot start an option.
LETTERS = string.ascii_letters + string.digits
READABLE = "".join(sorted(set(LETTERS) - set("0O1lI")))
PRIVATE = 0o600
UNFINISHED = "import-unfinished"
MAX_FILE_BYTES = 64 * 1024


def _random(length: int, alphabet: str = LETTERS) -> Callable[[], str]:
    return lambda: "".join(secrets.choice(alphabet) for _ in range(length))


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


MAKERS: dict[str, Callable[[], str]] = {
    "admin_password": _random(20, READABLE),  # typed by a person
    "airflow_password": _random(40),
    "airflow_secret_key": _random(64),
    "feedback_password": _random(40),
    "fernet_key": _fernet_key,
    "jupyter_token": _random(40),
    "jwt_secret": _random(96),
    "postgres_password": _random(40),
    "reader_password": _random(40),
    "s3_access_key": _random(20, string.ascii_uppercase + string.digits),
    "s3_secret_key": _random(40),
    "site_key": _random(64),
    "superset_password": _random(40),
    "superset_secret_key": _random(64),
    "warehouse_password": _random(40),
}
# The self-signed pair, kept so that browsers do not warn again; `certificate` creates it.
CERTIFICATE, KEY = "tls.crt", "tls.key"
KNOWN = (*MAKERS, CERTIFICATE, KEY)
# Data depend on these and cannot be opened with new ones. The others may be lost, or be added by a later release.
BOUND = frozenset(MAKERS) - {
    *("airflow_secret_key", "feedback_password", "jupyter_token", "jwt_secret"),
    *("s3_access_key", "s3_secret_key", "site_key"),
}


def read(folder: Path) -> dict[str, str]:
    """Return the secrets that exist; an empty file counts as missing."""
    values = {name: (folder / name).read_text() for name in MAKERS if (folder / name).is_file()}
    return {name: value for name, value in values.items() if value}


def require(folder: Path, names: Collection[str] = MAKERS) -> dict[str, str]:
    """Return the secrets that exist. Raises Missing with those of `names` that do not."""
    values = read(folder)
    if missing := [name for name in names if name not in values]:
        raise Missing(f"The volume `secrets` lacks {', '.join(missing)}; start the stack once (make up).")
    return values


def complete(folder: Path, database: Path) -> tuple[dict[str, str], int]:
    """Create missing secrets. Return all secrets and the number of new ones.

    Raises InvalidInput if Postgres has data at `database` and a secret that these data depend on is missing.
    """
    if (folder / UNFINISHED).exists():
        raise InvalidInput(
            "The restore of the secrets was interrupted; remove all volumes (make destroy CONFIRM=yes), then restore "
            "again (make restore FROM=backups/...)."
        )
    values = read(folder)
    missing = [name for name in MAKERS if name not in values]
    lost = [name for name in missing if name in BOUND]
    if lost and _is_initialised(database):
        state = f"lacks {', '.join(lost)}" if values else "is empty"
        raise InvalidInput(
            f"The volume `secrets` {state}, but the data of Postgres need the missing secrets. Remove all volumes "
            "(make destroy CONFIRM=yes) if you have a backup or do not need the data, then restore the backup (make "
            "restore FROM=backups/...) or start an empty stack (make up)."
        )
    for name in missing:
        values[name] = MAKERS[name]()
        put(folder / name, values[name].encode(), PRIVATE)
    return values, len(missing)


def _is_initialised(database: Path) -> bool:
    """Return True if the folder contains the data of a server. Raises OSError if it cannot be read."""

    def fail(error: OSError) -> None:
        raise error

    return any("PG_VERSION" in files for _, _, files in os.walk(database, onerror=fail))


# --- backup -----------------------------------------------------------------------------------------------------------


def pack(folder: Path) -> bytes:
    """Return the whole volume as a tar, with the same bytes for the same secrets.

    A secret that a later release adds may be missing: `make upgrade` creates a backup before setup creates the secret.
    """
    content = {name: value.encode() for name, value in require(folder, sorted(BOUND)).items()}
    content |= {name: (folder / name).read_bytes() for name in (CERTIFICATE, KEY) if (folder / name).is_file()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, value in sorted(content.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(value), PRIVATE
            tar.addfile(member, io.BytesIO(value))
    return buffer.getvalue()


def unpack(folder: Path, packed: bytes) -> int:
    """Extract a tar of `pack` into the empty volume. Return the number of files.

    Raises InvalidInput, before writing, for any other tar.
    """
    is_unfinished = (folder / UNFINISHED).exists()
    if not is_unfinished and any((folder / name).exists() for name in KNOWN):
        raise InvalidInput(
            "The volume `secrets` is not empty, so nothing was imported; remove all volumes first (make destroy "
            "CONFIRM=yes)."
        )
    content = _checked(packed)
    # Marks an unfinished import: mixing old and new secrets would be worse than having none.
    put(folder / UNFINISHED, b"", PRIVATE)
    for name, value in content.items():
        put(folder / name, value, PRIVATE)
    (folder / UNFINISHED).unlink()
    sync(folder)
    return len(content)


def _checked(packed: bytes) -> Mapping[str, bytes]:
    content: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() and member.size <= MAX_FILE_BYTES else None
                if member.name not in KNOWN or member.name in content or file is None:
                    raise InvalidInput(
                        f"The backup of the secrets has the invalid file {member.name[:80]!r}, so nothing was "
                        "imported; use a file that make backup has written."
                    )
                content[member.name] = file.read()
    except tarfile.TarError:
        raise InvalidInput(
            "The backup of the secrets is not a complete tar, so nothing was imported; use another backup."
        ) from None
    whole = [name for name in MAKERS if re.fullmatch(rb"[!-~]+", content.get(name, b""))]
    if lacking := [name for name in MAKERS if name not in whole and (name in BOUND or name in content)]:
        raise InvalidInput(
            f"The backup of the secrets lacks {', '.join(lacking)}, so nothing was imported; use another backup."
        )
    return content
