"""`python -m stack`: setup (before every start), password, lake, rotate, backup, export and import (of the secrets).

Prints one line about what it did or what a person must correct. Only `password` and `export` show a secret.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from stack import backups, certificate, form, handover, host, rotation, settings, vault
from stack.files import put
from utils.errors import DelaywatchError, InvalidInput, Missing

FOLDERS = {
    "project": ("/project", "the repository, with an optional .env"),
    "secrets": ("/secrets", "volume of the generated secrets"),
    "handed": ("/handed", "folder with one volume per service"),
    "state": ("/state", "folder of the volumes postgres and s3"),
    "letsencrypt": ("/letsencrypt", "volume of certbot"),
}
SEEN = "DELAYWATCH_SECRETS_SEEN"
ACCESS = """\
User      admin, in Airflow and in Superset
Password  {password}
Jupyter   {token}
To change the password, set DELAYWATCH_ADMIN_PASSWORD in .env, then run make up and make reset-password.
To change the token, set DELAYWATCH_JUPYTER_TOKEN in .env, then run make up.
A password that was changed in Airflow or Superset is not shown here."""


def setup(folders: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Check .env and the host, create missing secrets, write the files of every service."""
    variables = _variables(folders, environ)
    given = settings.StackSettings.from_environment(variables)
    if unused := settings.unused(variables):
        _print_to_stderr(
            f"Note: the lake is local, so {', '.join(unused)} are not used. Set DELAYWATCH_LAKE to use a bucket."
        )
    host.check_memory(folders.meminfo)
    host.check_disk([folders.secrets, folders.state / "postgres", folders.state / "s3"])
    secrets, created = vault.complete(folders.secrets, folders.state / "postgres")
    new = rotation.under_way(folders.secrets)
    served, written, removed = _hand_over(folders, given, secrets)
    if served.warning:
        _print_to_stderr(f"Warning: {served.warning}")
    done = {
        f"{created} secrets created": created,
        f"{served.kind} certificate for {given.host} until {served.until:%Y-%m-%d}": "nginx/tls.crt" in written,
        f"{len(written)} files written": written,
        f"{len(removed)} files removed": removed,
        f"rotation of {', '.join(new)} continues": new,
    }
    _print(f"Setup: {', '.join(action for action, has_happened in done.items() if has_happened) or 'nothing to do'}.")


def password(folders: argparse.Namespace, _: Mapping[str, str]) -> None:
    """Print the user, the password and Jupyter's token, and how to change them."""
    paths = folders.handed / "airflow/admin_password", folders.handed / "jupyter/token"
    if not all(path.is_file() for path in paths):
        raise Missing("The stack does not have a password yet; start the stack once (make up).")
    user_password, token = (path.read_text() for path in paths)
    _print(ACCESS.format(password=user_password, token=token))


