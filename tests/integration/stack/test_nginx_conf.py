"""The parsed configuration of nginx: what it opens, closes, limits and shows. tests/e2e/test_edge.py asks nginx."""

from __future__ import annotations

import re
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

    def pairs(self, name: str) -> dict[str, str]:
        """Return the first two arguments of the directives of this name in this block."""
        return {directive.arguments[0]: directive.arguments[1] for directive in self.own(name)}


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
_, TLS, _ = HTTP.own("server")


def location_of(path: str) -> Directive:
    """Return the location that nginx chooses: the exact one, the first regex that matches, or the longest prefix."""
    prefixes, regexes = [], []
    for location in TLS.own("location"):
        *modifier, pattern = location.arguments
        if modifier == ["="] and path == pattern:
            return location
        if modifier == ["~"] and re.search(pattern.replace("(?<", "(?P<"), path):
            regexes.append(location)
        if not modifier and path.startswith(pattern):
            prefixes.append(location)
    return (regexes or sorted(prefixes, key=lambda location: -len(location.arguments[0])))[0]


@pytest.mark.security
@pytest.mark.parametrize(
    "path",
    [
        "/airflow/execution/", "/airflow/execution/task-instances/1/run", "/airflow/metrics", "/airflow/health",
        "/airflow/version", "/health/", "/healthcheck", "/ping", "/metrics", "/version", "/jupyter/metrics",
        "/register/", "/airflow/docs", "/airflow/redoc", "/airflow/openapi.json", "/airflow/auth/docs",
        "/airflow/auth/openapi.json", "/airflow/api/v2/version", "/jupyter/api", "/jupyter/api/",
    ],
)  # fmt: skip
def test_an_internal_path_is_closed(path: str) -> None:
    assert location_of(path).value("return") == "404"
    assert not location_of(path).own("proxy_pass")


@pytest.mark.parametrize(
    ("path", "upstream", "is_login"),
    [
        ("/superset/dashboard/1/", "superset:8088", False),
        ("/api/v1/chart/", "superset:8088", False),
        ("/login/", "superset:8088", True),
        ("/api/v1/security/login", "superset:8088", True),
        ("/airflow/", "airflow-apiserver:8080", False),
        ("/airflow/api/v2/dags", "airflow-apiserver:8080", False),
        ("/airflow/auth/login/", "airflow-apiserver:8080", True),
        ("/airflow/auth/token/cli", "airflow-apiserver:8080", True),
        ("/jupyter/api/kernels", "jupyter:8888", False),
        ("/jupyter/login", "jupyter:8888", True),
        ("/health", "health:8095", False),
    ],
)
def test_a_public_path_reaches_its_program_and_logins_are_limited(path: str, upstream: str, is_login: bool) -> None:
    location = location_of(path)

    variable = location.value("proxy_pass").removeprefix("http://")
    assert location.pairs("set")[variable] == upstream
    assert "edge" in SERVICES[upstream.partition(":")[0]]["networks"]
    assert [each.arguments[0] for each in location.own("limit_req")] == ["zone=logins"] * is_login


@pytest.mark.security
@pytest.mark.parametrize(
    ("path", "is_closed"),
    [
        ("/airflow/execution/../", True),
        ("/airflow/%2e%2e/airflow/execution/", True),
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
    assert [each for name in ("autoindex", "dav_methods", "stub_status") for each in CONF.all(name)] == []


@pytest.mark.security
def test_every_answer_has_the_security_headers_and_setup_decides_about_hsts() -> None:
    common = TLS.pairs("add_header").keys()
    own = [location.pairs("add_header").keys() for location in TLS.all("location")]

    assert common >= {"X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Permissions-Policy"}
    assert all(headers > common for headers in own if headers), "one add_header in a location drops the inherited ones"
    assert "Strict-Transport-Security" not in {each.arguments[0] for each in CONF.all("add_header")}
    assert ("/run/delaywatch/hsts.conf",) in {each.arguments for each in TLS.own("include")}


@pytest.mark.security
def test_programs_see_the_address_of_the_connection_and_no_forwarded_header_of_the_client() -> None:
    headers = HTTP.pairs("proxy_set_header")

    assert headers["X-Forwarded-For"] == headers["X-Real-IP"] == "$remote_addr"
    assert headers["Forwarded"] == headers["X-Forwarded-Prefix"] == headers["Proxy"] == ""
    assert len(list(CONF.all("proxy_set_header"))) == len(headers), "one in a location drops the inherited ones"


def test_superset_gives_up_before_nginx_so_that_it_can_report_the_reason() -> None:
    (gunicorn_s,) = re.findall(r"--timeout=(\d+)", (ROOT / "superset" / "Dockerfile").read_text())

    for name in ("proxy_read_timeout", "proxy_send_timeout"):
        (timeout,) = CONF.all(name)
        assert int(timeout.arguments[0].removesuffix("s")) > int(gunicorn_s)
