"""The lines of `.env`: which are refused, and that a secret is read as Compose would read it or refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack import form
from tests.integration.stack.volumes import Volumes, quoted
from utils.errors import DelaywatchError

needs_compose = pytest.mark.skipif(not shutil.which("docker"), reason="there is no docker command on this machine")
PASSWORD = "DELAYWATCH_ADMIN_PASSWORD"


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
        """DELAYWATCH_KAGGLE_TOKEN='{"username": "amelia", "key": "0123"}'""",
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


@pytest.mark.parametrize(
    "value",
    [
        "sword$HOME-fish", r"sword\$HOME-fish", '"sword$HOME-fish"', "$HOME-swordfish", "sword-${HOME:-fish}-and-more",
        "swordfish$$more", '"swordfish$$more"', r'"swordfish\\$HOME"', "# swordfish, which some releases read",
        '"swordfish"-and-more', "'swordfish'and-more",
    ],
)  # fmt: skip
def test_a_secret_that_compose_would_change_or_cut_is_refused_and_not_repeated(volumes: Volumes, value: str) -> None:
    volumes.put("project/.env", f"{PASSWORD}={value}")

    refused = volumes.refusal()

    assert refused.startswith("Line 1 of .env")
    assert "quote" in refused
    assert "fish" not in refused


@pytest.mark.parametrize(
    "secret", ["abc$def-ghijkl", "it's ${HOME:-x} $$ #1", '"quoted" \\ x', "a # b $5 %40 ü", "$(id) `id` \\n"]
)
def test_a_secret_in_single_quotes_is_taken_literally(volumes: Volumes, secret: str) -> None:
    volumes.put("project/.env", f"{PASSWORD}={quoted(secret)}\n")

    volumes.setup()

    assert volumes.read("handed/airflow/admin_password") == secret


def test_a_secret_in_the_shell_is_refused_by_name_unless_env_has_it(volumes: Volumes) -> None:
    seen = {"DELAYWATCH_SECRETS_SEEN": f"{PASSWORD} DELAYWATCH_SMTP"}
    volumes.put("project/.env", f"{PASSWORD}=correct horse battery\nDELAYWATCH_SMTP=\n")

    refused = volumes.refusal(**seen)

    assert "DELAYWATCH_SMTP" in refused
    assert PASSWORD not in refused


def test_keys_of_aws_in_the_shell_are_refused_only_where_they_would_be_used(volumes: Volumes) -> None:
    seen = {"DELAYWATCH_SECRETS_SEEN": "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY"}
    elsewhere = {"DELAYWATCH_LAKE": "s3://flights", "AWS_DEFAULT_REGION": "eu-central-1"}

    assert "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in volumes.refusal(**seen, **elsewhere)
    volumes.setup(**seen)


# --- the same as Compose ----------------------------------------------------------------------------------------------


UNQUOTED = [
    *("abc", "a b", " a ", "a#b", "a #b", "a\t#b", "a=b==", "a'b", 'a"b', "a 'b' #c", "a\\", r"a\nb", r"C:\x", "%40"),
    *("!x", "`x`", "a$", "a$5x", "a$(b", "", "a\r", "a\u2028b", "ü\u00a0"),
]
SINGLE_QUOTED = [
    *(
        "'abc$def'",
        "'${X:-y}'",
        "'$$'",
        r"'it\'s'",
        r"'a\\b'",
        r"'a\nb'",
        r"'a\$b'",
        "'a #b'",
        "'a' # it's",
        "'a'#b",
        "''",
    ),
    *("'a\nb'", "'a'\r", "'a\r\nb'", """'{"a": 1}'"""),
]
DOUBLE_QUOTED = [
    *(
        '"abc"',
        '"a #b" # c',
        r'"a\"b"',
        r'"a\\b"',
        r'"a\nb"',
        r'"a\tb"',
        r'"a\xb"',
        r'"pa\$HOME"',
        r'"a\\\"b"',
        r'"a\'b"',
    ),
    *('"a\nb"', '"a$5b"', '""', '"a"\r'),
]
WRITTEN = UNQUOTED + SINGLE_QUOTED + DOUBLE_QUOTED
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.sampled_from("$'\"\\# {}"), max_size=12)
# In single quotes Compose reads \' as ', so a value with a backslash at its end or before a ' needs double quotes.
SECRETS = st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from("$'\"\\# {}"), min_size=1).filter(
    lambda secret: "\\'" not in f"{secret}'"
)


@needs_compose
def test_what_setup_reads_is_what_compose_reads(tmp_path: Path) -> None:
    names = [f"CASE_{number}" for number in range(len(WRITTEN))]
    (tmp_path / ".env.example").touch()
    text = "\ufeffexport CASE_0=abc\n" + "".join(
        f"{name}={written}\n" for name, written in zip(names[1:], WRITTEN[1:], strict=True)
    )
    (tmp_path / ".env").write_bytes(text.encode())

    found = form.read(tmp_path / ".env", names)

    assert found == compose_reads(tmp_path, names)
    assert found["CASE_0"] == "abc"


@needs_compose
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(TEXT, max_size=80))
def test_any_text_after_a_secrets_name_is_read_as_compose_reads_it_or_refused(
    tmp_path: Path, written: Sequence[str]
) -> None:
    (tmp_path / ".env.example").touch()
    lines: list[str] = []
    values: dict[str, str | None] = {}
    for text in written:
        (tmp_path / "filled").write_text(f"{PASSWORD}={text}\n")
        try:
            value = form.read(tmp_path / "filled").get(PASSWORD)
        except DelaywatchError:
            continue
        values[f"CASE_{len(lines)}"] = value
        lines.append(f"CASE_{len(lines)}={text}\n")
    (tmp_path / ".env").write_text("".join(lines))

    assert compose_reads(tmp_path, list(values)) == values


@needs_compose
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(SECRETS, min_size=1, max_size=40))
def test_any_secret_can_be_written_in_single_quotes(tmp_path: Path, secrets: Sequence[str]) -> None:
    values = {f"CASE_{number}": secret for number, secret in enumerate(secrets)}
    (tmp_path / ".env.example").touch()
    (tmp_path / ".env").write_text("".join(f"{name}={quoted(value)}\n" for name, value in values.items()))

    assert form.read(tmp_path / ".env", list(values)) == values
    assert compose_reads(tmp_path, list(values)) == values


def compose_reads(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """What the real Compose reads from `.env` in this folder."""
    service = {"image": "none", "environment": {name: f"${{{name}}}" for name in names}}
    (folder / "compose.yaml").write_text(json.dumps({"services": {"one": service}}))
    command = ["docker", "compose", "config", "--format", "json"]
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["services"]["one"].get("environment", {})
    return {name: value.replace("$$", "$") for name, value in found.items()}


# --- all faults -------------------------------------------------------------------------------------------------------


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

    assert volumes.refusal() == ".env is not UTF-8 text; save it as UTF-8."


def test_a_link_that_leads_out_of_the_clone_is_refused_with_its_target(volumes: Volumes) -> None:
    volumes.path("project/.env").symlink_to("/srv/secrets/of-delaywatch.env")

    assert "/srv/secrets/of-delaywatch.env" in volumes.refusal()


def test_a_repository_that_is_not_mounted_is_named(volumes: Volumes) -> None:
    volumes.path("project/.env.example").unlink()

    assert f"setup needs the repository mounted at {volumes.path('project')}." in volumes.refusal()
