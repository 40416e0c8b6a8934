"""The lines of `.env`: setup reads a secret as Compose would read it, or refuses the line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stack import form
from tests.integration.stack.volumes import Volumes, quoted
from utils.errors import DelaywatchError

PASSWORD = "DELAYWATCH_ADMIN_PASSWORD"


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        ("DELAYWATCH_HOST=a\n\nDELAYWATCH_LOKAL=0\n", ["Line 3 ", "DELAYWATCH_LOKAL", "DELAYWATCH_LOCAL"]),
        ("delaywatch_host=a.org", ["Line 1 ", "DELAYWATCH_HOST"]),
        ("DELAYWATCH_LOCAL", ["Line 1 "]),
        ("# a\nDELAYWATCH_HOST: a.org", ["Line 2 "]),
        ("DELAYWATCH_HOST=a\nDELAYWATCH_BIND=\nDELAYWATCH_HOST=b", ["Line 3 ", "DELAYWATCH_HOST", "line 1"]),
        ("DELAYWATCH_HOST='a\nDELAYWATCH_BIND=b\n", ["Line 1 ", "quote"]),
    ],
)
def test_a_line_that_is_misspelt_or_ambiguous_is_refused(volumes: Volumes, content: str, facts: list[str]) -> None:
    volumes.put("project/.env", content)

    refusal = volumes.refusal()

    assert [fact for fact in facts if fact not in refusal] == []


@pytest.mark.parametrize(
    "value",
    [
        "sword$HOME-fish",
        '"sword$HOME-fish"',
        "swordfish$$more",
        "# swordfish, a comment in some releases",
        "'swordfish'and-more",
        "\nswordfish\nof two lines",
    ],
)
def test_a_secret_that_compose_would_change_is_refused_and_not_shown(volumes: Volumes, value: str) -> None:
    volumes.put("project/.env", f"{PASSWORD}={value}")

    refusal = volumes.refusal()

    assert "Line " in refusal
    assert "fish" not in refusal


def test_a_secret_that_only_the_shell_sets_is_refused_if_it_would_be_used(volumes: Volumes) -> None:
    bucket = {"DELAYWATCH_LAKE": "s3://flights", "AWS_DEFAULT_REGION": "eu-central-1"}
    keys = {"DELAYWATCH_SECRETS_SEEN": "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY"}
    volumes.put("project/.env", f"{PASSWORD}=correct horse battery\nDELAYWATCH_SMTP=\n")

    refusal = volumes.refusal(DELAYWATCH_SECRETS_SEEN=f"{PASSWORD} DELAYWATCH_SMTP")

    assert "DELAYWATCH_SMTP" in refusal
    assert PASSWORD not in refusal
    assert "AWS_SECRET_ACCESS_KEY" in volumes.refusal(**keys, **bucket)
    volumes.setup(**keys)


# --- comparison with the real Compose ---------------------------------------------------------------------------------

CASES = [
    *("a #b", "a\t#b", 'a"b', "a 'b' #c", "a\\", r"a\nb", "a$", "a$5x", "a\r", "a\u2028b", "'${X:-y}'", "'$$'"),
    *(r"'it\'s'", r"'a\\b'", r"'a\$b'", "'a' # it's", "'a'#b", "'a\nb'", "'a\r\nb'", r'"a\nb"', r'"a\xb"'),
    *(r'"pa\$HOME"', r'"a\\\"b"', r'"a\'b"', '"a\nb"', '"a$5b"', '"a"\r'),
]
SPECIAL = st.sampled_from("$'\"\\# {}")
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | SPECIAL, max_size=12)
# In single quotes Compose reads \' as ', so a value with a backslash at its end or before a ' needs double quotes.
SECRETS = st.text(st.characters(exclude_categories=["Cc", "Cs"]) | SPECIAL, min_size=1).filter(
    lambda secret: "\\'" not in f"{secret}'"
)


@pytest.mark.skipif(not shutil.which("docker"), reason="this machine has no docker command")
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(CASES, ["it's ${HOME:-x} $$ #1"])
@given(st.lists(TEXTS, max_size=80), st.lists(SECRETS, min_size=1, max_size=40))
def test_setup_reads_any_text_as_compose_reads_it_or_refuses_it_and_any_secret_can_be_quoted(
    tmp_path: Path, texts: Sequence[str], secrets: Sequence[str]
) -> None:
    values: dict[str, str] = {}
    lines = []
    for text in [*texts, *map(quoted, secrets)]:
        try:
            read = setup_reads(tmp_path, f"{PASSWORD}={text}\n", [PASSWORD])
        except DelaywatchError:
            continue
        lines.append(f"CASE_{len(values)}={text}\n")
        values[f"CASE_{len(values)}"] = read[PASSWORD]

    assert compose_reads(tmp_path, "".join(lines), list(values)) == values
    assert list(values.values())[-len(secrets) :] == list(secrets)


def setup_reads(folder: Path, text: str, names: Sequence[str]) -> dict[str, str]:
    (folder / ".env.example").touch()
    (folder / ".env").write_bytes(text.encode())
    return form.read(folder / ".env", names)


def compose_reads(folder: Path, text: str, names: Sequence[str]) -> Mapping[str, str]:
    (folder / ".env").write_bytes(text.encode())
    service = {"image": "none", "environment": {name: f"${{{name}}}" for name in names}}
    (folder / "compose.yaml").write_text(json.dumps({"services": {"one": service}}))
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = ["docker", "compose", "config", "--format", "json"]
    ended = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=True)
    values = json.loads(ended.stdout)["services"]["one"].get("environment", {})
    return {name: value.replace("$$", "$") for name, value in values.items()}
