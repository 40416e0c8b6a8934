"""Download one file over HTTP to a local path, with retries, completely or not at all.

The caller passes a function that checks the content. An incomplete file is called `<name>.part`. A complete file has
its own name and a record `<name>.json` with version and SHA-256.
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
RESUME = "fetch again; complete files are kept"
CORRECT_URL = "correct DELAYWATCH_BTS_URL or DELAYWATCH_KAGGLE_URL"

Progress = Callable[[str, int, int | None], None]  # file name, bytes received, total bytes

log = logging.getLogger(__name__)
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # its warnings contain signed URLs


@dataclass(frozen=True)
class RetryPolicy:
    """Timeouts, and the number of tries and the pauses between them."""

    connect_timeout_s: float = 10
    read_timeout_s: float = 60  # between two received bytes
    tries: int = 6  # per file, including the first try
    pause_s: float = 2  # before the third try; doubles with each further try
    max_pause_s: float = 120  # also limits Retry-After

    def retry(self) -> Retry:
        """Return the urllib3 equivalent. Certificate errors and invalid URLs are not retried."""
        return Retry(
            total=self.tries - 1,
            other=0,
            allowed_methods=("GET", "HEAD"),
            status_forcelist=BUSY,
            backoff_factor=self.pause_s,
            backoff_max=self.max_pause_s,
            retry_after_max=int(self.max_pause_s),
            raise_on_status=False,
        )


@dataclass(frozen=True)
class Version:
    """The version of a remote file from the response headers; any field may be empty."""

    etag: str = ""
    last_modified: str = ""
    bytes: int | None = None
    md5: str = field(default="", compare=False)  # hexadecimal; sent by Google Cloud Storage, which Kaggle uses

    @property
    def is_known(self) -> bool:
        """True if a later request can detect a changed file."""
        return bool(self.etag or self.last_modified or self.bytes)


@dataclass(frozen=True)
class File:
    """A complete local file and its origin."""

    path: Path
    url: str
    version: Version
    bytes: int
    sha256: str

    def record(self) -> dict[str, Any]:
        """Return all fields except the path, JSON-ready."""
        return {"url": self.url, "version": asdict(self.version), "bytes": self.bytes, "sha256": self.sha256}


class _Session(requests.Session):
    """A session that follows redirects to http and https, but not from https to http."""

    @override
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            from_scheme, to_scheme = (urlsplit(url).scheme for url in (resp.url, urljoin(resp.url, target)))
            if to_scheme != "https" and (to_scheme, from_scheme) != ("http", "http"):
                resp.close()
                raise InvalidInput(
                    f"{urlsplit(resp.url).netloc} redirects from {from_scheme}:// to {to_scheme}://, which is not "
                    f"secure, so nothing was fetched; {CORRECT_URL}."
                )
        return target


class Client:
    """Download files, one at a time. Methods raise Unavailable if a later try may succeed, else InvalidInput."""

    def __init__(self, policy: RetryPolicy, auth: AuthBase | None = None) -> None:
        """Send `auth` to the requested host; requests does not forward it to other hosts on redirects."""
        self._policy, self._session = policy, _Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=policy.retry()))
        self._session.auth = auth
        # No compression in transit, so that Content-Length is the size of the file.
        self._session.headers.update({"User-Agent": f"delaywatch/{__version__}", "Accept-Encoding": "identity"})

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def version(self, url: str) -> Version | None:
        """Return the current version of the file at `url`, or None on 404, without downloading the body.

        If HEAD fails or gives no size (signed URLs may allow only GET), send a GET and close the connection.
        """
        with self._answer("HEAD", url) as answer:
            if answer.status_code == 404:
                return None
            if answer.status_code == 200 and (head_version := _version(answer)).bytes is not None:
                return head_version
        with self._answer("GET", url) as answer:
            return None if answer.status_code == 404 else _version(answer)

    def download(
        self, url: str, to: Path, check: Callable[[Path], None], progress: Progress | None = None
    ) -> File | None:
        """Download `url` to the local file `to` and return it; return None on 404.

        A file that an earlier call left in `to` is returned if the server still has the same version. check: raises if
        the content is wrong; the file is then deleted. Raises OSError if the file cannot be written.
        """
        kept, retry = _kept(url, to), self._policy.retry()
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
                    log.warning("%s is incomplete (%s); downloading it again", to.name, _reason(error))
            retry.sleep()

    def _next_try(self, retry: Retry, url: str, error: HTTPError) -> Retry:
        """Return the remaining tries after a broken download. Raises Unavailable after the last try."""
        try:
            return retry.increment("GET", url, error=error)
        except (MaxRetryError, HTTPError):
            raise Unavailable(
                f"{url} was incomplete in each of {self._policy.tries} tries ({_reason(error)}); {RESUME}."
            ) from None

    @contextmanager
    def _answer(self, method: str, url: str) -> Iterator[requests.Response]:
        """Yield an answer with unread body: status 200 or 404 for GET, any status except BUSY for HEAD."""
        host = urlsplit(url).netloc
        if "@" in host:  # messages and records contain URLs
            raise InvalidInput(
                f"The address of the source contains a user or a password; move them to ~/.netrc, and {CORRECT_URL}."
            )
        timeout = (self._policy.connect_timeout_s, self._policy.read_timeout_s)
        try:
            answer = self._session.request(method, url, stream=True, timeout=timeout)
        except requests.RequestException as error:
            raise _request_error(url, error) from None  # its text may contain the signed URL of a redirect
        with answer:
            if answer.status_code in BUSY or (method == "GET" and answer.status_code not in (200, 404)):
                raise self._refusal(url, answer)
            yield answer

    def _refusal(self, url: str, answer: requests.Response) -> DelaywatchError:
        """Return the error for an answer without a file."""
        host, code = urlsplit(url).netloc, f"{answer.status_code} {answer.reason}"
        if answer.status_code in BUSY:
            return Unavailable(f"{host} answered {code} in each of {self._policy.tries} tries; {RESUME}.")
        if answer.status_code in (401, 403) and self._session.auth:
            return InvalidInput(
                f"{host} refuses {url} ({code}); check that the token is valid and that this account may download the "
                "file."
            )
        if answer.status_code in (401, 403):  # without a login, the server or a proxy refuses this IP address
            return InvalidInput(
                f"{host} answers {code} for {url}; it may block this address or automatic downloads. Download the zips "
                "in a browser and read them with `python -m utils fetch --year YEAR --source bts --from FOLDER`."
            )
        return InvalidInput(f"{host} answers {code} for {url}; open the address in a browser to see the reason.")


def _request_error(url: str, error: requests.RequestException) -> DelaywatchError:
    """Return the error for a request without an answer."""
    host = urlsplit(url).netloc
    if isinstance(error, requests.exceptions.SSLError):
        return InvalidInput(
            f"The TLS connection to {host} is not trusted ({_reason(error)}); if only the issuer of its certificate is "
            "unknown here, set REQUESTS_CA_BUNDLE to a file with the certificate of that issuer."
        )
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return InvalidInput(f"{url} redirects in a circle; {CORRECT_URL}.")
    if isinstance(error, InvalidProxyURL):
        return InvalidInput("The address of the proxy is not a URL; correct HTTPS_PROXY and HTTP_PROXY.")
    if isinstance(error, InvalidURL | InvalidSchema | MissingSchema):
        return InvalidInput(f"{url} is not a URL; {CORRECT_URL}.")
    return Unavailable(
        f"{host} does not answer ({_reason(error)}); check that this machine reaches it (set a proxy in HTTPS_PROXY), "
        f"then {RESUME}."
    )


def _receive(
    answer: requests.Response, part: Path, version: Version, progress: Callable[[int, int | None], object]
) -> None:
    """Write the body to `part`. Raises urllib3's HTTPError if the body ends early or times out."""
    received = 0
    try:
        with part.open("wb") as file:
            for data in answer.raw.stream(CHUNK, decode_content=False):
                file.write(data)
                received += len(data)
                progress(received, version.bytes)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _complete(file: File, part: Path, check: Callable[[Path], None]) -> File:
    """Check `part`, rename it to its final path and write its record. Deletes a file that fails its checks."""
    try:
        if file.version.md5 and _digest(part, "md5") != file.version.md5:
            raise Unavailable(f"{file.url} was damaged in transit (wrong MD5); fetch again.")
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
    """Return the file that an earlier call left in `to`, if it came from `url` and matches its record."""
    try:
        record = json.loads(_record_path(to).read_bytes())
        version, from_url, sha256 = Version(**record["version"]), record["url"], record["sha256"]
    except (FileNotFoundError, ValueError, TypeError, KeyError):  # missing, incomplete, or from another release
        return None
    if from_url != url or not to.is_file() or _digest(to, "sha256") != sha256:
        return None
    return File(to, url, version, to.stat().st_size, sha256)


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _version(answer: requests.Response) -> Version:
    """Return the version of the file from the headers."""
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
    """Return the last part of the message of the innermost wrapped error."""
    inner: Any = error
    while isinstance(
        cause := getattr(inner, "reason", None) or next((a for a in inner.args if isinstance(a, Exception)), None),
        Exception,
    ):
        inner = cause
    return str(inner).rpartition(": ")[2].strip(". ") or type(inner).__name__
