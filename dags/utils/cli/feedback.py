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

NO_DAY = "Feedback needs an airport and a day; write both, such as JFK 2013-02-08."
COUNTS = ["right_flags", "wrong_flags", "expected_flags", "right_missed"]


AirportArgument = Annotated[str | None, typer.Argument(help="Code of the airport, such as JFK.")]
DayArgument = Annotated[str | None, typer.Argument(help="The day, such as 2013-02-08.")]
OpinionArgument = Annotated[
    str | None,
    typer.Argument(
        help="expected: the reason is known, and the day is not used for fitting this airport. "
        "wrong: a false alarm. right: a true alarm."
    ),
]
NoteOption = Annotated[str, typer.Option("--note", help="The reason, in your own words.")]
AuthorOption = Annotated[
    str | None, typer.Option("--author", help="Name of the person who gives the feedback; your login by default.")
]
WithdrawOption = Annotated[bool, typer.Option("--withdraw", help="Delete the feedback on the day.")]


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
    """Give feedback on an airport-day: AIRPORT DAY OPINION. Without arguments, list all feedback and each verdict.

    Feedback is kept when the year runs again. A second opinion on a day replaces the first.
    """
    from utils import schemas
    from utils.db_handler import DBHandler

    is_list = airport is None
    if is_list and (note or author or withdraw):
        raise InvalidInput(NO_DAY)
    if not is_list and year:
        raise InvalidInput("--year filters the list; leave it out, or leave out airport and day.")
    if withdraw and (opinion or note):
        raise InvalidInput("--withdraw deletes the feedback on a day; leave out opinion and note.")
    when = None if is_list else _day(day)
    if not is_list and not withdraw and opinion is None:
        raise InvalidInput(
            f"The opinion on {airport} {when} is missing; add one of {', '.join(schemas.OPINIONS)}, or --withdraw."
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
    (judged,) = _on_day(handler.judged_feedback(day.year), airport, day).to_dict("records")
    say(f"{airport} {day}: {opinion}{'' if is_new else ', as before'} (published verdict: {_verdict(judged)}).")
    if opinion == "right" and not judged["severity"]:
        say("The published detector does not flag the day, so it counts as an abnormal day that was missed.")
    elif opinion == "wrong" and not judged["severity"]:
        say("The published detector does not flag the day, so this counts only against detectors that flag it.")
    if opinion != before and "expected" in {opinion, before}:
        _suggest_detect(airport, day)
    else:
        _suggest_page(day)


def _withdraw(handler: DBHandler, airport: str, day: date) -> None:
    before = _opinion(handler, airport, day)
    if not handler.withdraw_feedback(airport, day):
        raise Missing(
            f"{airport} {day} has no feedback to withdraw; list all feedback with `python -m utils feedback`."
        )
    say(f"{airport} {day}: {before} is withdrawn.")
    if before == "expected":
        _suggest_detect(airport, day)
    else:
        _suggest_page(day)


def _list(handler: DBHandler, years: list[int] | None) -> None:
    judged, counts = handler.judged_feedback(), handler.detector_feedback()
    if years is not None:
        judged, counts = judged[judged["fl_date"].dt.year.isin(years)], counts[counts["year"].isin(years)]
    if judged.empty:
        say(f"The warehouse has no feedback{' on days of these years' if years else ''} yet.")
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
        caption="flagged days by feedback; missed: days with the feedback right that were not flagged",
    )
    for name, right, wrong, expected, missed in counts.groupby("detector")[COUNTS].sum().itertuples():
        precision = f"{right / (right + wrong):.0%}" if right + wrong else "–"
        table.add_row(name, str(right), str(wrong), precision, str(expected), str(missed))
    return table


def _verdict(row: Mapping[Hashable, Any]) -> str:
    """Return the published detector's current verdict on the day, for the table."""
    from utils import schemas

    if not row["has_airport_day"]:
        return "none, day was deleted"
    if not isinstance(row["verdict"], str):
        return "none, not scored"
    return f"{row['verdict']}, {schemas.SEVERITIES[int(row['severity'])]}" if row["severity"] else row["verdict"]


def _opinion(handler: DBHandler, airport: str, day: date) -> str | None:
    rows = _on_day(handler.feedback(day.year), airport, day)
    return None if rows.empty else str(rows["opinion"].iloc[0])


def _on_day(rows: pd.DataFrame, airport: str, day: date) -> pd.DataFrame:
    on_day: pd.DataFrame = rows[(rows["origin"] == airport) & (rows["fl_date"].dt.date == day)]
    return on_day


def _day(text: str | None) -> date:
    if text is None:
        raise InvalidInput(NO_DAY)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{text} is not a date; write a date such as 2013-02-08 after the airport.") from None
    check_year(day.year)
    return day


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user of a container may have no name
        raise InvalidInput("The name of your login is unknown on this machine; add --author NAME.") from None


def _suggest_detect(airport: str, day: date) -> None:
    say(
        f"To apply it to the other days of {airport}, run `python -m utils detect --year {day.year}`, then "
        "`explain`, `upsert`, `plot` and `page`. Verdicts of other airports do not change."
    )


def _suggest_page(day: date) -> None:
    say(
        "`python -m utils feedback` lists the precision of each detector; to update the pages, run "
        f"`python -m utils page --year {day.year}`."
    )
