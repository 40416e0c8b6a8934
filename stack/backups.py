"""The record of the last backups: created, copied, failed. `setup` writes it, `health` reads it.

It is kept in the volume `secrets`, although it is no secret, and is not part of a backup. stack/backup.sh creates
backups; stack/backup-daily.sh and `offsite` copy them.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stack.files import put

RECORD = "backup.json"
EVENTS = ("made", "copied", "failed")
STAMP = re.compile(r"\d{8}T\d{6}Z")


def read(folder: Path) -> bytes | None:
    """Return the record as JSON, or None before the first backup."""
    path = folder / RECORD
    return path.read_bytes() if path.is_file() else None


def note(folder: Path, event: str, text: str, place: str | None, now: datetime) -> None:
    """Record an event of EVENTS. text: the file name, or the reason of the failure. A copy clears the failure.

    The time of a file is the time in its name: a late copy is as old as its backup.
    """
    record: dict[str, Any] = json.loads(read(folder) or b"{}")
    stamp = STAMP.search(text) if event != "failed" else None
    at = datetime.strptime(stamp[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) if stamp else now
    record[event] = {"at": at.isoformat(timespec="seconds"), "text": text, "place": place}
    if event == "copied":
        record.pop("failed", None)
    put(folder / RECORD, json.dumps(record, indent=2).encode(), 0o600)
