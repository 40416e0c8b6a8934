"""A local web server in place of the Bureau and of Kaggle: monthly zips in the Bureau's layout, and faults on order.

It knows ETag and Last-Modified, and remembers what it was asked.
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

# --- the Bureau's files, as inspected in 2026: 109 names and a comma at the end of each line ------------------------

# Quoted in the header and, where they are text, in the rows.
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
TEXT = {
    "Reporting_Airline", "IATA_CODE_Reporting_Airline", "Tail_Number", "Flight_Number_Reporting_Airline", "Origin",
    "OriginCityName", "OriginState", "OriginStateFips", "OriginStateName", "Dest", "DestCityName", "DestState",
    "DestStateFips", "DestStateName", "CRSDepTime", "DepTime", "DepTimeBlk", "WheelsOff", "WheelsOn", "CRSArrTime",
    "ArrTime", "ArrTimeBlk", "CancellationCode", "FirstDepTime",
}  # fmt: skip
# What the flights of tests/bronze.py tell, by the Bureau's name; how a number or a time of theirs is written there.
CLOCKS = {"CRSDepTime": "CRS_DEP_TIME", "DepTime": "DEP_TIME", "WheelsOff": "WHEELS_OFF", "WheelsOn": "WHEELS_ON",
          "CRSArrTime": "CRS_ARR_TIME", "ArrTime": "ARR_TIME"}  # fmt: skip
NUMBERS = {"DepDelay": "DEP_DELAY", "TaxiOut": "TAXI_OUT", "TaxiIn": "TAXI_IN", "ArrDelay": "ARR_DELAY",
           "Cancelled": "CANCELLED", "Diverted": "DIVERTED", "CRSElapsedTime": "CRS_ELAPSED_TIME",
           "ActualElapsedTime": "ACTUAL_ELAPSED_TIME", "AirTime": "AIR_TIME", "Distance": "DISTANCE",
           "CarrierDelay": "CARRIER_DELAY", "WeatherDelay": "WEATHER_DELAY", "NASDelay": "NAS_DELAY",
           "SecurityDelay": "SECURITY_DELAY", "LateAircraftDelay": "LATE_AIRCRAFT_DELAY"}  # fmt: skip
WORDS = {"FlightDate": "FL_DATE", "Reporting_Airline": "OP_CARRIER", "IATA_CODE_Reporting_Airline": "OP_CARRIER",
         "Flight_Number_Reporting_Airline": "OP_CARRIER_FL_NUM", "Origin": "ORIGIN", "Dest": "DEST",
         "CancellationCode": "CANCELLATION_CODE"}  # fmt: skip


def bureau_line(flight: Flight, **changes: str) -> str:
    """One flight as the Bureau writes it, with `changes` by the Bureau's names."""
    year, month, day = flight["FL_DATE"].split("-")
    told = {
        "Year": year, "Month": str(int(month)), "DayofMonth": str(int(day)), "Flights": "1.00",
        "OriginCityName": "New York, NY", "DestCityName": "Denver, CO",
        **{name: flight[ours] for name, ours in WORDS.items()},
        **{name: f"{int(float(flight[ours])):04}" if flight[ours] else "" for name, ours in CLOCKS.items()},
        **{name: f"{float(flight[ours]):.2f}" if flight[ours] else "" for name, ours in NUMBERS.items()},
        **changes,
    }  # fmt: skip
    fields = (f'"{told.get(name, "")}"' if name in TEXT else told.get(name, "") for name in LAYOUT)
    return ",".join(fields) + ","


def month_csv(flights: Iterable[Flight]) -> bytes:
    header = ",".join(f'"{name}"' for name in LAYOUT) + ","
    return "".join(line + "\n" for line in (header, *(bureau_line(one) for one in flights))).encode()


def zip_of(text: bytes, name: str = "On_Time_Reporting_Carrier_On_Time_Performance_(1987_present).csv") -> bytes:
    """The zip of one CSV, with the readme that the Bureau puts beside it; the same text gives the same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo("readme.html"), "<html>Record layout</html>")
    return packed.getvalue()


def month_path(year: int, month: int) -> str:
    return f"/PREZIP/On_Time_Reporting_Carrier_On_Time_Performance_1987_present_{year}_{month}.zip"


def year_of_zips(flights: Iterable[Flight]) -> dict[str, bytes]:
    """Every month's zip by its path, for the months that have flights."""
    by_month = defaultdict[str, list[Flight]](list)
    for one in flights:
        by_month[one["FL_DATE"][:7]].append(one)
    return {month_path(int(day[:4]), int(day[5:])): zip_of(month_csv(rows)) for day, rows in by_month.items()}


# --- the server -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What one request gets instead of the file."""

    status: int = 200
    body: bytes | None = None  # None: the file's, as far as the status has one
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes; then the connection is closed, although more were promised
    silent_after: int | None = None  # bytes; then nothing more comes until the server ends


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    path: str
    headers: Mapping[str, str]
    method: str


class Bureau:
    """The server: files by path, answers on order by path, requests as they came."""

    def __init__(self, *, has_versions: bool = True, to_head: Answer | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.orders = defaultdict[str, deque[Answer]](deque)  # taken one by one, then the file is served
        self.always: dict[str, Answer] = {}  # for every request
        self.to_head = to_head  # what every HEAD gets; None: what a GET would, without the body
        self.asked: list[Asked] = []
        self.has_versions = has_versions
        self.ended = threading.Event()
        self.url = ""

    def paths(self) -> list[str]:
        return [one.path for one in self.asked]

    def order(self, path: str, *answers: Answer) -> None:
        self.orders[path] += answers

    def respond(self, request: Request) -> Response:
        """The answer to a request, be it ordered or the file."""
        path = request.full_path.removesuffix("?")
        self.asked.append(Asked(path, dict(request.headers), request.method))
        if request.method == "HEAD" and self.to_head:
            return _response(self.to_head.status, self.to_head.headers, None)
        orders = self.orders[path]
        answer = orders.popleft() if orders else self.always.get(path, Answer())
        body = answer.body if answer.body is not None else self.files.get(path)
        if answer.status != 200 or body is None:
            return _response(404 if answer.status == 200 else answer.status, answer.headers, answer.body or b"")
        headers = dict(answer.headers)
        if self.has_versions and answer.body is None:
            tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            headers = {"ETag": tag, "Last-Modified": "Wed, 12 Aug 2026 12:15:44 GMT", **headers}
        return _response(200, headers, body, self._pieces(body, answer))

    def _pieces(self, body: bytes, answer: Answer) -> Iterator[bytes]:
        stop = min((one for one in (answer.cut_after, answer.silent_after) if one is not None), default=len(body))
        yield body[:stop]
        if answer.silent_after is not None:
            self.ended.wait()


def _response(
    status: int, headers: Mapping[str, str], body: bytes | None, pieces: Iterable[bytes] | None = None
) -> Response:
    """The response that promises the length of `body`, if there is one, and sends `pieces`, by default all of it."""
    response = Response(iter([body or b""]) if pieces is None else pieces, status, dict(headers))
    response.automatically_set_content_length = False
    if body is not None:
        response.headers["Content-Length"] = str(len(body))
    return response


@contextmanager
def serving(bureau: Bureau) -> Iterator[Bureau]:
    """The server on a free port of this host alone."""
    with WebServer("127.0.0.1", threaded=True) as server:
        server.expect_request(re.compile("")).respond_with_handler(bureau.respond)
        bureau.url = server.url_for("").rstrip("/")
        try:
            yield bureau
        finally:
            bureau.ended.set()
