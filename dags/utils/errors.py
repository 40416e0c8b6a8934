"""The errors that Delaywatch raises on purpose, one class per kind, and text that is safe on a terminal."""

from __future__ import annotations

import re

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
