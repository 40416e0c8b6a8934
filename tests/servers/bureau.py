"""A local web server in place of the Bureau and of Kaggle. It serves monthly zips in the Bureau's layout, with ETag and
Last-Modified, answers with a fault if a test asks for it, and records the requests.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
import zipfile
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from werkzeug import Request, Response

from tests.builders import Flight
from tests.servers.receivers import WebServer
from utils.sources.download import RetryPolicy

RETRY_AT_ONCE = RetryPolicy(connect_timeout_s=5, read_timeout_s=5, tries=3, pause_s=0.01, max_pause_s=0.02)

# --- the Bureau's files, as published in 2026 ------------------------------------------------------------------------

# Each line ends with a comma. The header is quoted, and so are the values of the columns in QUOTED.
LAYOUT: tuple[str, ...] = (
    "Year", "Quarter", "Month", "DayofMonth", "DayOfWeek", "FlightDate", "Reporting_Airline",
    "DOT_ID_Reporting_Airline", "IATA_CODE_Reporting_Airline", "Tail_Number", "Flight_Number_Reporting_Airline",
    "OriginAirportID", "OriginAirportSeqID", "OriginCityMarketID", "Origin", "OriginCityName", "OriginState",
    "OriginStateFips", "OriginStateName", "OriginWac", "DestAirportID", "DestAirportSeqID", "DestCityMarketID", "Dest",
    "DestCityName", "DestState", "DestStateFips", "DestStateName", "DestWac", "CRSDepTime", "DepTime", "DepDelay",
    "DepDelayMinutes", "DepDel15", "DepartureDelayGroups", "DepTimeBlk", "TaxiOut", "WheelsOff", "WheelsOn", "TaxiIn",
    "CRSArrTime", "ArrTime", "ArrDelay", "ArrDelayMinutes", "ArrDel15", "ArrivalDelayGroups", "ArrTimeBlk", "Cancelled",
    "CancellationCode", "Diverted", "CRSElapsedTime", "ActualElapsedTime", "AirTime", "Flights", "Distance",
    "DistanceGroup", "CarrierDelay", "WeatherDelay", "NASDelay", "SecurityDelay", "LateAircraftDelay", "FirstDepTime",
    "TotalAddGTime", "LongestAddGTime", "DivAirportLandings", "DivReachedDest", "DivActualElapsedTime", "DivArrDelay",
    "DivDistance",
    *(f"Div{stop}{name}" for stop in range(1, 6) for name in (
        "Airport", "AirportID", "AirportSeqID", "WheelsOn", "TotalGTime", "LongestGTime", "WheelsOff", "TailNum")),
)  # fmt: skip
QUOTED = {
    "Reporting_Airline", "IATA_CODE_Reporting_Airline", "Tail_Number", "Flight_Number_Reporting_Airline", "Origin",
    "OriginCityName", "OriginState", "OriginStateFips", "OriginStateName", "Dest", "DestCityName", "DestState",
    "DestStateFips", "DestStateName", "CRSDepTime", "DepTime", "DepTimeBlk", "WheelsOff", "WheelsOn", "CRSArrTime",
    "ArrTime", "ArrTimeBlk", "CancellationCode", "FirstDepTime",
}  # fmt: skip
# Column of the Bureau: column of tests.builders.Flight; by the format of the value.
TIMES = {"CRSDepTime": "CRS_DEP_TIME", "DepTime": "DEP_TIME", "WheelsOff": "WHEELS_OFF", "WheelsOn": "WHEELS_ON",
          "CRSArrTime": "CRS_ARR_TIME", "ArrTime": "ARR_TIME"}  # fmt: skip
NUMBERS = {"DepDelay": "DEP_DELAY", "TaxiOut": "TAXI_OUT", "TaxiIn": "TAXI_IN", "ArrDelay": "ARR_DELAY",
           "Cancelled": "CANCELLED", "Diverted": "DIVERTED", "CRSElapsedTime": "CRS_ELAPSED_TIME",
           "ActualElapsedTime": "ACTUAL_ELAPSED_TIME", "AirTime": "AIR_TIME", "Distance": "DISTANCE",
           "CarrierDelay": "CARRIER_DELAY", "WeatherDelay": "WEATHER_DELAY", "NASDelay": "NAS_DELAY",
           "SecurityDelay": "SECURITY_DELAY", "LateAircraftDelay": "LATE_AIRCRAFT_DELAY"}  # fmt: skip
TEXTS = {"FlightDate": "FL_DATE", "Reporting_Airline": "OP_CARRIER", "IATA_CODE_Reporting_Airline": "OP_CARRIER",
         "Flight_Number_Reporting_Airline": "OP_CARRIER_FL_NUM", "Origin": "ORIGIN", "Dest": "DEST",
         "CancellationCode": "CANCELLATION_CODE"}  # fmt: skip


def bureau_line(flight: Flight, **changes: str) -> str:
    """Return one flight in the Bureau's format; `changes` sets columns by the Bureau's names."""
    year, month, day = flight["FL_DATE"].split("-")
    values = {
        "Year": year, "Month": str(int(month)), "DayofMonth": str(int(day)), "Flights": "1.00",
        "OriginCityName": "New York, NY", "DestCityName": "Denver, CO",
        **{name: flight[ours] for name, ours in TEXTS.items()},
        **{name: f"{int(float(flight[ours])):04}" if flight[ours] else "" for name, ours in TIMES.items()},
        **{name: f"{float(flight[ours]):.2f}" if flight[ours] else "" for name, ours in NUMBERS.items()},
        **changes,
    }  # fmt: skip
    fields = (f'"{values.get(name, "")}"' if name in QUOTED else values.get(name, "") for name in LAYOUT)
    return ",".join(fields) + ",\n"


def month_csv(flights: Iterable[Flight], *lines: str) -> bytes:
    """Return the CSV of a month: the header, the flights, and lines of `bureau_line`."""
    header = ",".join(f'"{name}"' for name in LAYOUT) + ",\n"
    return "".join((header, *map(bureau_line, flights), *lines)).encode()


def zip_of(text: bytes, name: str = "On_Time_Reporting_Carrier_On_Time_Performance_(1987_present).csv") -> bytes:
    """Return a zip of the CSV and a readme, like the Bureau's. Equal texts give equal bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo("readme.html"), "<html>Record layout</html>")
    return packed.getvalue()


