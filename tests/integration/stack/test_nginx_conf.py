"""What nginx/ promises as text, and that docker-compose.yaml agrees: nothing is open by omission. No nginx runs."""

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

ROOT = Path(__file__).resolve().parents[3]
NGINX = ROOT / "nginx"
MOUNTED = "/etc/nginx/delaywatch/"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
SERVICE = SERVICES["nginx"]
MEBIBYTE = {"m": 1, "g": 1024}


@dataclass(frozen=True)
class Directive:
    """One directive, with the ones inside it; an included file's stand in place of the include."""

    name: str
    arguments: tuple[str, ...]
    inside: tuple[Directive, ...]

    def all(self, name: str) -> Iterator[Directive]:
        """Every directive of this name, however deep."""
        for directive in self.inside:
            if directive.name == name:
                yield directive
            yield from directive.all(name)

    def own(self, name: str) -> list[Directive]:
        """The directives of this name that stand directly in here."""
        return [directive for directive in self.inside if directive.name == name]

    def value(self, name: str) -> str:
        """The arguments of the one directive of this name that stands directly in here."""
        (found,) = self.own(name)
        return " ".join(found.arguments)


def read(path: Path) -> tuple[Directive, ...]:
    parsed = crossplane.parse(str(path), single=True, check_ctx=False)
    assert parsed["errors"] == []
    return tuple(directives(parsed["config"][0]["parsed"]))


def directives(blocks: list[dict[str, Any]]) -> Iterator[Directive]:
    """The directives of a block of crossplane; it cannot follow an include of a path that only the container has."""
    for block in blocks:
        arguments = tuple(block["args"])
        yield Directive(block["directive"], arguments, tuple(directives(block.get("block", []))))
        if block["directive"] == "include" and arguments[0].startswith(MOUNTED):
            yield from read(NGINX / arguments[0].removeprefix(MOUNTED))


CONF = Directive("main", (), read(NGINX / "nginx.conf"))
(HTTP,) = CONF.own("http")
PLAIN, TLS, HEALTH = HTTP.own("server")
LOCATIONS = [pytest.param(each, id=" ".join(each.arguments)) for each in TLS.all("location")]


def mounts() -> dict[str, str]:
    """Target to source of every volume of the service."""
    return {target: source for source, target in (volume.split(":")[:2] for volume in SERVICE["volumes"])}


def test_the_service_mounts_what_the_configuration_reads() -> None:
    assert mounts()["/etc/nginx/nginx.conf"] == "./nginx/nginx.conf"
    assert mounts()[MOUNTED.rstrip("/")] == "./nginx"
    assert mounts()["/etc/nginx/templates"] == "./nginx/templates"
    assert all(volume.endswith(":ro") for volume in SERVICE["volumes"])
    for directive in ("ssl_certificate", "ssl_certificate_key"):
        assert Path(HTTP.value(directive)).parent.as_posix() in mounts()
    (challenges,) = PLAIN.all("root")
    assert challenges.arguments[0] in mounts()


def test_every_include_is_used() -> None:
    used = {each.arguments[0] for each in CONF.all("include")}

    assert {f"{MOUNTED}includes/{path.name}" for path in (NGINX / "includes").iterdir()} <= used


def test_the_template_is_rendered_where_it_is_read_and_asks_for_what_the_service_gives() -> None:
    environment = SERVICE["environment"]
    asked = set(re.findall(r"\$\{(\w+)\}", (NGINX / "templates" / "edge.conf.template").read_text()))

    assert f"{environment['NGINX_ENVSUBST_OUTPUT_DIR']}/edge.conf" in {
        each.arguments[0] for each in HTTP.own("include")
    }
    assert asked == {name for name in environment if re.search(environment["NGINX_ENVSUBST_FILTER"], name)}
    assert all(re.fullmatch(r"\$\{\w+:-.+\}", environment[name]) for name in asked), "an empty .env gives a usual value"


def test_all_that_nginx_writes_is_in_memory_and_fits_there() -> None:
    (tmpfs,) = SERVICE["tmpfs"]
    folder, _, options = tmpfs.partition(":")
    size, unit = re.fullmatch(r"size=(\d+)([mg])", options).groups()  # type: ignore[union-attr]
    in_memory = int(size) * MEBIBYTE[unit]
    paths = [HTTP.value(f"{name}_temp_path") for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]

    assert all(path.startswith(f"{folder}/") for path in [*paths, CONF.value("pid")])
    assert in_memory < int(SERVICE["mem_limit"][:-1]) * MEBIBYTE[SERVICE["mem_limit"][-1]]
    assert HTTP.value("proxy_max_temp_file_size") == "0"
    assert int(HTTP.value("client_max_body_size").removesuffix("m")) * 3 <= in_memory
    for location in TLS.all("location"):
        if location.own("client_max_body_size"):
            assert location.value("proxy_request_buffering") == "off"


