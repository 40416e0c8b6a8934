"""The errors that Delaywatch raises on purpose, one class per kind, and text that is safe on a terminal."""

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

# Of a local file or folder: a person must correct a path, a permission or a mount. Any other fault may pass.
_WRONG_PATH = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
)
# Characters that a terminal obeys instead of showing, and those that change the direction of writing; not \n and \t.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Return the text with its control characters written out, such as `\x1b` for an escape."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class DelaywatchError(Exception):
    """A message for people: what is wrong, where, and what to do. Raise one of the four classes below.

    The message may repeat text from a file or a server, so its control characters are written out.
    """

    def __init__(self, message: str) -> None:
        """`message` is what the person reads."""
        super().__init__(printable(message))


class InvalidInput(DelaywatchError):
    """A person must correct a file, parameter, setting or credential. A task fails at once."""


class Missing(DelaywatchError):
    """A year, key, table or bucket is not there. A task fails at once."""


class Unavailable(DelaywatchError):
    """The network, a server, memory or a disk failed. It may pass: Airflow retries the task."""


class Busy(DelaywatchError):
    """Another run holds the lock. Airflow retries the task."""


def kind_of(error: OSError) -> type[DelaywatchError]:
    """Return the class of the error for a fault of a local file or folder that the program chose.

    A file that is gone may pass: another process moved or removed it in between.
    """
    return InvalidInput if error.errno in _WRONG_PATH else Unavailable


def cannot_read(path: Path, error: OSError, what: str = "") -> DelaywatchError:
    """Return the error for a local file that a person named and that cannot be read.

    what: a word in front of the path, such as the variable that names the file.
    """
    kind = Missing if error.errno == errno.ENOENT else kind_of(error)
    return kind(
        f"{what} {path} cannot be read ({error.strerror}); correct its path, or give this user the right to read it "
        "and to enter the folders above it.".lstrip()
    )


def out_of_memory(year: int) -> Unavailable:
    """Return the error for a year that needs more memory than this process may use."""
    return Unavailable(
        f"Out of memory while processing {year}; raise the memory limit or run fewer years in parallel, then run the "
        "step again. What was there before is untouched."
    )


def within_memory(
    step: Callable[Concatenate[Given, int, Others], Result],
) -> Callable[Concatenate[Given, int, Others], Result]:
    """Raise Unavailable if a step (of settings, year, ...) runs out of memory in Python.

    A process that the system kills raises nothing.
    """

    @functools.wraps(step)
    def call(settings: Given, year: int, /, *args: Others.args, **kwargs: Others.kwargs) -> Result:
        try:
            return step(settings, year, *args, **kwargs)
        except MemoryError as error:
            raise out_of_memory(year) from error

    return call
