"""Settings: what the environment gives, what is given wins, and what is missing or unreadable is named."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from utils.errors import DelaywatchError
from utils.settings import Settings

COMPLETE = {
    "DELAYWATCH_LAKE": "s3://lake/x",
    "DELAYWATCH_WAREHOUSE": "postgresql://u:p@h/d",
    "AWS_ENDPOINT_URL": "http://s3:8333",
}


def test_the_environment_decides() -> None:
    found = Settings.from_environment({**COMPLETE, "DELAYWATCH_THREADS": "3", "DELAYWATCH_SCRATCH": "/scratch"})

    assert (found.lake, found.warehouse, found.threads) == ("s3://lake/x", "postgresql://u:p@h/d", 3)
    assert (str(found.scratch), found.aws_endpoint_url, found.aws_region) == ("/scratch", "http://s3:8333", None)


def test_what_is_given_wins_over_the_environment() -> None:
    assert Settings.from_environment(COMPLETE, lake="file:///lake", aws_endpoint_url=None).lake == "file:///lake"


def credentials(**given: str | None) -> tuple[str | None, ...]:
    own = {"AWS_ACCESS_KEY_ID": "own", "AWS_SECRET_ACCESS_KEY": "own secret", "AWS_SESSION_TOKEN": "own token"}
    found = Settings.from_environment({**COMPLETE, **own}, **given)
    return found.aws_access_key_id, found.aws_secret_access_key, found.aws_session_token


def test_a_given_access_key_is_never_mixed_with_the_secret_or_token_of_the_environment() -> None:
    given = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "aws_session_token": None}

    assert credentials(**given) == ("k", "s", None)
    assert credentials(aws_access_key_id="k") == ("k", None, None)


def test_a_connection_without_an_access_key_leaves_the_credentials_to_the_environment() -> None:
    given = {"aws_access_key_id": None, "aws_secret_access_key": "", "aws_region": "eu-west-1"}

    assert credentials(**given) == ("own", "own secret", "own token")


@pytest.mark.parametrize("name", ["DELAYWATCH_LAKE", "DELAYWATCH_WAREHOUSE"])
def test_a_missing_variable_is_named(name: str) -> None:
    with pytest.raises(DelaywatchError, match=f"{name} is not set"):
        Settings.from_environment({key: value for key, value in COMPLETE.items() if key != name})


def test_an_empty_variable_is_a_missing_one() -> None:
    with pytest.raises(DelaywatchError, match="DELAYWATCH_LAKE is not set"):
        Settings.from_environment({**COMPLETE, "DELAYWATCH_LAKE": ""})


def test_a_step_that_needs_no_warehouse_says_so_by_giving_none() -> None:
    assert Settings.from_environment({"DELAYWATCH_LAKE": "file:///lake"}, warehouse=None).warehouse == ""


URL = "postgresql://u:hush@db/flights"


@pytest.mark.parametrize("variable", [{}, {"DELAYWATCH_WAREHOUSE": ""}], ids=["absent", "empty"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_gives_the_warehouse_when_its_variable_does_not(
    tmp_path: Path, variable: dict[str, str], end: str
) -> None:
    (tmp_path / "url").write_bytes((URL + end).encode())
    environment = {"DELAYWATCH_LAKE": "s3://lake", "DELAYWATCH_WAREHOUSE_FILE": str(tmp_path / "url"), **variable}

    assert Settings.from_environment(environment).warehouse == URL


def test_a_warehouse_that_is_named_leaves_the_file_alone() -> None:
    environment = {**COMPLETE, "DELAYWATCH_WAREHOUSE_FILE": "/nowhere"}

    assert Settings.from_environment(environment).warehouse == COMPLETE["DELAYWATCH_WAREHOUSE"]
    assert Settings.from_environment(environment, warehouse=URL).warehouse == URL


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read (No such file or directory); correct its path or rights."),
        (b"", "is empty; write one line into it."),
        (b" \n", "is empty; write one line into it."),
        (b"\xff\xfehush", "is not UTF-8 text; write the file again."),
        (b"# hush\npostgresql://u@h/d\n", "has more than one line; leave in it the one that counts."),
    ],
    ids=["absent", "empty", "blank", "no text", "two lines"],
)
def test_a_file_without_a_warehouse_is_named_and_not_shown(tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(DelaywatchError) as refused:
        Settings.from_environment({"DELAYWATCH_LAKE": "s3://lake", "DELAYWATCH_WAREHOUSE_FILE": str(file)})

    assert str(refused.value) == f"DELAYWATCH_WAREHOUSE_FILE {file} {told}"
    assert "hush" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("threads", ["0", "two", "-1"])
def test_a_number_of_threads_that_is_none_is_named(threads: str) -> None:
    with pytest.raises(DelaywatchError, match="DELAYWATCH_THREADS"):
        Settings.from_environment({**COMPLETE, "DELAYWATCH_THREADS": threads})


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "DELAYWATCH_BTS_URL", "DELAYWATCH_KAGGLE_URL"])
@pytest.mark.parametrize("address", ["https://h/a?b", "https://h/a#b", "https://u:hush@h", "https://h/a b", "h:8333"])
def test_an_address_that_would_be_cut_is_refused_by_its_variable(variable: str, address: str) -> None:
    with pytest.raises(DelaywatchError, match=variable) as refused:
        Settings.from_environment({**COMPLETE, variable: address})

    assert "hush" not in str(refused.value)


def test_an_address_may_have_a_path_with_percent_encoded_characters() -> None:
    found = Settings.from_environment({**COMPLETE, "DELAYWATCH_BTS_URL": "https://mirror/a%23b/"})

    assert found.bts_url == "https://mirror/a%23b"
