"""The volume `secrets`: what was generated once, how it is made, kept, lost, saved and brought back.

Nothing of `.env` is in it, and no service mounts it; who gets what is in `handover`.
"""

from __future__ import annotations

import base64
import io
import os
import re
import secrets
import string
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

from stack.files import put, sync
from utils.errors import InvalidInput, Missing

LETTERS = string.ascii_letters + string.digits  # need no quoting in URL, shell, ini, JSON or SQL, and start no option
READABLE = "".join(sorted(set(LETTERS) - set("0O1lI")))
PRIVATE = 0o600
UNFINISHED = "import-unfinished"
LARGEST_BYTES = 64 * 1024


def _random(length: int, alphabet: str = LETTERS) -> Callable[[], str]:
    return lambda: "".join(secrets.choice(alphabet) for _ in range(length))


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


MAKERS: dict[str, Callable[[], str]] = {
    "admin_password": _random(20, READABLE),  # the one that a person types
    "airflow_password": _random(40),
    "airflow_secret_key": _random(64),
    "fernet_key": _fernet_key,
    "jupyter_token": _random(40),
    "jwt_secret": _random(96),
    "postgres_password": _random(40),
    "reader_password": _random(40),
    "s3_access_key": _random(20, string.ascii_uppercase + string.digits),
    "s3_secret_key": _random(40),
    "superset_password": _random(40),
    "superset_secret_key": _random(64),
    "warehouse_password": _random(40),
}
# The self-signed pair, kept so that browsers stay content; `certificate` makes it.
CERTIFICATE, KEY = "tls.crt", "tls.key"
KNOWN = (*MAKERS, CERTIFICATE, KEY)
# Data was made with these, and new ones would not open it. The others may be lost, or come with a later release.
BOUND = frozenset(MAKERS) - {"airflow_secret_key", "jupyter_token", "jwt_secret", "s3_access_key", "s3_secret_key"}


def read(folder: Path) -> dict[str, str]:
    """The secrets that are there; an empty file is none."""
    found = {name: (folder / name).read_text() for name in MAKERS if (folder / name).is_file()}
    return {name: value for name, value in found.items() if value}


def require(folder: Path) -> dict[str, str]:
    """All secrets. Raises Missing naming those that are missing."""
    found = read(folder)
    if missing := [name for name in MAKERS if name not in found]:
        raise Missing(f"The volume of the secrets lacks {', '.join(missing)}; start the stack once (make up).")
    return found


def complete(folder: Path, database: Path) -> tuple[dict[str, str], int]:
    """All secrets and how many of them are new. Those that exist stay as they are.

    Raises InvalidInput when Postgres has data at `database` and one that it was made with is missing.
    """
    if (folder / UNFINISHED).exists():
        raise InvalidInput(
            "The restore of the secrets was interrupted; remove all volumes (make destroy) and repeat it."
        )
    found = read(folder)
    missing = [name for name in MAKERS if name not in found]
    lost = [name for name in missing if name in BOUND]
    if lost and _is_initialised(database):
        state = f"lacks {', '.join(lost)}" if found else "is empty"
        raise InvalidInput(
            f"The volume of the secrets {state}, but Postgres holds data that was made with them; when a backup has "
            "that data, or it may go, remove all volumes (make destroy), then bring the backup back (make restore "
            "FROM=backups/...) or start anew."
        )
    for name in missing:
        found[name] = MAKERS[name]()
        put(folder / name, found[name].encode(), PRIVATE)
    return found, len(missing)


def _is_initialised(database: Path) -> bool:
    """Whether a server's data is somewhere in the folder. A folder that cannot be read raises OSError."""

    def fail(error: OSError) -> None:
        raise error

    return any("PG_VERSION" in files for _, _, files in os.walk(database, onerror=fail))


# --- backup -----------------------------------------------------------------------------------------------------------


def pack(folder: Path) -> bytes:
    """The whole volume as a tar, the same bytes for the same secrets."""
    content = {name: value.encode() for name, value in require(folder).items()}
    content |= {name: (folder / name).read_bytes() for name in (CERTIFICATE, KEY) if (folder / name).is_file()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, value in sorted(content.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(value), PRIVATE
            tar.addfile(member, io.BytesIO(value))
    return buffer.getvalue()


def unpack(folder: Path, packed: bytes) -> int:
    """Fill the empty volume from a tar, count the files. Raises InvalidInput, before it writes, for any other tar."""
    is_unfinished = (folder / UNFINISHED).exists()
    if not is_unfinished and any((folder / name).exists() for name in KNOWN):
        raise InvalidInput(
            "The volume of the secrets is not empty; nothing was imported. Remove all volumes first (make destroy)."
        )
    content = _checked(packed)
    put(folder / UNFINISHED, b"", PRIVATE)  # half of them and half new ones would be worse than none
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
                file = tar.extractfile(member) if member.isreg() and member.size <= LARGEST_BYTES else None
                if member.name not in KNOWN or member.name in content or file is None:
                    raise InvalidInput(
                        "The backup of the secrets holds something else than our secrets; nothing was imported."
                    )
                content[member.name] = file.read()
    except tarfile.TarError:
        raise InvalidInput("The backup of the secrets is no tar, or not all of it; nothing was imported.") from None
    whole = [name for name in MAKERS if re.fullmatch(rb"[!-~]+", content.get(name, b""))]
    if lacking := [name for name in MAKERS if name not in whole and (name in BOUND or name in content)]:
        raise InvalidInput(f"The backup of the secrets lacks {', '.join(lacking)}; nothing was imported.")
    return content
