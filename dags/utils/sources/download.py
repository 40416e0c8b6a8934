"""One file over HTTP to a local path: tried again with patience, resumed where it was cut, its hash kept beside it.

Knows nothing of flights. What a file must hold is the caller's to check, who passes that check in. A file is kept under
its path with `<name>.json` beside it; one that is not complete is `<name>.part` with `<name>.part.json`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from typing_extensions import override
from urllib3.util import Retry

from utils import __version__
from utils.errors import DelaywatchError

CHUNK = 1 << 18  # bytes in memory at a time
MUCH = 1 << 20  # bytes: a try that brought this many was worth it, and the count of failures begins anew
BUSY = (429, 500, 502, 503, 504)

Progress = Callable[[str, int, int | None], None]  # what is on its way, its bytes that are here, all of its bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, and how often it is asked again."""

    connect_s: float = 10
    silence_s: float = 60  # without a byte, or with fewer than `least_bytes_per_s` on average
    least_bytes_per_s: float = 1024
    tries: int = 6  # in a row that fail or bring less than MUCH, the first included
    pause_s: float = 2  # before the second try, twice as long before each further one
    longest_pause_s: float = 120  # also when the server asks for a longer one (Retry-After)


@dataclass(frozen=True)
class Version:
    """What tells two versions of the file at one address apart; a server may leave any of it empty."""

    etag: str = ""
    last_modified: str = ""
    bytes: int | None = None
    md5: str = field(default="", compare=False)  # hexadecimal, where told (Google's storage, which serves for Kaggle)

    @property
    def validator(self) -> str:
        """What makes the server answer with the rest of this version or with a whole new one; empty: nothing does."""
        return self.last_modified if self.etag.startswith("W/") or not self.etag else self.etag

    @property
    def is_known(self) -> bool:
        """Whether a second look can tell that the file is still the same."""
        return bool(self.etag or self.last_modified or self.bytes)


@dataclass(frozen=True)
class File:
    """A complete file and where it came from."""

    path: Path
    url: str
    version: Version
    bytes: int
    sha256: str

    def record(self) -> dict[str, Any]:
        """All but the path, JSON-ready."""
        return {"url": self.url, "version": asdict(self.version), "bytes": self.bytes, "sha256": self.sha256}


class _Stalled(urllib3.exceptions.HTTPError):
    """Bytes come, but too slowly to wait for."""


class _Session(requests.Session):
    """Follows redirects within the web, and none from an encrypted connection to a plain one."""

    @override
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            here, there = (urlsplit(url).scheme for url in (resp.url, urljoin(resp.url, target)))
            if there != "https" and (there, here) != ("http", "http"):
                resp.close()
                raise DelaywatchError(
                    f"{urlsplit(resp.url).netloc} leads from {here}:// to {there}://, where anybody could have put the "
                    "file; nothing was fetched, correct the variable that names the host."
                )
        return target


