"""The pages below /flights/: the application and its routes.

uvicorn starts it (docker-compose.yaml, service site): `uvicorn --factory utils.web.app:create_app`.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import anyio.to_thread
import fastapi.openapi.utils
import jinja2
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from markupsafe import Markup
from starlette.exceptions import HTTPException

from utils import __version__
from utils.errors import DelaywatchError, Missing
from utils.reporting.site import render
from utils.settings import Settings, SiteSettings
from utils.storage import keys
from utils.storage.lake import Lake
from utils.warehouse.connection import Postgres
from utils.web import api, feedback, inputs
from utils.web.auth import COOKIE, Forbidden, Sessions, Visitor
from utils.web.data import Warehouse
from utils.web.errors import ERRORS, HEADERS
from utils.web.flights import Flights
from utils.web.layout import ASSETS, SiteLinks, asset, levels
from utils.web.rendered import Rendered

log = logging.getLogger(__name__)

THREADS = 8  # requests at once; more would only wait for a connection to the warehouse
OLD_SILVER = "The flights of this day are no longer stored: retention has removed the silver of {year}."


@dataclass(frozen=True)
class Site:
    """What the routes use. labels: writes feedback; None: the site takes none."""

    warehouse: Warehouse
    lake: Lake
    flights: Flights
    sessions: Sessions
    labels: Postgres | None
    tokens: feedback.Tokens
    rate: feedback.RateLimit
    rendered: Rendered
    links: SiteLinks


def create_app() -> FastAPI:
    """Return the application with the settings of the environment. Raises InvalidInput for invalid ones."""
    return build(Settings.from_environment(), SiteSettings.from_environment())


def build(settings: Settings, site_settings: SiteSettings) -> FastAPI:
    """Return the application. settings.warehouse: a login that only reads. Opens no connection."""
    lake = Lake(settings)
    site = Site(
        Warehouse(settings.warehouse),
        lake,
        Flights(lake),
        Sessions(site_settings.superset),
        Postgres(site_settings.feedback, connect_timeout_s=5, lock_timeout_s=5) if site_settings.feedback else None,
        feedback.Tokens(site_settings.key),
        feedback.RateLimit(),
        Rendered(),
        SiteLinks(),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        threading.Thread(target=_warm_up, args=[site.warehouse], daemon=True).start()
        yield
        site.warehouse.close()

    # Paths without a slash at the end are redirected by _not_found: FastAPI would use the Host of the request.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    app.state.site, app.state.warehouse = site, site.warehouse
    app.middleware("http")(_with_headers)
    app.include_router(public)
    app.include_router(api.router, dependencies=[Depends(visitor_of)])
    app.include_router(pages, dependencies=[Depends(visitor_of)])
    for error, answer in ERRORS.items():
        app.add_exception_handler(error, answer)
    return app


def _warm_up(warehouse: Warehouse) -> None:
    """Sum up all years, so that the first visitor does not wait for it."""
    try:
        warehouse.airport_years()
    except DelaywatchError as error:
        log.warning("The years are summed up when the first page needs them: %s", error)


async def _with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    answer = await call_next(request)
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer


# --- dependencies -----------------------------------------------------------------------------------------------------


def site_of(request: Request) -> Site:
    """Return what the routes use."""
    site: Site = request.app.state.site
    return site


Used = Annotated[Site, Depends(site_of)]


def visitor_of(request: Request, site: Used) -> Visitor:
    """Return the user of Superset who sent the request. Raises NotLoggedIn, Forbidden or SupersetUnavailable."""
    return site.sessions.visitor(request.cookies.get(COOKIE))


Known = Annotated[Visitor, Depends(visitor_of)]


def _layout(site: Site, visitor: Visitor) -> render.Layout:
    return render.Layout(
        links=site.links,
        levels=levels(),
        years=site.warehouse.years(),
        user=visitor.name,
    )


# --- without a login --------------------------------------------------------------------------------------------------

public = APIRouter(include_in_schema=False)


@public.get("/health")
async def health() -> PlainTextResponse:  # async: it needs no thread, which may all wait for the warehouse or Superset
    """Answer the container's health check; nginx does not forward this path."""
    return PlainTextResponse("ok\n")


