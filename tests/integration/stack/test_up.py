"""stack/up/failure.sh: what `complaint_of` prints of real containers."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

FAILURE = Path(__file__).resolve().parents[3] / "stack/up/failure.sh"
IMAGE = "delaywatch-test-up"
DOCKERFILE = 'FROM nginx:1.30\nHEALTHCHECK --interval=1s --retries=1 CMD exit 1\nENTRYPOINT ["sh", "-c"]\n'


def docker(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], input=given, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def unhealthy_image() -> Iterator[str]:
    """An image whose health check fails, made from one that the stack needs anyway."""
    if not shutil.which("docker") or docker("image", "inspect", "nginx:1.30").returncode:
        pytest.skip("there is no Docker engine with the image nginx:1.30")
    assert docker("build", "--tag", IMAGE, "-", given=DOCKERFILE).returncode == 0
    yield IMAGE
    docker("image", "rm", "--force", IMAGE)


def complaint_of(image: str, command: str) -> str:
    """What `complaint_of` prints of a container once its health check has failed or it has ended."""
    container = docker("run", "--detach", image, command).stdout.strip()
    try:
        deadline = time.monotonic() + 60
        while docker(
            "inspect", "--format", "{{.State.Status}} {{.State.Health.Status}}", container
        ).stdout.split() not in (
            ["running", "unhealthy"],
            ["exited", "unhealthy"],
        ):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        if "exit" in command:
            docker("wait", container)
        done = subprocess.run(
            ["bash", "-c", f". {FAILURE}\ncomplaint_of {container}"], capture_output=True, text=True, check=False
        )
        return done.stdout
    finally:
        docker("rm", "--force", container)


@pytest.mark.parametrize(("command", "has_complaint"), [("sleep 600", True), ("sleep 4; exit 0", False)])
def test_health_counts_only_while_a_container_runs(unhealthy_image: str, command: str, has_complaint: bool) -> None:
    assert bool(complaint_of(unhealthy_image, command)) is has_complaint
