"""The user's token for Kaggle: the forms it may have, and that no sentence tells it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from requests import PreparedRequest

from utils.errors import InvalidInput, Missing
from utils.sources import kaggle


def authorization(file: Path) -> str:
    request = PreparedRequest()
    request.prepare("GET", "https://kaggle/", auth=kaggle.auth(file))
    return str(request.headers["Authorization"])


def test_a_kaggle_json_gives_user_name_and_key(tmp_path: Path) -> None:
    (tmp_path / "kaggle.json").write_text('{\n  "username": "amelia",\n  "key": "s3cret"\n}\n')

    assert authorization(tmp_path / "kaggle.json") == f"Basic {base64.b64encode(b'amelia:s3cret').decode()}"


def test_an_api_token_alone_is_a_bearers(tmp_path: Path) -> None:
    (tmp_path / "access_token").write_text("KGAT_0123456789\n")

    assert authorization(tmp_path / "access_token") == "Bearer KGAT_0123456789"


@pytest.mark.parametrize("text", ["two words", '{"username": "amelia"}', '{"username": "amelia", "key":', "[]"])
def test_a_file_that_is_no_token_is_refused_without_a_word_of_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "kaggle.json").write_text(text)

    with pytest.raises(InvalidInput, match=r"is neither a kaggle\.json with username and key nor") as caught:
        kaggle.auth(tmp_path / "kaggle.json")

    assert "amelia" not in str(caught.value)


@pytest.mark.parametrize("name", ["none.json", "empty.json"])
def test_an_absent_token_says_where_to_get_one_and_what_needs_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.json").touch()  # what `setup` hands over when .env has no token

    with pytest.raises(Missing, match=rf"There is no Kaggle token in .*{name}; create one .*--source bts"):
        kaggle.auth(tmp_path / name)


def test_a_token_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kaggle.json").write_bytes(b"\xff\xfe{")

    with pytest.raises(InvalidInput, match="is not text"):
        kaggle.auth(tmp_path / "kaggle.json")
