"""The text of errors as a log shows it."""

from __future__ import annotations

import traceback


def shown_by(error: BaseException | None) -> str:
    """The text of a traceback without its lines of code, which here are those of this test."""
    text = ""
    while error:
        text += repr(error) + "".join(traceback.format_exception_only(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text