@public.get("/flights/assets/{version}/{name}")
def read_asset(version: str, name: str) -> Response:
    """Return a stylesheet, script or drawing; an address with the present hash never changes."""
    if name not in ASSETS:
        raise HTTPException(404)
    content, present = asset(name)
    kept = "public, max-age=31536000, immutable" if version == present else "no-cache"
    return Response(content, media_type=ASSETS[name], headers={"Cache-Control": kept})


# --- pages ------------------------------------------------------------------------------------------------------------

pages = APIRouter(prefix="/flights", include_in_schema=False, default_response_class=HTMLResponse)


@pages.get("/")
def home(site: Used, visitor: Known) -> str:
    """All years."""

    def draw() -> str:
        return render.home_page(site.warehouse.home(dt.datetime.now(dt.UTC)), _layout(site, visitor))

    return site.rendered.page("home", visitor.name, site.warehouse.version(), draw)


@pages.get("/airports/")
def airports(site: Used, visitor: Known) -> str:
    """The list of airports."""

    def draw() -> str:
        return render.airports_page(site.warehouse.airport_years(), _layout(site, visitor))

    return site.rendered.page("airports", visitor.name, site.warehouse.version(), draw)


@pages.get("/search")
def search(
    site: Used,
    airport: Annotated[str, Query(max_length=60)] = "",
    day: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """Redirect to the day or the airport of the search form, or to the list if several airports have the name.

    Raises Missing for an unknown airport and for a text that is not a date.
    """
    name, date = airport.strip(), day.strip()
    found = site.warehouse.airports_called(name)
    if not found:
        raise Missing(f"No airport is called {name}. Write its code, such as LGA, or its city.")
    if len(found) > 1:
        # The script of the list shows only these.
        return RedirectResponse(f"{site.links.airports()}?{urlencode({'airport': name, 'day': date})}", 303)
    if not date:
        return RedirectResponse(site.links.airport(found[0]), 303)
    try:
        return RedirectResponse(site.links.day(found[0], inputs.day_of(date)), 303)
    except ValueError as error:
        raise Missing(f"{date} is not a day of the data: {error}.") from error


@pages.get("/airports/{code}/")
def airport_page(site: Used, visitor: Known, code: inputs.Airport) -> str:
    """All years of an airport."""
    return render.airport_page(site.warehouse.airport(code), _layout(site, visitor))


@pages.get("/airports/{code}/{year:int}/")
def airport_year_page(site: Used, visitor: Known, code: inputs.Airport, year: inputs.Year) -> str:
    """One year of an airport."""
    data = site.warehouse.airport_year(code, year, has_plots=_has_plots(site, code, year))
    return render.airport_year_page(data, _layout(site, visitor))


def _has_plots(site: Site, code: str, year: int) -> bool:
    try:
        return site.lake.has(keys.plot_key(year, code, "daily_delay"))
    except DelaywatchError as error:  # the page is useful without plots
        log.warning("The page of %s %s has no plots: %s", code, year, error)
        return False


@pages.get("/airports/{code}/{day}/")
def day_page(site: Used, visitor: Known, code: inputs.Airport, day: inputs.Day) -> str:
    """One day of an airport; with a form for feedback if the visitor may give it."""
    address = site.links.day(code, day)
    may_label = site.labels is not None and visitor.may_label
    form = render.LabelForm(f"{address}feedback", site.tokens.create(visitor)) if may_label else None
    data = site.warehouse.day(code, day)
    return render.day_page(data, _layout(site, visitor), label_form=form, flights_url=f"{address}flights")


@pages.get("/airports/{code}/{day}/flights")
def flights_part(site: Used, visitor: Known, code: inputs.Airport, day: inputs.Day) -> str:
    """The flights of a day as a part of its page, which loads it separately."""
    site.warehouse.check_day(code, day)
    layout = render.Layout(links=site.links, levels=levels(), user=visitor.name)
    try:
        flights = site.flights.of_day(code, day)
    except Missing as error:
        log.info("%s", error)
        return str(Markup('<h2>Flights</h2><p class="notice">{}</p>').format(OLD_SILVER.format(year=day.year)))
    return render.flights_part(flights, layout, f"{site.links.day(code, day)}flights.csv")


@pages.get("/airports/{code}/{day}/flights.csv")
def flights_csv(site: Used, code: inputs.Airport, day: inputs.Day) -> Response:
    """The flights of a day as CSV, with the columns of silver."""
    site.warehouse.check_day(code, day)
    try:
        flights = site.flights.of_day(code, day)
    except Missing as error:
        raise Missing(f"{OLD_SILVER.format(year=day.year)} Run the year again to create it.") from error
    name = f"{code}-{day}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(flights.to_csv(index=False), media_type="text/csv; charset=utf-8", headers=headers)


@pages.post("/airports/{code}/{day}/feedback")
def give_feedback(
    request: Request,
    site: Used,
    visitor: Known,
    code: inputs.Airport,
    day: inputs.Day,
    form: Annotated[Mapping[str, str], Depends(feedback.read_form)],
) -> Response:
    """Write or withdraw feedback on a day, and return to its page."""
    feedback.check_origin(request)
    if site.labels is None or not visitor.may_label:
        raise Forbidden
    site.tokens.check(form.get("csrf_token", ""), visitor)
    label = feedback.label_of(form)
    site.rate.count(visitor)
    site.warehouse.check_day(code, day)
    if feedback.write(site.labels, code, day, label, visitor):
        log.info("%s: %s %s by %s", label.opinion, code, day, visitor.name)
    return RedirectResponse(f"{site.links.day(code, day)}#label", 303)


@pages.get("/events/{event}/")
def event_page(site: Used, visitor: Known, event: inputs.Event) -> Response:
    """One event, or the day in its identifier if a later run has other events, for links in earlier messages."""
    try:
        data = site.warehouse.event(event)
    except Missing:
        day, code = inputs.first_day_of(event), event.partition("-")[2]
        if not site.warehouse.has_day(code, day):
            raise
        return RedirectResponse(site.links.day(code, day), 303)
    return HTMLResponse(render.event_page(data, _layout(site, visitor)))


@pages.get("/plots/{year:int}/{code}/{kind}.png")
def plot(
    site: Used, year: inputs.Year, code: inputs.Airport, kind: Literal["daily_delay", "daily_flights"]
) -> Response:
    """A plot of one year of an airport."""
    content = site.lake.store.get(keys.plot_key(year, code, kind))
    if content is None:
        raise HTTPException(404)
    return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=300"})


@pages.get("/{year:int}/")
def year_page(site: Used, visitor: Known, year: inputs.Year) -> str:
    """One year of the network."""

    def draw() -> str:
        return render.year_page(site.warehouse.year(year), _layout(site, visitor))

    return site.rendered.page(str(year), visitor.name, site.warehouse.version(), draw)


# --- description of the API -------------------------------------------------------------------------------------------


@pages.get("/api/openapi.json")
def openapi() -> Response:
    """Return the OpenAPI description of the API."""
    return JSONResponse(description())


@cache
def docs_template() -> jinja2.Template:
    """Return the template of the API's description, which extends that of the pages."""
    loaders = [jinja2.FileSystemLoader(Path(__file__).parent), jinja2.FileSystemLoader(render.FOLDER / "templates")]
    environment = render.environment().overlay(loader=jinja2.ChoiceLoader(loaders))
    return environment.get_template("api_docs.html.j2")


@cache
def description() -> dict[str, Any]:
    """Return the OpenAPI description of the API."""
    return fastapi.openapi.utils.get_openapi(
        title="Delaywatch",
        version=__version__,
        description="Airport-days of US flights and the verdicts on them. Log in to Superset and send its cookie.",
        routes=api.router.routes,
    )


@pages.get("/api/docs")
def api_docs(site: Used, visitor: Known) -> str:
    """The description of the API for people."""
    around = {"layout": _layout(site, visitor), "links": site.links, "current": "", "current_year": None}
    return docs_template().render(around, paths=description()["paths"])
