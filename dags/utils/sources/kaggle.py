"""Download a year of Kaggle's "Airline Delay and Cancellation Data, 2009 - 2018" with the user's token.

The CSV is not changed. Kaggle sends it plain or zipped.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import deque
from contextlib import suppress
from pathlib import Path

from requests import PreparedRequest
from requests.auth import AuthBase, HTTPBasicAuth

from utils.errors import InvalidInput, Missing, Unavailable, cannot_read
from utils.sources import archive
from utils.sources.download import Client, File, Progress

DATASET = "yuanyuwendymu/airline-delay-and-cancellation-data-2009-2018"


class _Bearer(AuthBase):
    """Authentication with an API token, Kaggle's newer kind of token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def auth(token_file: Path) -> AuthBase:
    """Return the authentication from the token file: a kaggle.json with user name and key, or an API token.

    Raises Missing, or InvalidInput if the file is neither; messages never contain its content.
    """
    with suppress(RuntimeError):  # the user has no home; the file is then missing too
        token_file = token_file.expanduser()
    try:
        text = token_file.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        text = ""
    except OSError as error:
        raise cannot_read(token_file, error, "The Kaggle token") from None
    except UnicodeDecodeError:
        raise InvalidInput(
            f"The Kaggle token {token_file} is not UTF-8 text; download it again from kaggle.com."
        ) from None
    if not text:
        raise Missing(
            f"{token_file} has no Kaggle token; create one on kaggle.com under Settings, API, and save it there, set "
            "DELAYWATCH_KAGGLE_TOKEN_FILE to its file, or set DELAYWATCH_KAGGLE_TOKEN in .env. The Bureau needs no "
            "token: --source bts."
        )
    if re.fullmatch(r"[\w.~+/=-]+", text):
        return _Bearer(text)
    try:
        token = json.loads(text)
        return HTTPBasicAuth(str(token["username"]), str(token["key"]))
    except (ValueError, TypeError, KeyError):
        raise InvalidInput(
            f"The Kaggle token {token_file} is neither a kaggle.json with username and key nor a single API token; "
            "download it again from kaggle.com."
        ) from None


def year_url(base: str, year: int) -> str:
    """Return the URL of the year in Kaggle's API at `base`."""
    return f"{base}/datasets/download/{DATASET}/{year}.csv"


def download(client: Client, base: str, year: int, folder: Path, progress: Progress | None = None) -> File:
    """Download the year into `folder`, plain or zipped. Raises Missing if Kaggle does not have the year."""
    url = year_url(base, year)

    def check(path: Path) -> None:
        if archive.is_zip(path):
            with archive.open_csv(path, url, Unavailable) as text:
                deque(archive.chunks(text), maxlen=0)  # zipfile checks the CRC at the end
            return
        begins = archive.quoted_beginning(path)
        if "FL_DATE" not in begins:
            raise InvalidInput(f"{url} is not a CSV of flights, but begins with {begins}; check the Kaggle token.")

    file = client.download(url, folder / f"kaggle-{year}", check, progress)
    if file is None:
        raise Missing(
            f"Kaggle has no year {year} ({url}); its dataset has 2009 to 2018. Fetch other years from the Bureau with "
            "--source bts."
        )
    return file


def write_csv(file: File, to: Path) -> None:
    """Unpack or copy the file to `to`. Raises OSError if the disk is full."""
    if not archive.is_zip(file.path):
        shutil.copyfile(file.path, to)
        return
    with to.open("wb") as target, archive.open_csv(file.path, file.url, Unavailable) as text:
        target.writelines(archive.chunks(text))
