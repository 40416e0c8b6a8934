"""The names in `.env`: an unknown one, a line that is no assignment and a name given twice are refused by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stack.volumes import Volumes


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes.make(tmp_path)


def test_a_filled_in_form_is_accepted(volumes: Volumes) -> None:
    volumes.put(
        "project/.env", volumes.read("project/.env.example").replace("DELAYWATCH_HOST=", "DELAYWATCH_HOST=a.org")
    )

    assert volumes.setup().err == ""


@pytest.mark.parametrize(
    "line",
    [
        "",
        "   ",
        "# DELAYWATCH_LOKAL=1",
        "  # remark",
        "export DELAYWATCH_HOST=a.org",
        "DELAYWATCH_HOST = a.org",
        "DELAYWATCH_HOST=a.org # remark",
        "COMPOSE_PROJECT_NAME=second",
        "COMPOSE_PROFILES=notebooks,letsencrypt",
        """AIRFLOW_SECRETS_BACKEND_KWARGS='{"region_name": "eu-central-1"}'""",
        'AIRFLOW_SECRETS_BACKEND_KWARGS=\'{\n  "region_name": "eu"\n}\'',
        "DELAYWATCH_ADMIN_PASSWORD='pa$$word$HOME'",
        r'DELAYWATCH_ADMIN_PASSWORD="pa\$HOME \" more"',
        "DELAYWATCH_LAKE=s3://${BUCKET}/lake",
        "\ufeffDELAYWATCH_HOST=a.org",
        "DELAYWATCH_HOST=a.org\r",
    ],
)
def test_what_compose_reads_without_surprise_is_accepted(volumes: Volumes, line: str) -> None:
    volumes.put("project/.env", f"{line}\nDELAYWATCH_LOCAL=1\n")

    volumes.setup()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "DELAYWATCH_HOST=a\n\nDELAYWATCH_LOKAL=0\n",
            "Line 3 of .env sets DELAYWATCH_LOKAL that .env.example does not have; did you mean DELAYWATCH_LOCAL?",
        ),
        (
            "delaywatch_host=a.org",
            "Line 1 of .env sets delaywatch_host that .env.example does not have; did you mean DELAYWATCH_HOST?",
        ),
        ("SMTP_PORT=25", "Line 1 of .env sets SMTP_PORT that .env.example does not have; remove the line."),
        ("DELAYWATCH_LOCAL", "Line 1 of .env is no assignment; write NAME=value, or # before a comment."),
        ("# a\nDELAYWATCH_HOST: a.org", "Line 2 of .env is no assignment; write NAME=value, or # before a comment."),
        (
            "DELAYWATCH_HOST=a\nDELAYWATCH_BIND=\nDELAYWATCH_HOST=b",
            "Line 3 of .env sets DELAYWATCH_HOST again, after line 1; keep one of them.",
        ),
        ("DELAYWATCH_HOST='a\nDELAYWATCH_BIND=b\n", "Line 1 of .env opens a quote that nothing closes."),
    ],
)
def test_what_would_be_overlooked_or_misread_is_refused_by_its_line(volumes: Volumes, content: str, said: str) -> None:
    volumes.put("project/.env", content)

    assert volumes.refusal() == said


@pytest.mark.parametrize("value", ["sword$HOME-fish", r"sword\$HOME-fish", '"sword$HOME-fish"', "$HOME-swordfish"])
def test_a_secret_of_which_compose_would_replace_a_part_is_refused(volumes: Volumes, value: str) -> None:
    volumes.put("project/.env", f"DELAYWATCH_ADMIN_PASSWORD={value}")

    said = volumes.refusal()

    assert said.startswith("Line 1 of .env: DELAYWATCH_ADMIN_PASSWORD holds a $, which Compose would replace; ")
    assert "fish" not in said


def test_everything_that_is_wrong_is_told_at_once(volumes: Volumes) -> None:
    volumes.put("project/.env", "DELAYWATCH_LOKAL=0\nDELAYWATCH_HOSTS=a\n")

    said = volumes.refusal()

    assert "did you mean DELAYWATCH_LOCAL?" in said
    assert "did you mean DELAYWATCH_HOST?" in said


def test_a_secret_on_a_line_of_its_own_is_not_repeated(volumes: Volumes) -> None:
    """A key that an editor broke in two; the second half even looks like an assignment."""
    volumes.put("project/.env", "DELAYWATCH_JUPYTER_TOKEN=\nc2VjcmV0IGtleQ\nb2YgbWluZQ==\n")

    said = volumes.refusal()

    assert "Line 2" in said
    assert "Line 3" in said
    assert "c2VjcmV0IGtleQ" not in said
    assert "b2YgbWluZQ" not in said


def test_an_env_that_is_no_text_is_refused(volumes: Volumes) -> None:
    volumes.put("project/.env", "DELAYWATCH_HOST=münchen".encode("latin-1"))

    assert volumes.refusal() == ".env is no UTF-8 text; save it as UTF-8."


def test_a_repository_that_is_not_mounted_is_named(volumes: Volumes) -> None:
    volumes.path("project/.env.example").unlink()

    assert f"setup needs the repository mounted at {volumes.path('project')}." in volumes.refusal()
