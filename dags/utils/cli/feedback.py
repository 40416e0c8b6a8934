"""`python -m utils feedback`: give, withdraw and list feedback on airport-days.

`warehouse/feedback.py` stores it; `analysis/exclusions.py` applies it to the detectors.
"""

from __future__ import annotations

import getpass
from collections.abc import Hashable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from utils.cli.options import OnlyYearOption, WarehouseOption, settings_of, years_of
from utils.cli.output import say, show
from utils.errors import InvalidInput, Missing, printable
from utils.storage.keys import check_year

if TYPE_CHECKING:
    import pandas as pd

    from utils.db_handler import DBHandler

COUNTS = ["right_flags", "wrong_flags", "expected_flags", "right_missed"]


AirportArgument = Annotated[str | None, typer.Argument(help="Code of the airport, such as JFK.")]
DayArgument = Annotated[str | None, typer.Argument(help="The day, such as 2013-02-08.")]
OpinionArgument = Annotated[
    str | None,
    typer.Argument(
        help="expected: known beforehand; the day is not used for fitting this airport. wrong: a false alarm. "
        "right: a true one."
    ),
]
NoteOption = Annotated[str, typer.Option("--note", help="Why, in your words.")]
AuthorOption = Annotated[str | None, typer.Option("--author", help="Who says it; your login by default.")]
WithdrawOption = Annotated[bool, typer.Option("--withdraw", help="Take back what was said of the day.")]


def feedback(
    airport: AirportArgument = None,
    day: DayArgument = None,
    opinion: OpinionArgument = None,
    note: NoteOption = "",
    author: AuthorOption = None,
    withdraw: WithdrawOption = False,
    year: OnlyYearOption = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Say what you know of an airport-day: AIRPORT DAY OPINION. Without them: list what was said, and of what verdicts.

    Runs of the year keep it. A second opinion on a day replaces the first.
    """
    from utils import schemas
    from utils.db_handler import DBHandler

    is_list = airport is None
    if is_list and (note or author or withdraw):
        raise InvalidInput("Feedback is on a day of an airport; name both, such as JFK 2013-02-08.")
    if not is_list and year:
        raise InvalidInput("--year chooses what is listed; leave it out, or leave out airport and day.")
    if withdraw and (opinion or note):
        raise InvalidInput("--withdraw takes back what was said of a day; leave out opinion and note.")
    when = None if is_list else _day(day)
    if not is_list and not withdraw and opinion is None:
        raise InvalidInput(
            f"What was {airport} on {when}? Add one of {', '.join(schemas.OPINIONS)}; or --withdraw what was said."
        )
    years = years_of(year) if year else None
    with DBHandler(settings_of(warehouse=warehouse, needs_lake=False).warehouse) as handler:
        if airport is None or when is None:
            _list(handler, years)
        elif opinion is None:
            _withdraw(handler, airport.strip().upper(), when)
        else:
            _give(handler, airport.strip().upper(), when, opinion, note, author or _login())


def _give(handler: DBHandler, airport: str, day: date, opinion: str, note: str, author: str) -> None:
    before = _opinion(handler, airport, day)
    is_new = handler.give_feedback(airport, day, opinion, note, author)
    (judged,) = _of_day(handler.judged_feedback(day.year), airport, day).to_dict("records")
    say(f"{airport} {day}: {opinion}{'' if is_new else ', as before'} (the published verdict: {_verdict(judged)}).")
    if "expected" in {opinion, before} and opinion != before:
        _say_what_next(airport, day)
    elif opinion == "right" and not judged["severity"]:
        say("The day is not flagged, so this counts as an abnormal day that was missed.")
    elif opinion == "wrong" and not judged["severity"]:
        say("The day is not flagged, so this counts only against the detectors that flag it.")


def _withdraw(handler: DBHandler, airport: str, day: date) -> None:
    before = _opinion(handler, airport, day)
    if not handler.withdraw_feedback(airport, day):
        raise Missing(
            f"There is no feedback on {airport} {day} to withdraw; `python -m utils feedback` lists what there is."
        )
    say(f"{airport} {day}: {before} is withdrawn.")
    if before == "expected":
        _say_what_next(airport, day)


def _list(handler: DBHandler, years: list[int] | None) -> None:
    judged, counts = handler.judged_feedback(), handler.detector_feedback()
    if years is not None:
        judged, counts = judged[judged["fl_date"].dt.year.isin(years)], counts[counts["year"].isin(years)]
    if judged.empty:
        say(f"No feedback{' on days of these years' if years else ''} yet.")
        return
    table = Table("airport", "day", "opinion", "published verdict", "by", "on", "note")
    table.columns[1].no_wrap, table.columns[1].min_width = True, len("2013-02-08")  # users copy it for --withdraw
    for row in judged.to_dict("records"):
        cells = (
            *(row["origin"], f"{row['fl_date']:%Y-%m-%d}", row["opinion"], _verdict(row)),
            *(row["author"], f"{row['given_at']:%Y-%m-%d}", row["note"]),
        )
        # A note may contain rich's markup, and rows that were inserted with SQL may contain control characters.
        table.add_row(*(Text(printable(cell)) for cell in cells))
    show(table)
    if not counts.empty:
        show(_precision(counts))


def _precision(counts: pd.DataFrame) -> Table:
    """Return a table of each detector's precision by feedback, over all given years."""
    table = Table(
        *("detector", "right", "wrong", "precision", "expected", "missed"),
        caption="flagged days by what was said of them; missed: called right and not flagged",
    )
    for name, right, wrong, expected, missed in counts.groupby("detector")[COUNTS].sum().itertuples():
        precision = f"{right / (right + wrong):.0%}" if right + wrong else "–"
        table.add_row(name, str(right), str(wrong), precision, str(expected), str(missed))
    return table


def _verdict(row: Mapping[Hashable, Any]) -> str:
    """Return the published detector's current verdict on the day, for the table."""
    from utils import schemas

    if not row["is_there"]:
        return "none, the day is gone"
    if not isinstance(row["verdict"], str):
        return "none, not judged"
    return f"{row['verdict']}, {schemas.SEVERITIES[int(row['severity'])]}" if row["severity"] else row["verdict"]


def _opinion(handler: DBHandler, airport: str, day: date) -> str | None:
    rows = _of_day(handler.feedback(day.year), airport, day)
    return None if rows.empty else str(rows["opinion"].iloc[0])


def _of_day(rows: pd.DataFrame, airport: str, day: date) -> pd.DataFrame:
    of_day: pd.DataFrame = rows[(rows["origin"] == airport) & (rows["fl_date"].dt.date == day)]
    return of_day


def _day(text: str | None) -> date:
    if text is None:
        raise InvalidInput("Feedback is on a day of an airport; name both, such as JFK 2013-02-08.")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{text} is not a day; write it like 2013-02-08, after the airport.") from None
    check_year(day.year)
    return day


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user of a container may have no name
        raise InvalidInput("This machine does not know your name; give it with --author.") from None


def _say_what_next(airport: str, day: date) -> None:
    say(
        f"To apply it to the other days of {airport}, run `python -m utils detect --year {day.year}`, then `explain`, "
        "`upsert`, `plot` and `page`. Verdicts of other airports do not change."
    )