def damaged_zip(packed: bytes) -> bytes:
    """Return the zip with a wrong CRC."""
    damaged = bytearray(packed)
    damaged[packed.index(b"PK\1\2") + 16] ^= 255
    return bytes(damaged)


def month_path(year: int, month: int) -> str:
    return f"/PREZIP/On_Time_Reporting_Carrier_On_Time_Performance_1987_present_{year}_{month}.zip"


def year_of_zips(flights: Iterable[Flight]) -> dict[str, bytes]:
    """Return the zips by path, one for each month that has flights."""
    by_month = defaultdict[str, list[Flight]](list)
    for flight in flights:
        by_month[flight["FL_DATE"][:7]].append(flight)
    return {month_path(int(day[:4]), int(day[5:])): zip_of(month_csv(rows)) for day, rows in by_month.items()}


# --- the server -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """An answer that a test sets in place of the normal one."""

    status: int = 200
    body: bytes | None = None  # None: the file
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes, after which the connection closes
    silent_after: int | None = None  # bytes, after which the server sends nothing more


class Bureau:
    """The server: `files` by path, and answers that replace them."""

    def __init__(self, *, to_head: Answer | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.always: dict[str, Answer] = {}  # the answer to every request for the path
        self.to_head = to_head  # the answer to every HEAD; None: like GET, without the body
        self.requests: list[Request] = []
        self.ended = threading.Event()
        self.url = ""
        self._next = defaultdict[str, deque[Answer]](deque)

    def publish(self, flights: Iterable[Flight]) -> None:
        """Publish or revise the months of the flights."""
        self.files |= year_of_zips(flights)

    def withdraw(self, year: int, month: int) -> None:
        del self.files[month_path(year, month)]

    def damage_next(self, year: int, month: int, times: int = 1) -> None:
        """Answer the next `times` downloads of a published month with a zip that has a wrong CRC."""
        damaged = damaged_zip(self.files[month_path(year, month)])
        self.answer_next(month_path(year, month), *[Answer(body=damaged)] * times)

    def paths(self) -> list[str]:
        return [_path(request) for request in self.requests]

    def answer_next(self, path: str, *answers: Answer) -> None:
        """Answer the next GET requests for the path with `answers`, one each; they precede `always`."""
        self._next[path] += answers

    def respond(self, request: Request) -> Response:
        self.requests.append(request)
        path = _path(request)
        if request.method == "HEAD" and self.to_head:
            return _response(self.to_head.status, self.to_head.headers, None)
        is_replaced = request.method == "GET" and self._next[path]
        answer = self._next[path].popleft() if is_replaced else self.always.get(path, Answer())
        body = answer.body if answer.body is not None else self.files.get(path)
        if answer.status != 200 or body is None:
            return _response(404 if answer.status == 200 else answer.status, answer.headers, answer.body or b"")
        headers = dict(answer.headers)
        if answer.body is None:
            tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            headers = {"ETag": tag, "Last-Modified": "Wed, 12 Aug 2026 12:15:44 GMT", **headers}
        return _response(200, headers, body, self._pieces(body, answer))

    def _pieces(self, body: bytes, answer: Answer) -> Iterator[bytes]:
        ends = [end for end in (answer.cut_after, answer.silent_after) if end is not None]
        yield body[: min(ends, default=len(body))]
        if answer.silent_after is not None:
            self.ended.wait()


def _path(request: Request) -> str:
    return request.full_path.removesuffix("?")


def _response(
    status: int, headers: Mapping[str, str], body: bytes | None, pieces: Iterable[bytes] | None = None
) -> Response:
    """Return a response that announces the length of `body` and sends `pieces` (default: the body)."""
    response = Response(iter([body or b""]) if pieces is None else pieces, status, dict(headers))
    response.automatically_set_content_length = False
    if body is not None:
        response.headers["Content-Length"] = str(len(body))
    return response


@contextmanager
def serving(bureau: Bureau) -> Iterator[Bureau]:
    """Serve on a free port of 127.0.0.1."""
    with WebServer("127.0.0.1", threaded=True) as server:
        server.expect_request(re.compile("")).respond_with_handler(bureau.respond)
        bureau.url = server.url_for("").rstrip("/")
        try:
            yield bureau
        finally:
            bureau.ended.set()