class Client:
    """Asks servers for files, one at a time. Raises DelaywatchError for every fault, caused by an OSError when the same
    request may do better another time.
    """

    def __init__(self, patience: Patience, auth: AuthBase | None = None) -> None:
        """`auth` goes to the host that is asked and, by requests' own rule, to no other one that it redirects to."""
        self._patience, self._session = patience, _Session()
        retry = Retry(
            total=patience.tries - 1,
            other=0,  # a certificate gets no better
            allowed_methods=("GET", "HEAD"),
            status_forcelist=BUSY,
            backoff_factor=patience.pause_s,
            backoff_max=patience.longest_pause_s,
            retry_after_max=int(patience.longest_pause_s),
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))
        self._session.auth = auth
        # Ranges and lengths are those of the file itself, hence no compression on the way.
        self._session.headers.update({"User-Agent": f"delaywatch/{__version__}", "Accept-Encoding": "identity"})

    def close(self) -> None:
        """Give back the connections."""
        self._session.close()

    def version(self, url: str) -> Version | None:
        """What the server has at `url` now, None when it has nothing there; the file itself stays there.

        A server that does not answer HEAD in full, as one whose signed addresses are for GET alone, is asked by GET,
        and hung up on.
        """
        with self._answer(url, {}, "HEAD") as answer:
            if answer.status_code == 404:
                return None
            if answer.status_code == 200 and (found := _version(answer)).bytes is not None:
                return found
        with self._answer(url, {}) as answer:
            return None if answer.status_code == 404 else _version(answer)

    def download(
        self, url: str, to: Path, check: Callable[[Path], None], progress: Progress | None = None
    ) -> File | None:
        """The file at `url` as the local file `to`; None when the server has nothing there.

        A file that an earlier call left in `to` is taken when the server still has that version, and a part of one is
        completed. check: raises DelaywatchError for a file that is not what it should be; such a one is not kept.
        Raises OSError when the disk does not take the file.
        """
        kept, part, failures, furthest = _kept(url, to), _Part(url, to), 0, 0
        while True:
            there = part.bytes if part.version.validator else 0
            ask = {"Range": f"bytes={there}-", "If-Range": part.version.validator} if there else {}
            with self._answer(url, ask) as answer:
                if answer.status_code == 404:
                    return None
                found = _version(answer)
                if kept and found == kept.version and found.is_known:
                    return kept
                if not part.goes_on_with(answer, found):
                    if answer.status_code != 200:
                        if not there:
                            self._refuse(url, answer)
                        part.drop()  # what is here does not fit what the server has
                        continue
                    part.begin(found)
                try:
                    self._receive(answer, part, progress)
                except urllib3.exceptions.HTTPError as error:
                    failures += 1
                    if part.bytes >= furthest + MUCH:
                        failures, furthest = 1, part.bytes
                    if failures >= self._patience.tries:
                        self._give_up(url, part, error)
                    log.warning("%s was cut after %s bytes; asking for the rest", to.name, f"{part.bytes:,}")
                else:
                    return part.complete(check)
            time.sleep(min(self._patience.pause_s * 2 ** (failures - 1), self._patience.longest_pause_s))

    def _receive(self, answer: requests.Response, part: _Part, progress: Progress | None) -> None:
        """Append the answer to `part`. Raises urllib3's HTTPError when it ends early, falls silent or is too slow."""
        since, arrived = time.monotonic(), 0
        with part.path.open("ab") as file:
            while data := answer.raw.read1(CHUNK):  # what is there, so that a trickle does not hold us up unseen
                file.write(data)
                part.bytes += len(data)
                arrived += len(data)
                if progress:
                    progress(part.to.name, part.bytes, part.version.bytes)
                if (spent := time.monotonic() - since) >= self._patience.silence_s:
                    if arrived < self._patience.least_bytes_per_s * spent:
                        raise _Stalled(f"only {arrived:,} bytes in {spent:.0f} s")
                    since, arrived = time.monotonic(), 0
        if part.version.bytes not in (None, part.bytes):
            raise urllib3.exceptions.ProtocolError(f"{part.bytes:,} bytes instead of {part.version.bytes:,}")

    @contextmanager
    def _answer(self, url: str, headers: dict[str, str], method: str = "GET") -> Iterator[requests.Response]:
        """An answer of 200, 206, 404 or 416, its body still to be read; another is an error, to HEAD only if BUSY."""
        host = urlsplit(url).netloc
        if "@" in host:  # addresses stand in sentences and in records
            raise DelaywatchError(
                "The address to fetch from has a user or a password in it; put them into ~/.netrc and leave the host."
            )
        try:
            timeout = (self._patience.connect_s, self._patience.silence_s)
            answer = self._session.request(method, url, headers=headers, stream=True, timeout=timeout)
        except requests.exceptions.SSLError as error:
            raise DelaywatchError(
                f"No trusted connection to {host} ({_reason(error)}); when only its issuer is unknown here, let "
                "REQUESTS_CA_BUNDLE name a file of certificates that holds it."
            ) from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
            raise DelaywatchError(
                f"{url} is no address of the web; correct the variable that names its host."
            ) from None
        except requests.exceptions.TooManyRedirects:
            raise DelaywatchError(f"{url} leads round in a circle; correct the variable that names its host.") from None
        except requests.RequestException as error:
            raise DelaywatchError(
                f"{host} does not answer ({_reason(error)}); see whether this machine reaches it (a proxy goes into "
                "HTTPS_PROXY), then fetch again: what is here is kept."
            ) from ConnectionError(_reason(error))  # its own words may hold the signed address of a redirect
        with answer:
            if answer.status_code in BUSY or (method == "GET" and answer.status_code not in (200, 206, 404, 416)):
                self._refuse(url, answer)
            yield answer

    def _give_up(self, url: str, part: _Part, error: Exception) -> NoReturn:
        whole = f" of {part.version.bytes:,}" if part.version.bytes else ""
        raise DelaywatchError(
            f"{url} broke off {self._patience.tries} times in a row, the last time after {part.bytes:,}{whole} bytes "
            f"({_reason(error)}); fetch again later, what is here is kept."
        ) from ConnectionError(str(error))

    def _refuse(self, url: str, answer: requests.Response) -> NoReturn:
        host, told = urlsplit(url).netloc, f"{answer.status_code} {answer.reason}"
        if answer.status_code in BUSY:
            raise DelaywatchError(
                f"{host} is busy or at fault ({told}) in {self._patience.tries} tries; fetch again later, what is here "
                "is kept."
            ) from ConnectionError(told)
        if answer.status_code in (401, 403) and self._session.auth:
            raise DelaywatchError(
                f"{host} refuses {url} ({told}); see that the token is right and that this account or address may have "
                "the file."
            )
        if answer.status_code in (401, 403):  # no login was sent, so the server or a proxy refuses this address
            raise DelaywatchError(
                f"{host} answers {told} to {url}; it may block this address or automatic downloads. Download the zips "
                "in a browser and read them with `fetch --source bts --from FOLDER`."
            )
        raise DelaywatchError(f"{host} answers {told} to {url}; open that in a browser to see what is wrong.")


