"""Call deploy.sh as its user does, with a stand-in for the AWS CLI that keeps the states of stacks in files."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.cloud.templates import FOLDER

pytestmark = pytest.mark.cloud

AWS = """#!/usr/bin/env bash
cd "$STACKS_OF_THE_STAND_IN"
log() { tr -d '\\n' <<<"$1" >>log; echo >>log; }
case "$1 $2" in
    "cloudformation describe-stacks")
        [ -f "$4" ] || { echo "Stack with id $4 does not exist" >&2; exit 254; }
        case "$*" in *Outputs*) printf 'Lake lake\\nHost i-1\\n' ;; *) cat "$4" ;; esac ;;
    "cloudformation describe-stack-resources") [[ $4 != *-data ]] || echo warehouse-1 ;;
    "cloudformation deploy") log "$*"; echo CREATE_COMPLETE >"$4" ;;
    "cloudformation delete-stack") log "$*"; rm "$4" ;;
    "s3 cp") log "$*"; cat >archive ;;
    "ssm get-parameter") echo ami-1 ;;
    "ssm send-command") log "$*"; echo command-1 ;;
    "ssm get-command-invocation")
        case "$(wc -l <asked) $ON_HOST" in
            "0 late") echo >>asked; echo "An error occurred (InvocationDoesNotExist)" >&2; exit 254 ;;
            *denied) echo "An error occurred (AccessDeniedException)" >&2; exit 254 ;;
            *) [ "$ON_HOST" = late ] && echo Success || echo "$ON_HOST" ;;
        esac ;;
    "rds modify-db-instance" | "cloudformation set-stack-policy") log "$*" ;;
esac
"""
FIRST = {"DOMAIN": "delays.example.com", "CERTIFICATE": "arn:aws:acm:x"}
COMPLETE = {f"trial-{name}": "CREATE_COMPLETE" for name in ("network", "data", "host")}
GIT = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]


class Account:
    """A clone with one commit, and an account of AWS whose stacks are files with their state."""

    def __init__(self, folder: Path) -> None:
        self.clone, self.states = folder / "clone", folder / "states"
        shutil.copytree(FOLDER, self.clone / "infra-notes/cloudformation")
        for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "One"], ["tag", "-am", "One", "v1;reboot"]):
            subprocess.run([*GIT, *command], cwd=self.clone, check=True)
        self.states.mkdir()
        (self.states / "asked").touch()
        (self.states / "log").touch()
        (folder / "aws").write_text(AWS)
        (folder / "aws").chmod(0o755)
        self.path = f"{folder}:{os.environ['PATH']}"

    def run(
        self, command: str, stacks: dict[str, str], typed: str = "", on_host: str = "Success", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Call deploy.sh on these stacks; `typed` answers its question, `on_host` is the result of a command there."""
        for name, state in stacks.items():
            (self.states / name).write_text(state)
        own = {
            "PATH": self.path,
            "STACKS_OF_THE_STAND_IN": str(self.states),
            "ON_HOST": on_host,
            "AWS_REGION": "us-east-1",
        }
        return subprocess.run(
            [str(self.clone / "infra-notes/cloudformation/deploy.sh"), command],
            input=typed,
            env=own | {"AWS_REGION": "us-east-1", "DELAYWATCH_NAME": "trial", "POLL_S": "0"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def log(self) -> list[str]:
        """The calls that change something."""
        return (self.states / "log").read_text().splitlines()

    @property
    def stacks(self) -> set[str]:
        return {path.name for path in self.states.glob("trial-*")}


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account(tmp_path)


def test_up_replaces_a_failed_attempt_uploads_the_commit_and_forbids_replacement(account: Account) -> None:
    done = account.run("up", {"trial-network": "ROLLBACK_COMPLETE"}, CONFIRM="yes", **FIRST)

    assert done.returncode == 0, done.stderr
    assert account.stacks == COMPLETE.keys()
    assert "delete-stack --stack-name trial-network" in account.log[0]
    assert (account.states / "archive").read_bytes()[:2] == b"\x1f\x8b", "gzip"
    (host,) = (call for call in account.log if "--template-file host.yaml" in call)
    assert "Release=releases/v1-reboot.tar.gz Image=ami-1 Domain=delays.example.com" in host
    policies = [call for call in account.log if "set-stack-policy" in call]
    assert ['"LogicalResourceId/Lake","LogicalResourceId/Warehouse"' in call for call in policies] == [True, False]


def test_a_second_up_keeps_release_image_and_domain(account: Account) -> None:
    done = account.run("up", COMPLETE, CONFIRM="yes", ALARM_EMAIL="ops@example.com")

    assert done.returncode == 0, done.stderr
    (host,) = (call for call in account.log if "--template-file host.yaml" in call)
    assert host.endswith("NetworkStack=trial-network DataStack=trial-data AlarmEmail=ops@example.com")


@pytest.mark.parametrize("on_host", ["Success", "late"])
def test_deploy_sends_the_release_to_the_host_without_letters_of_the_shell(account: Account, on_host: str) -> None:
    done = account.run("deploy", COMPLETE, on_host=on_host, typed="trial\n")

    assert done.returncode == 0, done.stderr
    assert 'host.sh release releases/v1-reboot.tar.gz"]' in account.log[-1]


@pytest.mark.parametrize("command", ["deploy", "down"])
@pytest.mark.parametrize(("on_host", "reason"), [("Failed", "Failed"), ("denied", "AccessDeniedException")])
def test_a_failure_on_the_host_is_shown_and_deletes_nothing(
    account: Account, command: str, on_host: str, reason: str
) -> None:
    done = account.run(command, COMPLETE, on_host=on_host, CONFIRM="yes")

    assert done.returncode == 1
    assert reason in done.stderr
    assert account.stacks == COMPLETE.keys()
    assert not [call for call in account.log if "delete" in call]


@pytest.mark.parametrize("command", ["up", "deploy", "down"])
def test_nothing_happens_until_the_name_is_typed(account: Account, command: str) -> None:
    done = account.run(command, COMPLETE, typed="yes\n", DOMAIN="other.example.com")

    assert done.returncode == 1
    assert "type trial" in done.stderr
    assert account.log == []


def test_down_makes_a_backup_before_it_deletes_the_stacks_and_names_the_bucket(account: Account) -> None:
    done = account.run("down", COMPLETE, CONFIRM="yes")

    assert done.returncode == 0, done.stderr
    assert account.stacks == set()
    assert "host.sh backup" in account.log[0]
    words = [call.partition(" --")[0] for call in account.log[1:]]
    assert words == ["cloudformation delete-stack", "rds modify-db-instance", *["cloudformation delete-stack"] * 2]
    assert "s3://lake" in done.stdout
