"""The file with the user's Kaggle token: its two forms, and messages that never repeat it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from requests import PreparedRequest

from utils.errors import DelaywatchError, InvalidInput, Missing
from utils.sources import kaggle


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ('{\n  "username": "amelia",\n  "key": "s3cret"\n}\n', f"Basic {base64.b64encode(b'amelia:s3cret').decode()}"),
        ("KGAT_0123456789\n", "Bearer KGAT_0123456789"),
    ],
    ids=["kaggle.json", "API token"],
)
def test_a_token_becomes_the_authorization_header(tmp_path: Path, text: str, header: str) -> None:
    (tmp_path / "token").write_text(text)
    request = PreparedRequest()
    request.prepare("GET", "https://kaggle/", auth=kaggle.auth(tmp_path / "token"))

    assert request.headers["Authorization"] == header


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"amelia s3cret", InvalidInput),
        (b'{"username": "amelia", "key":', InvalidInput),
        (b"", Missing),  # `setup` writes an empty file if .env has no token
        (None, Missing),
    ],
)
def test_an_unusable_token_file_is_named_without_its_content(
    tmp_path: Path, content: bytes | None, error: type[DelaywatchError]
) -> None:
    if content is not None:
        (tmp_path / "kaggle.json").write_bytes(content)

    with pytest.raises(error, match=rf"{tmp_path}/kaggle\.json.* kaggle\.com") as caught:
        kaggle.auth(tmp_path / "kaggle.json")

    assert "amelia" not in str(caught.value)