def rotate(folders: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Start to rotate secrets (stack/rotate.sh NAME... does all steps); without a name, list the secrets."""
    given = settings.StackSettings.from_environment(_variables(folders, environ))
    if not folders.names and not folders.finish:
        _print("\n".join(f"{name:20} {effect}" for name, effect in {**rotation.EFFECTS, "all": "all of these"}.items()))
        return
    secrets = vault.require(folders.secrets)
    if folders.finish:
        names = rotation.finish(folders.secrets)
        _hand_over(folders, given, vault.require(folders.secrets))
        _print(f"Rotation: {', '.join(names) or 'nothing'} finished; the old values are gone.")
        return
    names = rotation.choose(folders.names, given)
    rotation.begin(folders.secrets, folders.handed, names)
    _hand_over(folders, given, secrets)
    _print(f"Rotation: {', '.join(names)} started. Run `make up` to finish it, and again if it is interrupted.")


def export(folders: argparse.Namespace, _: Mapping[str, str]) -> None:
    """Write the secrets to stdout as a tar."""
    rotation.refuse_unfinished(folders.secrets)
    if sys.stdout.isatty():
        raise InvalidInput(
            "The output is a terminal, and the tar contains secrets; redirect it to a file that only you can read."
        )
    sys.stdout.buffer.write(vault.pack(folders.secrets))
    sys.stdout.buffer.flush()


def restore(folders: argparse.Namespace, _: Mapping[str, str]) -> None:
    """Import the secrets from a tar on stdin into an empty volume."""
    count = vault.unpack(folders.secrets, sys.stdin.buffer.read(vault.MAX_FILE_BYTES * 2 * len(vault.KNOWN)))
    _print(f"Secrets: {count} files imported.")


def lake(folders: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print `local` if the lake is in the stack's own store, else its URL."""
    variables = _variables(folders, environ)
    given = settings.StackSettings.from_environment(variables)
    _print("local" if given.is_lake_local else variables["DELAYWATCH_LAKE"])


def backup(folders: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print DELAYWATCH_BACKUP, or record the result of a backup for `make health`."""
    place = settings.StackSettings.from_environment(_variables(folders, environ)).backup
    if folders.event == "place":
        _print(place or "")
        return
    backups.note(folders.secrets, folders.event, folders.text, place, datetime.now(UTC))
    put(folders.handed / "health" / backups.RECORD, backups.read(folders.secrets) or b"", handover.READABLE)


def example(_: argparse.Namespace, __: Mapping[str, str]) -> None:
    """Print `.env.example`, generated from the settings model."""
    sys.stdout.write(form.example())


def _variables(folders: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that Compose passes and the secrets from `.env`.

    SEEN has the names of the secrets that have a value for Compose. A name that is missing in `.env` is set in the
    shell or in another file, which setup cannot read; the stack would start with a generated value instead.
    """
    written = form.read(folders.project / ".env")
    variables = {name: value for name, value in environ.items() if name not in settings.SECRET}
    variables |= {name: value for name, value in written.items() if name in settings.SECRET}
    seen = environ.get(SEEN, "").split()
    outside = [name for name in seen if not written.get(name)]
    if not settings.uses_aws(variables):
        # A shell that is used with AWS has these set.
        outside = [name for name in outside if not name.startswith("AWS_")]
    if outside:
        raise InvalidInput(
            f"The shell or another file sets secrets that are not in .env: {', '.join(outside)}. setup reads secrets "
            "only from .env; write them there, or unset them."
        )
    return variables


def _hand_over(
    folders: argparse.Namespace, given: settings.StackSettings, secrets: Mapping[str, str]
) -> tuple[certificate.Certificate, list[str], list[str]]:
    """Write every service's files. Return the certificate and the names of the written and of the removed files."""
    new = rotation.under_way(folders.secrets)
    served = certificate.find(folders.project, folders.letsencrypt, folders.secrets, given.host, datetime.now(UTC))
    table = handover.files(given, {**secrets, **new}, served)
    table["health"][backups.RECORD] = backups.read(folders.secrets)
    return served, *handover.write(folders.handed, rotation.hand_over(table, secrets, new))


COMMANDS = {
    "setup": setup,
    "password": password,
    "lake": lake,
    "rotate": rotate,
    "backup": backup,
    "export": export,
    "import": restore,
    "example": example,
}


def main(arguments: list[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run one command. Return 0, or 1 after a message on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m stack", description=__doc__.partition("\n")[0] if __doc__ else None
    )
    common = argparse.ArgumentParser(add_help=False)
    for name, (default, meaning) in FOLDERS.items():
        common.add_argument(
            f"--{name}", type=Path, default=Path(default), metavar="FOLDER", help=f"{meaning} ({default})"
        )
    common.add_argument("--meminfo", type=Path, default=host.MEMORY, metavar="FILE", help=f"memory ({host.MEMORY})")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        added = commands.add_parser(name, parents=[common], help=command.__doc__, description=command.__doc__)
        if command is rotate:
            added.add_argument("names", nargs="*", metavar="NAME", help="secret to rotate, or all")
            added.add_argument("--finish", action="store_true", help="delete the old values (called by stack/up.sh)")
        if command is backup:
            added.add_argument(
                "event", choices=("place", *backups.EVENTS), help="print the destination, or record an event"
            )
            added.add_argument("text", nargs="?", default="", help="file name, or reason of the failure")
    given = parser.parse_args(arguments)
    try:
        COMMANDS[given.command](given, environ)
    except DelaywatchError as error:
        _print_to_stderr(str(error))
        return 1
    except OSError as error:
        _print_to_stderr(_explained(error))
        return 1
    return 0


def _explained(error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "The disk with Docker's volumes is full; free some space (docker system df shows what Docker uses)."
    return f"{error.filename} cannot be used ({error.strerror}); check what docker-compose.yaml mounts there."


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _print_to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
