"""One file over HTTP to a local path: tried again with patience, whole or not at all, its hash kept beside it.

Knows nothing of flights. What a file must hold is the caller's to check, who passes that check in. A file is kept under
its path with `<name>.json` beside it; until it is complete it is `<name>.part`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.exceptions import InvalidProxyURL, InvalidSchema, InvalidURL, MissingSchema
from typing_extensions import override
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.util import Retry

from utils import __version__
from utils.errors import DelaywatchError, InvalidInput, Unavailable

CHUNK = 1 << 18  # bytes in memory at a time
BUSY = (429, 500, 502, 503, 504)
RESUME = "fetch again; files that are complete are kept"

Progress = Callable[[str, int, int | None], None]  # the file's name, its bytes that are here, all of its bytes

log = logging.getLogger(__name__)
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # its warnings show signed addresses of redirects


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, and how often it is asked again."""

    connect_s: float = 10
    silence_s: float = 60  # between two bytes
    tries: int = 6  # of one file, the first included
    pause_s: float = 2  # before the third try, twice as long before each further one
    longest_pause_s: float = 120  # also when the server asks for a longer one (Retry-After)

    def retry(self) -> Retry:
        """Return the same as urllib3 takes it; a certificate or an address that is wrong is not tried again."""
        return Retry(
            total=self.tries - 1,
            other=0,
            allowed_methods=("GET", "HEAD"),
            status_forcelist=BUSY,
            backoff_factor=self.pause_s,
            backoff_max=self.longest_pause_s,
            retry_after_max=int(self.longest_pause_s),
            raise_on_status=False,
        )


@dataclass(frozen=True)
class Version:
    """The version of the file at one address, as the server names it; any field may be empty."""

    etag: str = ""
    last_modified: str = ""
    bytes: int | None = None
    md5: str = field(default="", compare=False)  # hexadecimal; sent by Google's storage, which serves for Kaggle

    @property
    def is_known(self) -> bool:
        """Whether a later request can show that the file is still the same."""
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


class _Session(requests.Session):
    """Follows redirects within the web, and none from an encrypted connection to a plain one."""

    @override
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            here, there = (urlsplit(url).scheme for url in (resp.url, urljoin(resp.url, target)))
            if there != "https" and (there, here) != ("http", "http"):
                resp.close()
                raise InvalidInput(
                    f"{urlsplit(resp.url).netloc} leads from {here}:// to {there}://, where anybody could have put the "
                    "file; nothing was fetched, correct the variable that names the host."
                )
        return target


class Client:
    """Asks servers for files, one at a time. Raises Unavailable when the same request may succeed later, else
    InvalidInput.
    """

    def __init__(self, patience: Patience, auth: AuthBase | None = None) -> None:
        """`auth` goes to the host that is asked and, by requests' own rule, to no other one that it redirects to."""
        self._patience, self._session = patience, _Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=patience.retry()))
        self._session.auth = auth
        # Lengths are those of the file itself, hence no compression on the way.
        self._session.headers.update({"User-Agent": f"delaywatch/{__version__}", "Accept-Encoding": "identity"})

    def close(self) -> None:
        """Give back the connections."""
        self._session.close()

    def version(self, url: str) -> Version | None:
        """Return what the server has at `url` now, None when it has nothing there; the file itself stays there.

        A server that does not answer HEAD in full, as one whose signed addresses are for GET alone, is asked by GET,
        and the connection is closed.
        """
        with self._answer("HEAD", url) as answer:
            if answer.status_code == 404:
                return None
            if answer.status_code == 200 and (found := _version(answer)).bytes is not None:
                return found
        with self._answer("GET", url) as answer:
            return None if answer.status_code == 404 else _version(answer)

    def download(
        self, url: str, to: Path, check: Callable[[Path], None], progress: Progress | None = None
    ) -> File | None:
        """Return the file at `url` as the local file `to`; None when the server has nothing there.

        A file that an earlier call left in `to` is returned if the server still has that version. check: raises if the
        content is wrong; the file is deleted then. Raises OSError if the file cannot be written.
        """
        kept, retry = _kept(url, to), self._patience.retry()
        while True:
            with self._answer("GET", url) as answer:
                if answer.status_code == 404:
                    return None
                version = _version(answer)
                if kept and version == kept.version and version.is_known:
                    return kept
                part = to.with_name(to.name + ".part")
                try:
                    _receive(answer, part, version, lambda here, whole: progress and progress(to.name, here, whole))
                    return _complete(File(to, url, version, part.stat().st_size, _digest(part, "sha256")), part, check)
                except HTTPError as error:
                    retry = self._next_try(retry, url, error)
                    log.warning("%s was cut (%s); fetching it again", to.name, _reason(error))
            retry.sleep()

    def _next_try(self, retry: Retry, url: str, error: HTTPError) -> Retry:
        """Return what is left of the tries after one whose body broke off. Raises Unavailable after the last one."""
        try:
            return retry.increment("GET", url, error=error)
        except (MaxRetryError, HTTPError):
            raise Unavailable(
                f"{url} broke off in each of {self._patience.tries} tries ({_reason(error)}); {RESUME}."
            ) from None

    @contextmanager
    def _answer(self, method: str, url: str) -> Iterator[requests.Response]:
        """Yield an answer, its body still to be read: to GET 200 or 404, to HEAD any but a BUSY one."""
        host = urlsplit(url).netloc
        if "@" in host:  # addresses stand in messages and in records
            raise InvalidInput(
                "The address to fetch from has a user or a password in it; put them into ~/.netrc and leave the host."
            )
        timeout = (self._patience.connect_s, self._patience.silence_s)
        try:
            answer = self._session.request(method, url, stream=True, timeout=timeout)
        except requests.RequestException as error:
            raise _request_error(url, error) from None  # its text may hold the signed address of a redirect
        with answer:
            if answer.status_code in BUSY or (method == "GET" and answer.status_code not in (200, 404)):
                raise self._refusal(url, answer)
            yield answer

    def _refusal(self, url: str, answer: requests.Response) -> DelaywatchError:
        """Return the error for an answer without a file."""
        host, code = urlsplit(url).netloc, f"{answer.status_code} {answer.reason}"
        if answer.status_code in BUSY:
            return Unavailable(f"{host} is busy or at fault ({code}) in {self._patience.tries} tries; {RESUME}.")
        if answer.status_code in (401, 403) and self._session.auth:
            return InvalidInput(
                f"{host} refuses {url} ({code}); see that the token is right and that this account or address may have "
                "the file."
            )
        if answer.status_code in (401, 403):  # no login was sent, so the server or a proxy refuses this address
            return InvalidInput(
                f"{host} answers {code} to {url}; it may block this address or automatic downloads. Download the zips "
                "in a browser and read them with `fetch --source bts --from FOLDER`."
            )
        return InvalidInput(f"{host} answers {code} to {url}; open that in a browser to see what is wrong.")


