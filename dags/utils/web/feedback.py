"""Feedback on an airport-day from a form: check origin, token and rate, then write as the login that writes feedback.

The token is signed with the site's key for one user and a limited time, so another site cannot know it. It is not bound
to the cookie, because Superset signs its cookie again with every answer.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from fastapi import Request

from utils import schemas
from utils.errors import printable
from utils.warehouse import feedback
from utils.warehouse.connection import Postgres  # not DBHandler, which loads Alembic: 10 MB
from utils.web.auth import Forbidden, Visitor

WITHDRAW = "withdraw"
OPINIONS = (*schemas.OPINIONS, WITHDRAW)
MAX_NOTE_LENGTH = 500
MAX_BODY_BYTES = 16 * 1024  # a note of 500 characters takes at most 6,000 bytes in a form
TOKEN_LIFE_S = 12 * 3600
MAX_PER_MINUTE = 20  # changes by one user


class Invalid(Exception):
    """A form that cannot be used; the message says why."""


class TooMany(Exception):
    """The user has sent too many changes in the last minute."""


class Label(NamedTuple):
    """The content of a form. opinion: one of OPINIONS."""

    opinion: str
    note: str


async def read_form(request: Request) -> Mapping[str, str]:
    """Return the fields of an urlencoded form, the first value of each. Raises Invalid for anything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Invalid("The form must be sent as application/x-www-form-urlencoded.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Invalid(f"The form is larger than {MAX_BODY_BYTES} bytes; shorten the note.")
    try:
        fields = parse_qs(
            body.decode("ascii"), keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=10
        )
    except ValueError:
        raise Invalid("The form cannot be decoded as UTF-8, or it has too many fields.") from None
    return {name: values[0] for name, values in fields.items()}


def check_origin(request: Request) -> None:
    """Raise Forbidden unless a page of this host sent the request. Browsers send Origin with every POST."""
    origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
    parts = urlsplit(origin) if re.fullmatch(r"https?://[^/@\\\s]+", origin) else None
    if parts is None or parts.netloc != host or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise Forbidden


def label_of(form: Mapping[str, str]) -> Label:
    """Return the opinion and the note of a form. Raises Invalid."""
    opinion = WITHDRAW if "withdraw" in form else form.get("opinion", "")
    note = form.get("note", "").replace("\r\n", "\n").strip()
    if opinion not in OPINIONS:
        raise Invalid(f"The opinion must be one of {', '.join(OPINIONS)}.")
    if len(note) > MAX_NOTE_LENGTH:
        raise Invalid(f"The note has {len(note)} characters; write at most {MAX_NOTE_LENGTH}.")
    if note != printable(note) or "\0" in note or any("\ud800" <= character <= "\udfff" for character in note):
        raise Invalid("The note contains a control character; remove it.")
    return Label(opinion, note)


def write(server: Postgres, origin: str, fl_date: dt.date, label: Label, visitor: Visitor) -> bool:
    """Write or withdraw the feedback. Return True if it changed. Raises Missing for a day that does not exist."""
    if label.opinion == WITHDRAW:
        return feedback.withdraw(server, origin, fl_date)
    return feedback.give(server, origin, fl_date, label.opinion, label.note, visitor.name)


class Tokens:
    """Tokens for forms of one user."""

    def __init__(self, key: str, clock: Callable[[], float] = time.time) -> None:
        """key: secret of the site."""
        self._key, self._clock = key.encode(), clock

    def create(self, visitor: Visitor) -> str:
        """Return a token that is valid for TOKEN_LIFE_S."""
        until = int(self._clock()) + TOKEN_LIFE_S
        return f"{until}.{self._signature(until, visitor)}"

    def check(self, token: str, visitor: Visitor) -> None:
        """Raise Invalid unless the token was created for the visitor and has not expired."""
        match = re.fullmatch(r"([0-9]{1,12})\.([0-9a-f]{64})", token)
        is_genuine = match and hmac.compare_digest(match[2], self._signature(int(match[1]), visitor))
        if not match or not is_genuine or int(match[1]) < self._clock():
            raise Invalid("The form has expired or was not sent by this page; load the page again and repeat it.")

    def _signature(self, until: int, visitor: Visitor) -> str:
        return hmac.new(self._key, f"{until} {visitor.name}".encode(), hashlib.sha256).hexdigest()


class RateLimit:
    """Counts the changes of each user in the last minute. Thread-safe."""

    def __init__(self, per_minute: int = MAX_PER_MINUTE, clock: Callable[[], float] = time.monotonic) -> None:
        """per_minute: changes of one user."""
        self._per_minute, self._clock, self._lock = per_minute, clock, threading.Lock()
        self._times: dict[str, deque[float]] = {}  # only users of Superset, so it stays small

    def count(self, visitor: Visitor) -> None:
        """Count a change. Raises TooMany if it is one too many, which then does not count."""
        now = self._clock()
        with self._lock:
            times = self._times.setdefault(visitor.name, deque())
            while times and times[0] <= now - 60:
                times.popleft()
            if len(times) >= self._per_minute:
                raise TooMany
            times.append(now)
