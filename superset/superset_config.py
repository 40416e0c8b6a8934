"""Superset's settings that differ from its defaults, and why. Secrets come from files; the environment has no effect.

The timeouts form a chain, because the shortest one decides what the analyst sees: the warehouse ends a query after 60 s
(assets/databases/warehouse.yaml), which SQL Lab shows as a message; SQLLAB_TIMEOUT, gunicorn and nginx wait longer, in
this order, because their error pages are not readable for the UI.
"""

import logging
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import redirect  # type: ignore[import-not-found]
from superset.errors import SupersetErrorType  # type: ignore[import-not-found]

SECRETS = Path("/run/delaywatch")  # the volume with this service's secrets


def read_secret(name: str) -> str:
    """Return the secret in the file `name`, which `setup` wrote."""
    try:
        secret = (SECRETS / name).read_text().strip()
    except OSError as error:
        raise SystemExit(f"Superset cannot read {SECRETS / name} ({error.strerror}). Run the service setup.") from None
    if not secret:
        raise SystemExit(f"{SECRETS / name} is empty. Run the service setup again.")
    return secret


SECRET_KEY = read_secret("secret_key")  # signs sessions and encrypts the warehouse's password in the metadata
SQLALCHEMY_DATABASE_URI = read_secret("database_url")
SQLALCHEMY_ENGINE_OPTIONS = {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}  # Postgres may restart

# Superset 6.1 logs a warning in every query for each metric with more than one aggregate. Later releases log it at
# debug level: https://github.com/apache/superset/pull/42619
logging.getLogger("superset.utils.core").addFilter(
    lambda record: not record.getMessage().startswith("Unexpected metric expression type")
)

# Superset runs behind nginx, which overwrites the X-Forwarded headers.
ENABLE_PROXY_FIX = True
PROXY_FIX_CONFIG = {"x_for": 1, "x_proto": 1, "x_host": 1, "x_port": 1, "x_prefix": 0}
ENABLE_CORS = False  # no other site reads from Superset

# Airflow's cookie on the same host is named session too.
SESSION_COOKIE_NAME = "superset_session"
SESSION_COOKIE_SECURE = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
PERMANENT_SESSION_LIFETIME = timedelta(hours=12)

AUTH_USER_REGISTRATION = False
RATELIMIT_ENABLED = True
RATELIMIT_STORAGE_URI = "memory://"  # one counter per worker
RATELIMIT_APPLICATION = "200 per second"  # users of one office share an address and open dashboards at the same time
LOGINS = "10 per minute"  # per address; nginx has its own limit


def limit_logins(app: Any) -> None:
    """Limit both ways to log in. Superset's AUTH_RATE_LIMIT covers neither, only the view that shows the form."""
    limit = app.appbuilder.sm.limiter.limit(LOGINS, methods=["POST"])
    for view in ("AuthDBView.login", "SecurityApi.login"):
        app.view_functions[view] = limit(app.view_functions[view])


def name_spinner(app: Any) -> None:
    """Set a spinner in both themes. Without one, every page and health check logs that the image has no loading.svg.

    https://github.com/apache/superset/issues/40478
    """
    for theme in ("THEME_DEFAULT", "THEME_DARK"):
        app.config[theme]["token"]["brandSpinnerUrl"] = "/static/assets/images/loading.gif"


START = "/superset/dashboard/flight-anomalies/"
LOGO_TARGET_PATH = START  # adds "Home" to the menu, which leads to Superset's own start page


def open_start(app: Any) -> None:
    """Redirect `/`, where a login leads, to START. UserAttribute.welcome_dashboard_id would have to be set per user."""
    app.view_functions["SupersetIndexView.index"] = lambda: redirect(START)


def change(app: Any) -> None:
    """Change the application before Superset adds its views."""
    limit_logins(app)
    open_start(app)
    name_spinner(app)


FLASK_APP_MUTATOR = change

# Superset's own policy without the outside hosts in it: maps, fonts, and the Scarf tracking pixel, which no setting of
# a built image disables.
TALISMAN_ENABLED = True
TALISMAN_CONFIG = {
    "content_security_policy": {
        "base-uri": ["'self'"],
        "default-src": ["'self'"],
        "connect-src": ["'self'"],
        "font-src": ["'self'", "data:"],
        "img-src": ["'self'", "blob:", "data:"],
        "object-src": "'none'",
        "script-src": ["'self'", "'strict-dynamic'"],
        "style-src": ["'self'", "'unsafe-inline'"],
        "worker-src": ["'self'", "blob:"],
    },
    "content_security_policy_nonce_in": ["script-src"],
    "force_https": False,  # nginx redirects
    "session_cookie_secure": True,
    "strict_transport_security": False,  # nginx sends it if the certificate is not self-signed
}

SQLLAB_TIMEOUT = 90
# The Postgres validator marks every query as wrong if ecpg is not installed.
SQL_VALIDATORS_BY_ENGINE: dict[str, str] = {}
SUPERSET_WEBSERVER_TIMEOUT = 120  # timeout of the browser; gunicorn's --timeout is the same
CUSTOM_DATABASE_ERRORS = {
    "Warehouse": {
        re.compile("canceling statement due to statement timeout"): (
            "The warehouse stopped this query after 60 seconds. Query fewer days or airports, or totals.",
            SupersetErrorType.GENERIC_DB_ENGINE_ERROR,
            {"show_issue_info": False},
        ),
    },
}

SQL_MAX_ROW = 150_000  # per query or CSV: a year of all airports has 120,000 days
CSV_EXPORT = {"encoding": "utf-8-sig"}  # Excel needs the byte order mark to detect UTF-8

# Filter states are stored in the metadata database (the default), query results are not cached: charts are always
# current, and the warehouse answers each of our queries in well under a second.
CACHE_CONFIG = {"CACHE_TYPE": "NullCache"}
DATA_CACHE_CONFIG = {"CACHE_TYPE": "NullCache"}

EXTRA_SEQUENTIAL_COLOR_SCHEMES = [
    {
        "id": "delaywatch_severity",
        "label": "Severity: none, mild, strong, extreme",
        "description": "",
        "isDiverging": False,
        "colors": ["#E3EAF0", "#F6D289", "#F28E2B", "#B2182B"],
    },
]
