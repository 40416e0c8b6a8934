"""stack/up/failure.sh: the one message of a start that failed. A script of the name `docker` plays the engine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.stack.volumes import ROOT

DOCKER = """#!/bin/sh
case "$*" in
"compose ps"*) [ "$5" = airflow-init ] && echo container ;;
*Health.Log*) printf '\\n%s\\n' "$HEALTH_OUTPUT" ;;
inspect*) echo "$STATE" ;;
logs*) printf '%s\\n\\n' "$LOGS" ;;
esac
"""


def message_of(folder: Path, log: str, **docker: str) -> str:
    """Return what `explain` prints for the log of a failed `docker compose up`."""
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    (folder / "log").write_text(log)
    environ = {"PATH": f"{folder}:{os.environ['PATH']}", **docker}
    command = ["bash", "-c", f". {ROOT / 'stack/up/failure.sh'}\nexplain {folder / 'log'}"]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Delaywatch is not up: ")
    assert ended.stderr.count("\n") == 1
    return ended.stderr


@pytest.mark.parametrize(
    ("log", "fact"),
    [
        ("Error: failed to bind host port 127.0.0.1:443/tcp: address already in use", "port 443 "),
        ("Error: listen tcp4 0.0.0.0:8443: bind: address already in use", "port 8443 "),
        ("Error: Bind for 0.0.0.0:80 failed: port is already allocated", "port 80 "),
        ("write /var/lib/docker/tmp/x: no space left on device", "disk is full"),
        ("services.s3.scale must be a integer", "DELAYWATCH_LOCAL"),
        ('invalid hostPort: "https"', "DELAYWATCH_HTTP_PORT"),
        ("first line\nlast line\n", "last line"),
    ],
)
def test_the_cause_in_the_log_of_compose_is_named(tmp_path: Path, log: str, fact: str) -> None:
    assert fact in message_of(tmp_path, log, STATE="running healthy 0")


def test_a_line_of_env_that_compose_cannot_read_is_not_shown(tmp_path: Path) -> None:
    message = message_of(tmp_path, 'failed to read /srv/.env: line 1: unexpected "swordfish" in variable')

    assert ".env" in message
    assert "swordfish" not in message


@pytest.mark.parametrize(
    ("state", "fact"),
    [
        ("exited none 137", "memory"),
        ("exited none 1", "the last line of its log"),
        ("restarting none 3", "the last line of its log"),
        ("running unhealthy 0", "the output of its health check"),
        ("running starting 0", "the output of its health check"),
        ("exited none 0", "dependency failed"),
        ("exited unhealthy 0", "dependency failed"),
        ("running healthy 0", "dependency failed"),
    ],
)
def test_the_container_that_failed_is_named_with_its_last_line(tmp_path: Path, state: str, fact: str) -> None:
    message = message_of(
        tmp_path,
        "dependency failed to start",
        STATE=state,
        LOGS="first line\nthe last line of its log",
        HEALTH_OUTPUT="the output of its health check",
    )

    assert fact in message
    assert ("airflow-init" in message) == (fact != "dependency failed")
