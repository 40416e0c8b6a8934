"""A year of Kaggle's "Airline Delay and Cancellation Data, 2009 - 2018", with the user's own token.

The file is taken as it is; Kaggle sends it plain or zipped.
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
    """Kaggle's newer tokens, which are one word."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def auth(token_file: Path) -> AuthBase:
    """What the token says to Kaggle: a kaggle.json with user name and key, or an API token alone.

    Raises Missing, or InvalidInput without a word of its content when the file is neither.
    """
    with suppress(RuntimeError):  # this user has no home; then there is no file of this name either
        token_file = token_file.expanduser()
    try:
        text = token_file.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        text = ""
    except OSError as error:
        raise cannot_read(token_file, error, "The Kaggle token") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"The Kaggle token {token_file} is not text; download it again from kaggle.com.") from None
    if not text:
        raise Missing(
            f"There is no Kaggle token in {token_file}; create one on kaggle.com under Settings, API, put it there, "
            "let DELAYWATCH_KAGGLE_TOKEN_FILE name it, or fill in DELAYWATCH_KAGGLE_TOKEN in .env. The Bureau "
            "(--source bts) needs none."
        )
    if re.fullmatch(r"[\w.~+/=-]+", text):
        return _Bearer(text)
    try:
        found = json.loads(text)
        return HTTPBasicAuth(str(found["username"]), str(found["key"]))
    except (ValueError, TypeError, KeyError):
        raise InvalidInput(
            f"The Kaggle token {token_file} is neither a kaggle.json with username and key nor an API token alone; "
            "download it again from kaggle.com."
        ) from None


def year_url(base: str, year: int) -> str:
    """Where Kaggle's API at `base` has the year."""
    return f"{base}/datasets/download/{DATASET}/{year}.csv"


def download(client: Client, base: str, year: int, folder: Path, progress: Progress | None = None) -> File:
    """The year as Kaggle sends it, in `folder`. Raises Missing when Kaggle does not have it."""
    url = year_url(base, year)

    def check(path: Path) -> None:
        if archive.is_zip(path):
            with archive.open_csv(path, url, Unavailable) as text:
                deque(archive.chunks(text), maxlen=0)  # to the end, where the CRC is checked
            return
        begins = archive.first_words(path)
        if "FL_DATE" not in begins:
            raise InvalidInput(f"{url} is no CSV of flights: it begins with {begins}; see whether the token is right.")

    found = client.download(url, folder / f"kaggle-{year}", check, progress)
    if found is None:
        raise Missing(
            f"Kaggle has no {year} ({url}); its dataset has 2009 to 2018. Look for other years at the Bureau: "
            "--source bts."
        )
    return found


def write_csv(file: File, to: Path) -> None:
    """Unpack the file to `to` if it is zipped, else copy it there. Raises OSError when the disk does not take it."""
    if not archive.is_zip(file.path):
        shutil.copyfile(file.path, to)
        return
    with to.open("wb") as target, archive.open_csv(file.path, file.url, Unavailable) as text:
        target.writelines(archive.chunks(text))
