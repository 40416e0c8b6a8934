"""The exceptions that Delaywatch raises, one class per kind, and escaping of text for a terminal."""

from __future__ import annotations

import errno
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

Given = TypeVar("Given")
Others = ParamSpec("Others")
Result = TypeVar("Result")

# Faults of a local file or folder that a person must correct: a path, a permission, a mount. Others are temporary.
_WRONG_PATH = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
)
# Control characters except \n and \t, and Unicode characters that break lines or change the text direction.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Return the text with control characters escaped, such as `\x1b`."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class DelaywatchError(Exception):
    """Base class. The message says what is wrong, where, and what to do. Raise one of the four subclasses.

    The message may repeat text from a file or a server, so its control characters are escaped.
    """

    def __init__(self, message: str) -> None:
        """Escape control characters in `message`."""
        super().__init__(printable(message))


class InvalidInput(DelaywatchError):
    """A file, parameter, setting or credential is wrong and must be corrected. Airflow fails the task without retry."""


class Missing(DelaywatchError):
    """A year, key, table or bucket does not exist. Airflow fails the task without retry."""


class Unavailable(DelaywatchError):
    """The network, a server, memory or a disk failed, perhaps temporarily. Airflow retries the task."""


class Busy(DelaywatchError):
    """Another run holds the lock, or has written the year first. Airflow retries the task."""


def kind_of(error: OSError) -> type[DelaywatchError]:
    """Return the class to raise for a fault of a local file or folder that the program chose.

    A missing file gives Unavailable, because another process may have moved or removed it.
    """
    return InvalidInput if error.errno in _WRONG_PATH else Unavailable


def cannot_read(path: Path, error: OSError, what: str = "") -> DelaywatchError:
    """Return the exception for an unreadable local file that the user named.

    what: text before the path in the message, such as the variable that names the file.
    """
    kind = Missing if error.errno == errno.ENOENT else kind_of(error)
    return kind(
        f"{what} {path} cannot be read ({error.strerror}); correct the path, or give this user permission to read it "
        "and to enter its parent folders.".lstrip()
    )


def out_of_memory(year: int) -> Unavailable:
    """Return the exception for a year that needs more memory than the process has."""
    return Unavailable(
        f"Out of memory while processing {year}; raise the memory limit or run fewer years in parallel, then run the "
        "step again. The existing files are unchanged."
    )


def within_memory(
    step: Callable[Concatenate[Given, int, Others], Result],
) -> Callable[Concatenate[Given, int, Others], Result]:
    """Decorate step(settings, year, ...): raise Unavailable instead of MemoryError.

    It cannot report a process that the system's OOM killer ends.
    """

    @functools.wraps(step)
    def call(settings: Given, year: int, /, *args: Others.args, **kwargs: Others.kwargs) -> Result:
        try:
            return step(settings, year, *args, **kwargs)
        except MemoryError as error:
            raise out_of_memory(year) from error

    return call
