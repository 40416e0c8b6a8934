"""The record of the last backups: what was made, what was copied, what failed. `setup` writes it, `health` reads it.

It is kept in the volume `secrets`, but it is no secret and not part of a backup. Making and copying are shell
(stack/backup.sh, stack/backup-daily.sh) and `offsite`.
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
    """Return the record as JSON, None before the first backup."""
    path = folder / RECORD
    return path.read_bytes() if path.is_file() else None


def note(folder: Path, event: str, text: str, place: str | None, now: datetime) -> None:
    """Record an event of EVENTS. text: the name of the file, or the reason of the failure. A copy ends a failure.

    The time of a file is the one in its name: a copy that succeeds late is as old as the backup that it is of.
    """
    record: dict[str, Any] = json.loads(read(folder) or b"{}")
    stamp = STAMP.search(text) if event != "failed" else None
    at = datetime.strptime(stamp[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) if stamp else now
    record[event] = {"at": at.isoformat(timespec="seconds"), "text": text, "place": place}
    if event == "copied":
        record.pop("failed", None)
    put(folder / RECORD, json.dumps(record, indent=2).encode(), 0o600)