class _Part:
    """The part of a file that is here, and of which version it is."""

    def __init__(self, url: str, to: Path) -> None:
        """What an earlier call left, unless nothing can tell whether the rest would fit."""
        self.url, self.to = url, to
        self.path, self._note = to.with_name(to.name + ".part"), to.with_name(to.name + ".part.json")
        self.version, _ = _note(self._note, url) or (Version(), {})
        self.bytes = self.path.stat().st_size if self.path.is_file() else 0

    def goes_on_with(self, answer: requests.Response, found: Version) -> bool:
        """Whether the answer is the rest of this part."""
        start = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        return answer.status_code == 206 and self.bytes > 0 and start == str(self.bytes) and found == self.version

    def begin(self, version: Version) -> None:
        """Forget what is here; the file of `version` comes."""
        self.drop()
        self.version = version
        self._note.write_text(json.dumps({"url": self.url, "version": asdict(version)}))

    def drop(self) -> None:
        """Remove the part."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self.version, self.bytes = Version(), 0

    def complete(self, check: Callable[[Path], None]) -> File:
        """Put the part in its place, its record beside it. Raises DelaywatchError, and keeps nothing, for a bad one."""
        self.path.touch()  # an empty answer has made none
        try:
            if self.version.md5 and _digest(self.path, "md5") != self.version.md5:
                raise DelaywatchError(f"{self.url} arrived damaged (MD5); fetch again.")
            check(self.path)
        except DelaywatchError:
            self.drop()
            raise
        file = File(self.to, self.url, self.version, self.bytes, _digest(self.path, "sha256"))
        self.path.replace(self.to)
        _note_of(self.to).write_text(json.dumps(file.record(), indent=2) + "\n")
        self._note.unlink(missing_ok=True)
        return file


def _note_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _note(path: Path, url: str) -> tuple[Version, dict[str, Any]] | None:
    """The record of the file from `url` that an earlier call wrote; None when there is none that can be used."""
    try:
        note = json.loads(path.read_bytes())
        return (Version(**note["version"]), note) if note["url"] == url else None
    except (FileNotFoundError, ValueError, TypeError, KeyError):  # not there, half written, of another release
        return None


def _kept(url: str, to: Path) -> File | None:
    """The complete file that an earlier call left in `to`, if it is from `url` and its bytes are as recorded."""
    found = _note(_note_of(to), url)
    if found is None or not to.is_file():
        return None
    version, note = found
    sha256 = _digest(to, "sha256")
    return File(to, url, version, to.stat().st_size, sha256) if sha256 == note.get("sha256") else None


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _version(answer: requests.Response) -> Version:
    """The version of the whole file of which the answer brings all or a part."""
    headers = answer.headers
    length = headers.get("Content-Length")
    if answer.status_code == 206:
        length = headers.get("Content-Range", "").rpartition("/")[2]
    size = int(length) if length and length.isdecimal() else None
    return Version(headers.get("ETag", ""), headers.get("Last-Modified", ""), size, _told_md5(headers))


def _told_md5(headers: Any) -> str:
    for part in headers.get("x-goog-hash", "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "md5":
            try:
                return base64.b64decode(value, validate=True).hex()
            except binascii.Error:
                return ""
    return ""


def _reason(error: BaseException) -> str:
    """The innermost words of an error that libraries have wrapped in each other."""
    inner: Any = error
    while isinstance(
        cause := getattr(inner, "reason", None) or next((a for a in inner.args if isinstance(a, Exception)), None),
        Exception,
    ):
        inner = cause
    return str(inner).rpartition(": ")[2].strip(". ") or type(inner).__name__
