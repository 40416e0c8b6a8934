"""Find out who visits: ask Superset with the session cookie of the request, and remember the answer for a minute.

The site has no password of its own (decision 0041). Only the cookie is forwarded, no other header of the visitor.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import urllib3

from utils.errors import Unavailable

COOKIE = "superset_session"  # as in superset_config.py
COOKIE_VALUE = re.compile(r"[A-Za-z0-9_.=-]{1,8192}")  # of a signed session; anything else cannot be one
LABELLERS = frozenset({"Admin", "Analyst"})  # roles of Superset that may give feedback
KEEP_S = 60
MAX_KEPT = 1000
TIMEOUT = urllib3.Timeout(connect=2, read=10)
LOGIN = "/login/"  # of Superset
OWN_PATH = re.compile(r"(?!.*//)/flights/[A-Za-z0-9/._-]*(?:\?[A-Za-z0-9=&%._+-]*)?")


class NotLoggedIn(Exception):
    """The request has no valid session of Superset."""


class SupersetUnavailable(Unavailable):
    """Superset does not answer, so nobody can be let in."""


class Forbidden(Exception):
    """Superset knows the visitor and refuses access, or the visitor's role may not do this."""


@dataclass(frozen=True)
class Visitor:
    """A user of Superset with the names of its roles."""

    name: str
    roles: frozenset[str]

    @property
    def may_label(self) -> bool:
        """Return True if the visitor may give feedback."""
        return not self.roles.isdisjoint(LABELLERS)


class Sessions:
    """The visitors of the last minute, by a hash of their cookie. Thread-safe."""

    def __init__(self, superset: str, clock: Callable[[], float] = time.monotonic) -> None:
        """superset: URL of Superset. Opens no connection."""
        self._superset = superset
        self._http = urllib3.PoolManager(num_pools=1, maxsize=4, retries=False)
        self._clock, self._lock = clock, threading.Lock()
        self._kept: OrderedDict[str, tuple[float, Visitor]] = OrderedDict()

    def visitor(self, cookie: str | None) -> Visitor:
        """Return who has this cookie.

        Raises NotLoggedIn for no session, a forged or an expired one, Forbidden if Superset refuses the user, and
        SupersetUnavailable if Superset does not answer as expected. Only a success is remembered.
        """
        if cookie is None or not COOKIE_VALUE.fullmatch(cookie):
            raise NotLoggedIn
        key = hashlib.sha256(cookie.encode()).hexdigest()
        with self._lock:
            until, visitor = self._kept.get(key, (0.0, None))
        if visitor and self._clock() < until:
            return visitor
        name = self._ask("/api/v1/me/", cookie).get("username")
        roles = self._ask("/api/v1/me/roles/", cookie).get("roles")
        if not isinstance(name, str) or not name or not isinstance(roles, dict):
            raise self._unavailable("an answer without a user name or roles")
        visitor = Visitor(name, frozenset(map(str, roles)))
        with self._lock:
            self._kept[key] = self._clock() + KEEP_S, visitor
            self._kept.move_to_end(key)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return visitor

    def _ask(self, path: str, cookie: str) -> dict[str, Any]:
        """Return the result of a GET of Superset's API."""
        headers = {"Cookie": f"{COOKIE}={cookie}", "Accept": "application/json"}
        try:
            answer = self._http.request(
                "GET", self._superset + path, headers=headers, timeout=TIMEOUT, redirect=False, retries=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise self._unavailable(type(error).__name__) from error
        if answer.status == 401:
            raise NotLoggedIn
        if answer.status == 403:
            raise Forbidden
        try:
            result = json.loads(answer.data)["result"] if answer.status == 200 else None
        except (ValueError, KeyError, TypeError) as error:
            raise self._unavailable("an answer that is not JSON with a result") from error
        if not isinstance(result, dict):
            raise self._unavailable(f"status {answer.status}")
        return result

    def _unavailable(self, reason: str) -> SupersetUnavailable:
        return SupersetUnavailable(
            f"Superset at {self._superset} did not say who the visitor is ({reason}); wait until it is healthy, or "
            "start it with `make up`."
        )


def login_url(path: str) -> str:
    """Return the address of Superset's login that leads back to `path`, an address of the site.

    Any other path leads back to the home page, so that a link cannot use the login to reach another site.
    """
    own = path if OWN_PATH.fullmatch(path) and "/." not in path else "/flights/"
    return f"{LOGIN}?next={quote(own, safe='')}"
