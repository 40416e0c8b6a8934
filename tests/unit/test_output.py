"""Lines and errors of a command: text of strangers is not markup, and control characters are escaped."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.cli import output
from utils.errors import DelaywatchError

pytestmark = pytest.mark.security


def test_printed_lines_and_errors_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("[red]line[/red] [bold]")
    output.complain(DelaywatchError("[red]error[/red]"))

    shown = capsys.readouterr()
    assert shown.out == "[red]line[/red] [bold]\n"
    assert "[red]error[/red]" in shown.err


@settings(max_examples=30)
@given(st.text())
def test_an_error_has_no_control_characters_and_keeps_all_others(text: str) -> None:
    message = str(DelaywatchError(f"{text}\x1b[2J\u202e\x9b"))

    assert not set(message) & {*map(chr, [*range(9), *range(11, 32), *range(127, 160), *range(0x2028, 0x202F)])}
    assert message.endswith("\\x1b[2J\\u202e\\x9b")
    assert all(character in message for character in text if character.isprintable() or character in "\n\t")