def _request_error(url: str, error: requests.RequestException) -> DelaywatchError:
    """Return the error for a request that got no answer."""
    host = urlsplit(url).netloc
    if isinstance(error, requests.exceptions.SSLError):
        return InvalidInput(
            f"No trusted connection to {host} ({_reason(error)}); when only its issuer is unknown here, let "
            "REQUESTS_CA_BUNDLE name a file of certificates that holds it."
        )
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return InvalidInput(f"{url} leads round in a circle; correct the variable that names its host.")
    if isinstance(error, InvalidProxyURL):
        return InvalidInput("The proxy of this machine is not a web address; correct HTTPS_PROXY and HTTP_PROXY.")
    if isinstance(error, InvalidURL | InvalidSchema | MissingSchema):
        return InvalidInput(f"{url} is not a web address; correct the variable that names its host.")
    return Unavailable(
        f"{host} does not answer ({_reason(error)}); see whether this machine reaches it (a proxy goes into "
        f"HTTPS_PROXY), then {RESUME}."
    )


def _receive(
    answer: requests.Response, part: Path, version: Version, progress: Callable[[int, int | None], object]
) -> None:
    """Write the answer's body to `part`. Raises urllib3's HTTPError when it ends early or the server falls silent."""
    here = 0
    try:
        with part.open("wb") as file:
            for data in answer.raw.stream(CHUNK, decode_content=False):
                file.write(data)
                here += len(data)
                progress(here, version.bytes)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _complete(file: File, part: Path, check: Callable[[Path], None]) -> File:
    """Put the complete `part` in its place, with its record. A file that fails its checks is not kept."""
    try:
        if file.version.md5 and _digest(part, "md5") != file.version.md5:
            raise Unavailable(f"{file.url} arrived damaged (MD5); fetch again.")
        check(part)
    except DelaywatchError:
        part.unlink()
        raise
    part.replace(file.path)
    _record_path(file.path).write_text(json.dumps(file.record(), indent=2) + "\n")
    return file


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _kept(url: str, to: Path) -> File | None:
    """Return the complete file that an earlier call left in `to`, if it is from `url` and its bytes are as recorded."""
    try:
        record = json.loads(_record_path(to).read_bytes())
        version, from_url, sha256 = Version(**record["version"]), record["url"], record["sha256"]
    except (FileNotFoundError, ValueError, TypeError, KeyError):  # not there, half written, of another release
        return None
    if from_url != url or not to.is_file() or _digest(to, "sha256") != sha256:
        return None
    return File(to, url, version, to.stat().st_size, sha256)


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _version(answer: requests.Response) -> Version:
    """Return the version of the file in the answer."""
    headers = answer.headers
    length = headers.get("Content-Length")
    size = int(length) if length and length.isdecimal() else None
    return Version(headers.get("ETag", ""), headers.get("Last-Modified", ""), size, _md5_of(headers))


def _md5_of(headers: Any) -> str:
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
