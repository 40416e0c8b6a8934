"""The parsed configuration of nginx, and docker-compose.yaml with it; tests/e2e/test_edge.py asks a running nginx."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crossplane
import pytest
import yaml

from tests.integration.stack.volumes import ROOT

NGINX = ROOT / "nginx"
MOUNTED = "/etc/nginx/delaywatch/"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
SERVICE = SERVICES["nginx"]


@dataclass(frozen=True)
class Directive:
    """A directive with the directives of its block. The directives of an included file follow the include."""

    name: str
    arguments: tuple[str, ...]
    block: tuple[Directive, ...]

    def all(self, name: str) -> Iterator[Directive]:
        """Yield every directive of this name at any depth."""
        for directive in self.block:
            if directive.name == name:
                yield directive
            yield from directive.all(name)

    def own(self, name: str) -> list[Directive]:
        """Return the directives of this name in this block."""
        return [directive for directive in self.block if directive.name == name]

    def value(self, name: str) -> str:
        """Return the arguments of the only directive of this name in this block."""
        (directive,) = self.own(name)
        return " ".join(directive.arguments)


def parse(path: Path) -> tuple[Directive, ...]:
    parsed = crossplane.parse(str(path), single=True, check_ctx=False)
    assert parsed["errors"] == []
    return tuple(directives(parsed["config"][0]["parsed"]))


def directives(blocks: list[dict[str, Any]]) -> Iterator[Directive]:
    for block in blocks:
        arguments = tuple(block["args"])
        yield Directive(block["directive"], arguments, tuple(directives(block.get("block", []))))
        # crossplane cannot follow paths that only the container has.
        if block["directive"] == "include" and arguments[0].startswith(MOUNTED):
            yield from parse(NGINX / arguments[0].removeprefix(MOUNTED))


CONF = Directive("main", (), parse(NGINX / "nginx.conf"))
(HTTP,) = CONF.own("http")
PLAIN, TLS, HEALTH = HTTP.own("server")


def location_of(path: str) -> Directive:
    """Return the location that nginx chooses: an exact one, else the first regex that matches, else the longest prefix."""
    prefixes = []
    regexes = []
    for location in TLS.own("location"):
        *modifier, pattern = location.arguments
        if modifier == ["="] and path == pattern:
            return location
        if modifier == ["~"] and re.search(pattern.replace("(?<", "(?P<"), path):
            regexes.append(location)
        if not modifier and path.startswith(pattern):
            prefixes.append(location)
    return (regexes or sorted(prefixes, key=lambda location: -len(location.arguments[0])))[0]


def upstream(location: Directive) -> str:
    """Return the service and port to which the location forwards."""
    variables = {each.arguments[0]: each.arguments[1] for each in location.own("set")}
    return variables[location.value("proxy_pass").removeprefix("http://")]


# --- what a browser or an attacker notices ----------------------------------------------------------------------------


@pytest.mark.security
@pytest.mark.parametrize(
    "path",
    [
        "/airflow/execution/", "/airflow/execution/task-instances/1/run", "/airflow/metrics", "/airflow/health",
        "/airflow/version", "/health/", "/healthcheck", "/ping", "/metrics", "/version", "/jupyter/metrics",
        "/register/", "/register/form", "/airflow/docs", "/airflow/redoc", "/airflow/openapi.json",
        "/airflow/auth/docs", "/airflow/auth/openapi.json", "/airflow/api/v2/version", "/jupyter/api", "/jupyter/api/",
    ],
)  # fmt: skip
def test_an_internal_path_is_closed(path: str) -> None:
    location = location_of(path)

    assert location.value("return") == "404"
    assert not location.own("proxy_pass")


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/", "superset:8088"),
        ("/superset/dashboard/1/", "superset:8088"),
        ("/api/v1/chart/", "superset:8088"),
        ("/airflow/", "airflow-apiserver:8080"),
        ("/airflow/api/v2/dags", "airflow-apiserver:8080"),
        ("/airflow/ui/config", "airflow-apiserver:8080"),
        ("/jupyter/lab", "jupyter:8888"),
        ("/jupyter/api/kernels", "jupyter:8888"),
        ("/health", "health:8095"),
    ],
)
def test_a_public_path_reaches_its_program_which_is_resolved_for_each_request(path: str, service: str) -> None:
    location = location_of(path)

    assert upstream(location) == service
    assert "edge" in SERVICES[service.partition(":")[0]]["networks"]
    assert "$" in location.value("proxy_pass")
    assert HTTP.value("resolver").startswith("127.0.0.11 ")


@pytest.mark.security
@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/login/", "superset:8088"),
        ("/api/v1/security/login", "superset:8088"),
        ("/airflow/auth/login/", "airflow-apiserver:8080"),
        ("/airflow/auth/token/cli", "airflow-apiserver:8080"),
        ("/jupyter/login", "jupyter:8888"),
    ],
)
def test_login_attempts_are_limited(path: str, service: str) -> None:
    assert upstream(location_of(path)) == service
    assert location_of(path).value("limit_req").startswith("zone=logins ")


@pytest.mark.security
@pytest.mark.parametrize(
    ("path", "is_closed"),
    [
        ("/airflow/execution/../", True),
        ("/airflow/%2e%2e/airflow/execution/", True),
        ("/a/%2E./b", True),
        ("/a%2f..%2fb", True),
        ("/a/..;x=1/b", True),
        ("/..", True),
        ("/a/./b", True),
        ("/static/app.min.js", False),
        ("/a/...b", False),
        ("/a?path=../b", False),
        ("/.well-known/x", False),
    ],
)
def test_a_path_with_a_dot_segment_is_closed(path: str, is_closed: bool) -> None:
    (rule,) = (each for each in HTTP.own("map") if each.arguments[1] == "$has_dot_segment")
    (condition,) = TLS.own("if")

    assert bool(re.search(rule.block[0].name.removeprefix("~*"), path, re.IGNORECASE)) == is_closed
    assert (condition.arguments, condition.value("return")) == (("$has_dot_segment",), "404")


@pytest.mark.security
def test_nginx_shows_no_version_and_no_folder() -> None:
    assert [each.arguments for each in CONF.all("server_tokens")] == [("off",)]
    names = ("autoindex", "dav_methods", "stub_status")
    assert [directive for name in names for directive in CONF.all(name)] == []


def test_tls_is_modern() -> None:
    ciphers = HTTP.value("ssl_ciphers").split(":")

    assert HTTP.value("ssl_protocols") == "TLSv1.2 TLSv1.3"
    assert all(re.fullmatch(r"ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM-SHA(256|384)|CHACHA20-POLY1305)", c) for c in ciphers)
    assert HTTP.value("ssl_session_tickets") == "off"


def test_plain_http_redirects_to_the_configured_host() -> None:
    (location,) = (each for each in PLAIN.own("location") if each.arguments == ("/",))

    assert location.value("return").startswith("308 https://$edge_host$edge_port")


@pytest.mark.security
def test_every_answer_has_the_security_headers_and_only_setup_decides_about_hsts() -> None:
    common = {each.arguments[0] for each in TLS.own("add_header")}
    incomplete = [
        location.arguments
        for location in TLS.all("location")
        if (own := {each.arguments[0] for each in location.own("add_header")}) and not own > common
    ]

    assert common >= {"X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Permissions-Policy"}
    assert incomplete == [], "one add_header in a location drops the inherited ones"
    assert "Strict-Transport-Security" not in {each.arguments[0] for each in CONF.all("add_header")}
    assert ("/run/delaywatch/hsts.conf",) in {each.arguments for each in TLS.own("include")}


@pytest.mark.security
def test_programs_see_the_address_of_the_connection_and_no_forwarded_header_of_the_client() -> None:
    headers = {each.arguments[0]: each.arguments[1] for each in HTTP.own("proxy_set_header")}

    assert headers["X-Forwarded-For"] == headers["X-Real-IP"] == "$remote_addr"
    assert headers["Forwarded"] == headers["X-Forwarded-Prefix"] == headers["Proxy"] == ""
    assert len(list(CONF.all("proxy_set_header"))) == len(headers), "one in a location drops the inherited ones"


@pytest.mark.security
def test_the_access_log_contains_no_query_and_no_credentials() -> None:
    variables = set(re.findall(r"\$(\w+)", HTTP.value("log_format")))

    assert {"remote_addr", "request_method", "logged_path", "status"} <= variables
    assert not variables & {
        "request", "request_uri", "args", "query_string", "http_referer", "http_cookie", "http_authorization",
    }  # fmt: skip


def test_nginx_waits_longer_than_superset_so_that_superset_can_report_the_reason() -> None:
    (gunicorn_s,) = re.findall(r"--timeout=(\d+)", (ROOT / "superset" / "Dockerfile").read_text())

    for name in ("proxy_read_timeout", "proxy_send_timeout"):
        (timeout,) = CONF.all(name)
        assert int(timeout.arguments[0].removesuffix("s")) > int(gunicorn_s)


def test_an_answer_of_nginx_loads_nothing_and_is_valid_json_for_programs() -> None:
    page = (NGINX / "pages/notice.html").read_text()
    answer = (NGINX / "pages/notice.json").read_text()
    maps = [each for each in HTTP.own("map") if each.arguments[1] in {"$reason", "$largest"}]
    texts = [each.arguments[1] for each in TLS.all("set") if each.arguments[0] == "$sentence"]
    texts += [entry.arguments[0] for each in maps for entry in each.block]

    assert not re.search(r"src=|href=|url\(|@import|<script", page)
    assert len(texts) >= 8
    for text in texts:
        filled = re.sub(r"<!--# echo .*? -->", lambda _, text=text: text, answer)
        assert json.loads(filled) == {"message": text, "detail": text}


# --- nginx in its container -------------------------------------------------------------------------------------------


def test_the_container_mounts_read_only_what_nginx_reads() -> None:
    mounts = dict(reversed(volume.split(":")[:2]) for volume in SERVICE["volumes"])
    (challenges,) = PLAIN.all("root")

    assert mounts["/etc/nginx/nginx.conf"] == "./nginx/nginx.conf"
    assert mounts[MOUNTED.rstrip("/")] == "./nginx"
    assert mounts["/etc/nginx/templates"] == "./nginx/templates"
    assert mounts.keys() >= {challenges.arguments[0], str(Path(HTTP.value("ssl_certificate_key")).parent)}
    assert all(volume.endswith(":ro") for volume in SERVICE["volumes"])


def test_the_template_gets_its_variables_and_is_rendered_to_the_included_path() -> None:
    environment = SERVICE["environment"]
    variables = set(re.findall(r"\$\{(\w+)\}", (NGINX / "templates/edge.conf.template").read_text()))

    assert (f"{environment['NGINX_ENVSUBST_OUTPUT_DIR']}/edge.conf",) in {
        each.arguments for each in HTTP.own("include")
    }
    assert variables == {name for name in environment if re.search(environment["NGINX_ENVSUBST_FILTER"], name)}
    assert all(re.fullmatch(r"\$\{\w+:-.+\}", environment[name]) for name in variables), "each has a default"


def test_nginx_writes_only_to_memory_and_buffered_bodies_fit_there() -> None:
    (tmpfs,) = SERVICE["tmpfs"]
    folder, size_mib = re.fullmatch(r"(.+):size=(\d+)m", tmpfs).groups()  # type: ignore[union-attr]
    paths = [HTTP.value(f"{name}_temp_path") for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]

    assert all(path.startswith(f"{folder}/") for path in [*paths, CONF.value("pid")])
    assert int(size_mib) < int(SERVICE["mem_limit"].removesuffix("m"))
    assert HTTP.value("proxy_max_temp_file_size") == "0"
    assert int(HTTP.value("client_max_body_size").removesuffix("m")) * 3 <= int(size_mib)
    larger = [location for location in TLS.all("location") if location.own("client_max_body_size")]
    assert all(location.value("proxy_request_buffering") == "off" for location in larger)


def test_published_ports_lead_to_the_listeners_and_the_health_check_stays_inside() -> None:
    assert [port.rpartition(":")[2] for port in SERVICE["ports"]] == [
        server.value("listen").split()[0] for server in (PLAIN, TLS)
    ]
    assert HEALTH.value("listen") == "127.0.0.1:8081"
    assert SERVICE["healthcheck"]["test"][-1] == "http://127.0.0.1:8081/edge-health"


def test_git_ignores_an_own_certificate() -> None:
    command = ["git", "-C", str(ROOT), "check-ignore", "--no-index", "nginx/certs/tls.key", "nginx/certs/tls.crt"]

    assert len(subprocess.run(command, capture_output=True, check=True).stdout.splitlines()) == 2
