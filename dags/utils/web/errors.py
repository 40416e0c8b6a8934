"""The headers of every answer, and the answer to every error: JSON for the API, else a page."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException

from utils.errors import DelaywatchError, Missing
from utils.reporting.site import render
from utils.web import feedback
from utils.web.auth import Forbidden, NotLoggedIn, SupersetUnavailable, login_url
from utils.web.layout import SiteLinks, levels

log = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
API = "/flights/api/"


def _is_api(request: Request) -> bool:
    return request.url.path.startswith(API)


def _message(
    request: Request, status: int, title: str, text: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error as JSON for the API, else as a page."""
    if _is_api(request):
        return JSONResponse({"detail": f"{title}. {text}"}, status, headers={**HEADERS, **(headers or {})})
    layout = render.Layout(links=SiteLinks(), levels=levels())
    return HTMLResponse(render.message_page(title, text, layout), status, headers={**HEADERS, **(headers or {})})


def _not_logged_in(request: Request, _: Exception) -> Response:
    path = request.url.path
    if _is_api(request):
        return _message(request, 401, "Not logged in", "Log in to Superset and send its session cookie.")
    if request.method == "POST":  # lead back to the page with the form, not to its target
        return RedirectResponse(login_url(path.rpartition("/")[0] + "/"), 303)
    query = request.url.query
    return RedirectResponse(login_url(f"{path}?{query}" if query else path), 302)


def _forbidden(request: Request, _: Exception) -> Response:
    text = "Your account may not do this. Ask an administrator of Superset for the role Analyst."
    return _message(request, 403, "Not allowed", text)


def _superset_unavailable(request: Request, error: Exception) -> Response:
    log.error("%s", error)
    text = "Superset does not answer, and the site cannot check your login without it. Try again in a minute."
    return _message(request, 503, "Superset is down", text, {"Retry-After": "30"})


def _unusable(request: Request, error: Exception) -> Response:
    return _message(request, 400, "Nothing was changed", str(error))


def _too_many(request: Request, _: Exception) -> Response:
    text = f"You may give feedback {feedback.MAX_PER_MINUTE} times a minute; wait a minute and repeat it."
    return _message(request, 429, "Too many changes", text, {"Retry-After": "60"})


def _missing(request: Request, error: Exception) -> Response:
    return _message(request, 404, "Not found", str(error))


def _unavailable(request: Request, error: Exception) -> Response:
    log.error("%s", error)
    text = (
        "The warehouse or the lake does not answer as expected; the log of the service site has the reason. Try again."
    )
    return _message(request, 503, "The data cannot be read", text, {"Retry-After": "30"})


def _invalid(request: Request, error: Exception) -> Response:
    if _is_api(request) and isinstance(error, RequestValidationError):
        faults = [{"parameter": fault["loc"][-1], "fault": fault["msg"]} for fault in error.errors()]
        return JSONResponse({"detail": faults}, 422)
    return _not_found(request, error)


def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    if status == 405:
        return _message(request, 405, "Not allowed", "This address does not accept the method of the request.")
    path = request.url.path
    if request.method == "GET" and re.fullmatch(r"/flights(?:/[A-Za-z0-9-]+)*", path):
        return RedirectResponse(f"{path}/", 308)
    return _message(request, status, "Not found", "The site has no page at this address.")


def _bug(request: Request, _: Exception) -> Response:
    return _message(request, 500, "Internal error", "The log of the service site has the reason.")


ERRORS: dict[type[Exception], Callable[[Request, Exception], Response]] = {
    NotLoggedIn: _not_logged_in,
    Forbidden: _forbidden,
    SupersetUnavailable: _superset_unavailable,
    feedback.Invalid: _unusable,
    feedback.TooMany: _too_many,
    Missing: _missing,
    DelaywatchError: _unavailable,
    RequestValidationError: _invalid,
    HTTPException: _not_found,
    Exception: _bug,
}
