"""The one exception that this package raises on purpose, and what makes the text of strangers fit for a terminal."""

from __future__ import annotations

import re

# What a terminal obeys instead of showing it, and what turns the direction of writing; line feeds and tabs stay.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""The text with its control characters written out, such as `\x1b` for an escape."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class DelaywatchError(Exception):
    """Something that a person can mend: one sentence that names the thing and the way out.

    It may repeat what stands in a file or what a server said; control characters in it are written out.
    """

    def __init__(self, sentence: str) -> None:
        """`sentence` is what the person reads."""
        super().__init__(printable(sentence))