def test_tls_is_modern() -> None:
    ciphers = HTTP.value("ssl_ciphers").split(":")

    assert HTTP.value("ssl_protocols") == "TLSv1.2 TLSv1.3"
    assert ciphers
    assert all(re.fullmatch(r"ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM-SHA(256|384)|CHACHA20-POLY1305)", c) for c in ciphers)
    assert HTTP.value("ssl_session_tickets") == "off"


def test_hsts_comes_from_setup_alone() -> None:
    ours = [each for each in CONF.all("add_header") if each.arguments[0] == "Strict-Transport-Security"]

    assert ours == []
    assert "/run/delaywatch/hsts.conf" in {each.arguments[0] for each in TLS.own("include")}


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_location_with_a_header_of_its_own_keeps_the_others(location: Directive) -> None:
    own = {each.arguments[0] for each in location.own("add_header")}
    everywhere = {each.arguments[0] for each in TLS.own("add_header")}

    assert everywhere
    assert not own or own > everywhere


def test_headers_that_programs_get_are_set_in_one_place() -> None:
    """One `proxy_set_header` deeper down would drop X-Forwarded-For and all others there."""
    assert len(list(CONF.all("proxy_set_header"))) == len(HTTP.own("proxy_set_header")) > 0


def test_programs_are_resolved_at_each_request_and_are_services_that_nginx_reaches() -> None:
    passed = set()
    for location in TLS.all("location"):
        for proxy_pass in location.own("proxy_pass"):
            scheme, _, variable = proxy_pass.arguments[0].partition("://")
            values = {each.arguments[0]: each.arguments[1] for each in location.own("set")}
            passed.add(values[variable])
            assert scheme == "http"

    assert passed == {"airflow-apiserver:8080", "health:8095", "superset:8088", "jupyter:8888"}
    assert all("edge" in SERVICES[each.partition(":")[0]]["networks"] for each in passed)
    assert HTTP.value("resolver").startswith("127.0.0.11 valid=5s")


@pytest.mark.parametrize(
    "path", ["/login/", "/api/v1/security/login", "/airflow/auth/login/", "/airflow/auth/token/cli", "/jupyter/login"]
)
def test_every_login_is_limited(path: str) -> None:
    limited = [each.arguments[1] for each in TLS.all("location") if each.own("limit_req")]

    assert sum(bool(re.search(pattern, path)) for pattern in limited) == 1


def test_nginx_waits_longer_than_any_program() -> None:
    """Who gives up first can say why; nginx would only say that a program does not answer."""
    (gunicorn,) = re.findall(r"--timeout=(\d+)", (ROOT / "superset" / "Dockerfile").read_text())

    for name in ("proxy_read_timeout", "proxy_send_timeout"):
        (waits,) = CONF.all(name)
        assert int(waits.arguments[0].removesuffix("s")) > int(gunicorn)


def test_the_log_has_neither_query_nor_credentials() -> None:
    (form,) = HTTP.own("log_format")
    variables = set(re.findall(r"\$(\w+)", " ".join(form.arguments[1:])))

    assert {"remote_addr", "request_method", "logged_path", "status"} <= variables
    assert not variables & {
        "request", "request_uri", "args", "query_string", "http_referer", "http_cookie", "http_authorization",
    }  # fmt: skip


def test_the_health_check_asks_a_listener_that_only_the_container_reaches() -> None:
    assert HEALTH.value("listen") == "127.0.0.1:8081"
    assert SERVICE["healthcheck"]["test"][-1] == "http://127.0.0.1:8081/edge-health"
    assert [port.rpartition(":")[2] for port in SERVICE["ports"]] == [
        each.value("listen").split()[0] for each in (PLAIN, TLS)
    ]


def test_a_page_of_ours_loads_nothing_and_its_twin_is_json() -> None:
    page = (NGINX / "pages" / "notice.html").read_text()
    twin = re.sub(r"<!--# echo .*? -->", "a sentence", (NGINX / "pages" / "notice.json").read_text())

    assert not re.search(r"src=|href=|url\(|@import|<script", page)
    assert json.loads(twin) == {"message": "a sentence", "detail": "a sentence"}


def test_a_sentence_of_ours_can_stand_in_json_as_it_is() -> None:
    sentences = [each.arguments[1] for each in TLS.all("set") if each.arguments[0] == "$sentence"]
    parts = [each for map_ in HTTP.own("map") if map_.arguments[1] in {"$reason", "$largest"} for each in map_.inside]

    assert sentences
    assert parts
    for text in [*sentences, *(each.arguments[0] for each in parts)]:
        assert json.loads(f'"{text}"') == text


@pytest.mark.parametrize("name", ["tls.key", "tls.crt"])
def test_an_own_certificate_stays_out_of_git(name: str) -> None:
    checked = subprocess.run(
        ["git", "-C", str(ROOT), "check-ignore", "--no-index", f"nginx/certs/{name}"], capture_output=True, check=False
    )

    assert checked.returncode == 0
