"""nginx as browsers, scripts and attackers meet it: the service of docker-compose.yaml in front of echo programs.

The echo programs answer with the request that reached them (edge/program.py); Airflow, Superset and Jupyter do not run.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.servers.startup import free_ports, wait_until

pytestmark = pytest.mark.e2e

COMPOSE = Path(__file__).parent / "edge" / "compose.yaml"
PROGRAMS = ("airflow-apiserver", "superset", "jupyter", "health", "site")
TIMEOUT_S = 60
EVIL = {"Host": "evil.example"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HSTS = 'add_header Strict-Transport-Security "max-age=31536000" always;\n'


@dataclass(frozen=True)
class Answer:
    """A complete answer of nginx."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> dict[str, Any]:
        """The JSON body. An echo program sends program, method, path, headers and received."""
        return dict(json.loads(self.body))


@dataclass(frozen=True)
class Edge:
    """nginx in a Compose project of its own, with its two ports on this host."""

    project: str
    folder: Path
    http_port: int
    https_port: int

    def compose(self, *arguments: str, **variables: str) -> str:
        """Run `docker compose` and return stdout and stderr; the test fails if it fails."""
        settings = {
            "DELAYWATCH_BIND": "127.0.0.1",
            "DELAYWATCH_HOST": "localhost",
            "DELAYWATCH_HTTP_PORT": str(self.http_port),
            "DELAYWATCH_HTTPS_PORT": str(self.https_port),
            "EDGE_FOLDER": str(self.folder),
        }
        command = ["docker", "compose", "--env-file", os.devnull, "-p", self.project, "-f", str(COMPOSE), *arguments]
        environment = os.environ | settings | variables
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{' '.join(arguments)}: {ended.stderr}\n{self.logs()}"
        return ended.stdout + ended.stderr

    def tls(self) -> ssl.SSLContext:
        """Return a context that trusts only the issuer of this nginx's certificate."""
        return ssl.create_default_context(cafile=str(self.folder / "issuer.pem"))

    def connect(self, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.https_port), timeout=TIMEOUT_S)
        return (context or self.tls()).wrap_socket(plain, server_hostname="localhost")

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        plain: bool = False,
    ) -> Answer:
        """Send one request with the path unchanged."""
        connection = (
            http.client.HTTPConnection("localhost", self.http_port, timeout=TIMEOUT_S)
            if plain
            else http.client.HTTPSConnection("localhost", self.https_port, timeout=TIMEOUT_S, context=self.tls())
        )
        with closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def ask_raw(self, request: bytes) -> Answer:
        """Send these bytes."""
        with self.connect() as connection:
            connection.sendall(request)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return Answer(answer.status, answer.headers, answer.read())

    def logs(self) -> str:
        """Return the access log and the error log of nginx."""
        filters = ["--filter", f"label=com.docker.compose.project={self.project}", "--filter", "name=-nginx-"]
        listed = subprocess.run(["docker", "ps", "-aq", *filters], capture_output=True, text=True, check=True).stdout
        logs = [["docker", "logs", container] for container in listed.split()]
        return "".join(
            subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout
            for command in logs
        )

    def log_entry(self, path: str) -> dict[str, Any]:
        """Return the newest line of the access log for a path."""
        entries = [json.loads(line) for line in self.logs().splitlines() if line.startswith("{")]
        return dict([entry for entry in entries if entry["path"] == path][-1])

    @contextmanager
    def without(self, *services: str) -> Iterator[None]:
        """Remove these programs during the block and start them again after it."""
        self.compose("rm", "--stop", "--force", *services)
        try:
            yield
        finally:
            self.compose("up", "--detach", "--no-recreate", *services)
            self.wait_for_programs()

    def wait_for_programs(self) -> None:
        wait_until(
            lambda: {self.ask(path).status for path in ("/airflow/", "/", "/jupyter/", "/health")} == {200},
            "every program answers",
        )

    def recreate_nginx(self, **variables: str) -> None:
        self.compose("up", "--detach", "--wait", "--no-deps", "--force-recreate", "nginx", **variables)
        self.wait_for_programs()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """nginx and the echo programs, all answering."""
    folder = tmp_path_factory.mktemp("edge")
    for name in ("secrets", "acme"):
        (folder / name).mkdir()
        (folder / name).chmod(0o755)  # nginx runs as another user
    issuer = trustme.CA()
    issuer.cert_pem.write_to_path(folder / "issuer.pem")
    certificate = issuer.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(folder / "secrets" / "tls.crt")
    certificate.private_key_pem.write_to_path(folder / "secrets" / "tls.key")
    (folder / "secrets" / "hsts.conf").write_text("")
    edge = Edge(f"delaywatch-edge-{uuid.uuid4().hex[:8]}", folder, *free_ports(2))
    try:
        edge.compose("up", "--detach", "--wait", "nginx", *PROGRAMS)
        edge.wait_for_programs()
        yield edge
    finally:
        edge.compose("down", "--volumes", "--timeout", "1", "--remove-orphans")


# --- the service ------------------------------------------------------------------------------------------------------


def test_nginx_accepts_its_configuration_and_runs_without_capabilities(edge: Edge) -> None:
    checked = edge.compose("exec", "-T", "nginx", "nginx", "-t")
    status = edge.compose("exec", "-T", "nginx", "cat", "/proc/1/status")
    process = dict(line.split(":\t", 1) for line in status.splitlines())

    assert "test is successful" in checked
    assert "[warn]" not in checked
    assert process["Uid"].split() == ["101"] * 4
    assert int(process["CapEff"], 16) == int(process["CapPrm"], 16) == 0
    assert process["NoNewPrivs"] == "1"


def test_nginx_starts_healthy_before_any_program_exists(edge: Edge) -> None:
    with edge.without(*PROGRAMS):
        edge.compose("restart", "nginx")
        edge.compose("up", "--detach", "--wait", "--no-recreate", "nginx")

        assert edge.ask("/").status == 503


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "ciphers", "is_accepted"),
    [
        pytest.param(ssl.TLSVersion.TLSv1_3, None, True, id="TLS 1.3"),
        pytest.param(ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", True, id="TLS 1.2, forward secret"),
        pytest.param(ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256", False, id="TLS 1.2, CBC"),
        pytest.param(ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", False, id="TLS 1.1"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_only_modern_tls_is_accepted(
    edge: Edge, version: ssl.TLSVersion, ciphers: str | None, is_accepted: bool
) -> None:
    context = edge.tls()
    context.set_alpn_protocols(["h2", "http/1.1"])
    if ciphers:
        context.set_ciphers(ciphers)
    context.minimum_version = context.maximum_version = version

    if is_accepted:
        with edge.connect(context) as connection:
            assert connection.version() == version.name.replace("v1_", "v1.")
            assert connection.selected_alpn_protocol() == "h2"
    else:
        with pytest.raises(ssl.SSLError, match="ALERT"):  # nginx sends the alert, so this client was willing
            edge.connect(context)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_plain_http_redirects_to_the_configured_host_whatever_host_the_client_sends(edge: Edge, method: str) -> None:
    answer = edge.ask("/login/?next=%2Fx", method, headers=EVIL, plain=True)

    assert answer.status == 308
    assert answer.headers["Location"] == f"https://localhost:{edge.https_port}/login/?next=%2Fx"


def test_plain_http_on_the_tls_port_redirects_to_tls(edge: Edge) -> None:
    connection = http.client.HTTPConnection("localhost", edge.https_port, timeout=TIMEOUT_S)
    with closing(connection):
        connection.request("GET", "/airflow/", headers=EVIL)
        answer = connection.getresponse()

        assert answer.status == 308
        assert answer.headers["Location"] == f"https://localhost:{edge.https_port}/airflow/"


def test_the_redirect_names_no_port_if_it_is_443(edge: Edge) -> None:
    name = f"{edge.project}-usual-port"
    settings = {"DELAYWATCH_HOST": "flights.example.org", "DELAYWATCH_HTTPS_PORT": "443"}
    edge.compose("run", "--detach", "--name", name, "nginx", **settings)
    try:
        curl = ["docker", "exec", name, "curl", "-sS", "-o", "/dev/null", "-w", "%{redirect_url}"]
        curl += ["--retry", "20", "--retry-connrefused", "--retry-delay", "1", "http://127.0.0.1:8080/airflow/?a=b"]
        location = subprocess.run(curl, capture_output=True, text=True, check=True).stdout
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=True)

    assert location == "https://flights.example.org/airflow/?a=b"


def test_the_acme_challenge_is_served_over_plain_http_and_no_other_file(edge: Edge) -> None:
    challenges = edge.folder / "acme" / ".well-known" / "acme-challenge"
    challenges.mkdir(parents=True)
    (challenges / "token").write_text("token.thumbprint")
    (edge.folder / "acme" / "private").write_text("private")

    challenge = edge.ask("/.well-known/acme-challenge/token", plain=True)

    assert (challenge.status, challenge.text) == (200, "token.thumbprint")
    assert edge.ask("/.well-known/acme-challenge/other", plain=True).status == 404
    assert edge.ask("/.well-known/acme-challenge/../../private", plain=True).status == 308


def test_hsts_is_sent_on_every_answer_if_the_certificate_is_trusted_and_never_otherwise(edge: Edge) -> None:
    paths = ("/", "/airflow/", "/airflow/execution/", "/airflow", "/busy")

    def headers() -> list[list[str] | None]:
        return [edge.ask(path).headers.get_all("Strict-Transport-Security") for path in paths]

    def reload(content: str) -> None:
        (edge.folder / "secrets" / "hsts.conf").write_text(content)
        edge.compose("exec", "-T", "nginx", "nginx", "-s", "reload")

    assert headers() == [None] * len(paths)
    reload(HSTS)
    try:  # a worker with the old configuration may answer for a moment
        wait_until(lambda: headers() == [["max-age=31536000"]] * len(paths), "nginx sends HSTS on every answer")
    finally:
        reload("")
        wait_until(lambda: not any(headers()), "nginx sends no HSTS")


# --- requests and answers that pass -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "program"),
    [
        ("/", "Superset"),
        ("/superset/dashboard/1/?native_filters=(x)", "Superset"),
        ("/airflowx", "Superset"),
        ("/edge-health", "Superset"),  # the health check of the container is closed to clients
        ("/redirect", "Superset"),  # a program cannot make nginx serve a file by X-Accel-Redirect
        ("/airflow/", "Airflow"),
        ("/airflow/api/v2/monitor/health", "Airflow"),
        ("/airflow/api/v2/versions", "Airflow"),
        ("/airflow/documents", "Airflow"),
        ("/airflow/executions", "Airflow"),
        ("/airflow/dags/execution/", "Airflow"),
        ("/airflow/api/v2/dags/a%2Fb//c", "Airflow"),
        ("/jupyter/lab/tree/a..b/.hidden", "Jupyter"),
        ("/jupyter/api/metrics/v1", "Jupyter"),
        ("/jupyter/files/a?from=../b", "Jupyter"),
        ("/health", "Health"),
        ("/flights/", "Site"),
        ("/flights/airports/LGA/2013-02-08/", "Site"),
        ("/flights/api/days?airport=LGA", "Site"),
        ("/flightsx", "Superset"),
    ],
)
def test_a_path_reaches_its_program_unchanged(edge: Edge, path: str, program: str) -> None:
    answer = edge.ask(path)

    assert answer.status == 200
    assert (answer.json["program"], answer.json["path"]) == (program, path)


@pytest.mark.parametrize("path", ["/airflow", "/flights", "/jupyter"])
def test_a_missing_slash_is_added_on_the_address_that_the_browser_uses(edge: Edge, path: str) -> None:
    answer = edge.ask(f"{path}?a=b", headers=EVIL)

    assert (answer.status, answer.headers["Location"]) == (308, f"{path}/?a=b")


@pytest.mark.parametrize(
    "path",
    [
        "/airflow/execution",
        "/airflow/execution/",
        "/airflow/execution/variables/warehouse",
        "//airflow/execution/health",
        "/airflow//execution/health",
        "/airflow/%65xecution/health",
        "/%61irflow/execution/health",
        "/airflow%2Fexecution/health",
        "/airflow/execution%2Fhealth",
        "/airflow/x/../execution/health",
        "/airflow/./execution/health",
        "/x/%2e%2e/airflow/execution/health",
        "/airflow/execution/../api/v2/dags",  # an open path to nginx, but the program may read it differently
        "/airflow/execution/variables/x/%2e%2e/%2E%2E/%2e./api",
        "/airflow/execution%2f..%2fapi/v2/dags",
        "/airflow/execution/%5c..%5c../api",
        "/airflow/execution/..",
        "/airflow/execution/..?x",
        "/airflow/execution/..;/api",
        "https://localhost/airflow/execution/health",
        "https://localhost/airflow/execution/../api",
        "/metrics",
        "/metrics/",
        "//metrics?x",
        "/%6detrics",
        "/airflow/metrics",
        "/airflow/health",
        "/register/",
        "/register/form",
        "/airflow/docs",
        "/airflow/docs/oauth2-redirect",
        "/airflow/redoc",
        "/airflow/openapi.json",
        "/airflow//openapi.json?x",
        "/airflow/auth/docs",
        "/airflow/auth/docs/oauth2-redirect",
        "/airflow/auth/redoc",
        "/airflow/auth/openapi%2Ejson",
        "/airflow/api/v2/version",
        "/jupyter/api",
        "/jupyter/api/",
        "/jupyter/metrics",
        "/jupyter//metrics",
        "/health/",
        "/healthcheck",
        "/ping",
        "/version",
        "/.delaywatch/away/Airflow.html",  # an error page, not a page with an address
    ],
)
def test_an_internal_path_is_closed_in_every_spelling(edge: Edge, path: str) -> None:
    assert edge.ask(path).status == 404


def test_the_health_page_accepts_no_post(edge: Edge) -> None:
    assert edge.ask("/health", "POST", b"x").status == 403


def test_behind_a_load_balancer_the_client_is_the_address_that_the_load_balancer_sends(edge: Edge) -> None:
    """`0.0.0.0/0` is the network of the load balancer, because Docker chooses the address of these requests."""
    forwarded = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9"}  # the client itself sent the first
    edge.recreate_nginx(DELAYWATCH_TRUSTED_PROXY="0.0.0.0/0")
    try:
        received = edge.ask("/behind", headers=forwarded).json["headers"]
        client = edge.log_entry("/behind")["client"]
    finally:
        edge.recreate_nginx()

    assert (received["x-forwarded-for"], received["x-real-ip"], client) == ("203.0.113.9",) * 3


def test_a_client_cannot_choose_its_address(edge: Edge) -> None:
    forged = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Real-IP": "203.0.113.9",
        "Forwarded": "for=203.0.113.9",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Port": "1",
        "Proxy": "http://evil.example",
    }
    received = edge.ask("/who", headers=forged).json["headers"]
    address = edge.log_entry("/who")["client"]

    forwarding = ("x-", "host", "forwarded", "proxy")
    assert {name: value for name, value in received.items() if name.startswith(forwarding)} == {
        "host": f"localhost:{edge.https_port}",
        "x-forwarded-for": address,
        "x-forwarded-host": f"localhost:{edge.https_port}",
        "x-forwarded-port": str(edge.https_port),
        "x-forwarded-proto": "https",
        "x-real-ip": address,
    }
    assert address != "203.0.113.9"


@pytest.mark.parametrize(("host", "port"), [("localhost:9443", "9443"), ("flights.example.org", "443")])
def test_a_program_receives_the_address_in_the_browser(edge: Edge, host: str, port: str) -> None:
    """Through an SSH tunnel the browser shows another port than the published one."""
    received = edge.ask("/airflow/", headers={"Host": host}).json["headers"]

    assert (received["host"], received["x-forwarded-host"], received["x-forwarded-port"]) == (host, host, port)


@pytest.mark.parametrize("path", ["/", "/airflow/", "/jupyter/", "/login/", "/metrics", "/airflow", "/busy"])
def test_every_answer_has_each_security_header_once(edge: Edge, path: str) -> None:
    headers = edge.ask(path).headers

    assert headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert headers.get_all("X-Frame-Options") == ["SAMEORIGIN"]
    assert headers.get_all("Referrer-Policy") == ["strict-origin-when-cross-origin"]
    assert len(headers.get_all("Permissions-Policy", [])) == 1
    assert headers.get_all("Server") == ["nginx"]
    assert "X-Powered-By" not in headers


def test_the_content_security_policy_of_a_program_passes_and_its_cookies_become_secure(edge: Edge) -> None:
    headers = edge.ask("/jupyter/").headers

    assert headers.get_all("Content-Security-Policy") == ["default-src 'self'"]
    cookie = [part.strip().lower() for part in headers["Set-Cookie"].split(";")]
    assert cookie == ["session=1", "path=/", "httponly", "secure"]


@pytest.mark.parametrize("program", ["airflow", "jupyter"])
def test_a_stream_is_not_buffered(edge: Edge, program: str) -> None:
    connection = http.client.HTTPSConnection("localhost", edge.https_port, timeout=TIMEOUT_S, context=edge.tls())
    with closing(connection):
        connection.request("GET", f"/{program}/stream")
        answer = connection.getresponse()
        first = answer.readline()  # the program sends the second line only after the next request
        edge.ask(f"/{program}/release")

        assert (first, answer.read()) == (b"first\n", b"second\n")


def upgrade(path: str, protocol: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


def test_a_websocket_reaches_jupyter(edge: Edge) -> None:
    with edge.connect() as connection:
        connection.sendall(upgrade("/jupyter/api/kernels/1/websocket", "websocket"))
        incoming = connection.makefile("rb")
        status = incoming.readline()
        while incoming.readline().strip():
            pass
        mask = (1, 2, 3, 4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(b"hello"))
        connection.sendall(bytes([0x81, 0x80 | 5, *mask]) + masked)

        assert status.startswith(b"HTTP/1.1 101")
        assert incoming.read(7) == b"\x81\x05hello"


@pytest.mark.parametrize(("path", "protocol"), [("/airflow/websocket", "websocket"), ("/jupyter/x", "h2c")])
def test_no_other_upgrade_passes(edge: Edge, path: str, protocol: str) -> None:
    answer = edge.ask_raw(upgrade(path, protocol))
    received = answer.json["headers"]

    assert answer.status == 200
    assert "upgrade" not in received
    assert received["connection"] == "close"


def test_a_notebook_may_be_larger_than_the_memory_of_nginx(edge: Edge) -> None:
    size = 200_000_000
    answer = edge.ask("/jupyter/api/contents/a.ipynb", "PUT", bytes(size))

    assert (answer.status, answer.json["received"]) == (200, size)


@pytest.mark.parametrize(
    ("path", "program"), [("/api/v1/assets/import/", "Superset"), ("/airflow/api/v2/variables", "Airflow")]
)
def test_a_body_over_20_mb_is_refused_with_the_limit(edge: Edge, path: str, program: str) -> None:
    answer = edge.ask_raw(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20971521\r\n\r\n".encode())

    message = answer.json["message"]
    assert answer.status == 413
    assert program in message
    assert "20 MB" in message


# --- logins -----------------------------------------------------------------------------------------------------------


def test_repeated_login_attempts_are_limited_for_each_program_and_the_form_stays_open(edge: Edge) -> None:
    edge.recreate_nginx()  # forgets earlier attempts
    programs = {
        "Superset": ("/login/", "//login/?next=/"),
        "Airflow": ("/airflow/auth/login/", "/airflow/auth/tok%65n"),
        "Jupyter": ("/jupyter/login", "/jupyter//login?next=/"),
    }
    for program, (path, other_spelling) in programs.items():
        viewed = {edge.ask(path).status for _ in range(30)}
        attempts = [edge.ask(path, "POST", b"password=guess", headers=BROWSER) for _ in range(30)]
        refused = next(answer for answer in attempts if answer.status == 429)

        assert viewed == {200}
        assert {answer.status for answer in attempts[:11]} == {200}
        assert edge.ask(other_spelling, "POST", b"password=guess").status == 429
        assert edge.ask(path).status == 200
        assert refused.headers["Content-Type"] == "text/html; charset=utf-8"
        assert program in refused.text
        assert 'http-equiv="refresh"' not in refused.text
        assert refused.headers["Retry-After"] == "60"

    api = edge.ask("/api/v1/security/login", "POST", b"{}")
    assert api.status == 429
    assert "Superset" in api.json["message"]
    assert edge.ask("/api/v1/chart/data", "POST", b"{}").status == 200


def test_feedback_is_limited_and_the_pages_stay_open(edge: Edge) -> None:
    edge.recreate_nginx()
    path = "/flights/airports/LGA/2013-02-08/feedback"

    changes = [edge.ask(path, "POST", b"opinion=right", headers=BROWSER) for _ in range(30)]

    refused = next(answer for answer in changes if answer.status == 429)
    assert {answer.status for answer in changes[:11]} == {200}
    assert "changes" in refused.text
    assert "login" not in refused.text
    assert {edge.ask("/flights/").status for _ in range(30)} == {200}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_the_pages_accept_no_other_method(edge: Edge, method: str) -> None:
    assert edge.ask("/flights/", method).status == 403


def test_a_note_over_32_kb_is_refused_with_the_limit(edge: Edge) -> None:
    answer = edge.ask("/flights/airports/LGA/2013-02-08/feedback", "POST", bytes(40_000), headers=BROWSER)

    assert answer.status == 413
    assert "32 kB" in answer.text


# --- programs that do not answer --------------------------------------------------------------------------------------

ADDRESSES = {
    "Superset": ("/superset/welcome/", "/api/v1/chart/"),
    "Airflow": ("/airflow/dags", "/airflow/api/v2/dags"),
    "Jupyter": ("/jupyter/lab", "/jupyter/api/contents"),
    "Site": ("/flights/2013/", "/flights/api/days"),
}
TOKEN = "s3cr3t-in-an-address"


@pytest.fixture(scope="module")
def answers_without_programs(edge: Edge) -> dict[str, tuple[Answer, Answer, Answer]]:
    """Per program the answers to a browser, to a form and to a script while the program does not run."""
    with edge.without("superset", "airflow-apiserver", "jupyter", "site"):
        edge.ask(f"/jupyter/tree?token={TOKEN}-while-down")
        assert edge.ask("/health").status == 200, "a program that runs still answers"
        return {
            program: (edge.ask(page, headers=BROWSER), edge.ask(page, "POST", b"x=1"), edge.ask(api))
            for program, (page, api) in ADDRESSES.items()
        }


@pytest.mark.parametrize("program", ADDRESSES)
def test_a_page_names_the_program_that_does_not_answer_and_reloads_itself(
    program: str, answers_without_programs: dict[str, tuple[Answer, Answer, Answer]]
) -> None:
    shown, posted, api = answers_without_programs[program]

    for page in (shown, posted):
        assert page.status == 503
        assert page.headers["Retry-After"] == "5"
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert program in page.text
        assert '<meta http-equiv="refresh" content="5">' in page.text
    assert api.status == 503
    assert api.headers["Content-Type"] == "application/json; charset=utf-8"
    assert api.headers.get_all("X-Frame-Options") == ["SAMEORIGIN"]
    assert program in api.json["message"]
    assert api.json["message"] == api.json["detail"]


def test_the_logs_have_client_path_and_status_but_no_token(
    edge: Edge, answers_without_programs: dict[str, tuple[Answer, Answer, Answer]]
) -> None:
    edge.ask(f"/jupyter/lab?token={TOKEN}-while-up", headers={"User-Agent": "a browser"})
    edge.ask(f"/jupyter/tree?token={TOKEN}-plain", plain=True)

    entry = edge.log_entry("/jupyter/lab")
    assert (entry["method"], entry["status"], entry["program"], entry["agent"]) == ("GET", 200, "Jupyter", "a browser")
    assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", entry["client"])
    assert edge.log_entry("/jupyter/tree")["status"] == 308
    assert TOKEN not in edge.logs()


@pytest.mark.parametrize(
    ("path", "program"),
    [
        ("/superset/dashboard/broken", "Superset"),
        ("/login/broken", "Superset"),
        ("/airflow/dags/broken", "Airflow"),
        ("/airflow/auth/login/broken", "Airflow"),
    ],
)
def test_a_page_with_an_internal_error_is_replaced_by_a_page_that_reloads_itself(
    edge: Edge, path: str, program: str
) -> None:
    page, api = edge.ask(path, headers=BROWSER), edge.ask(path, headers={"Accept": "application/json"})

    assert (page.status, api.status) == (500, 500)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert '<meta http-equiv="refresh" content="5">' in page.text
    assert program in page.text
    assert api.json["message"] in page.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/chart/broken", 500),
        ("/superset/explore_json/broken", 500),
        ("/airflow/api/v2/broken", 500),
        ("/airflow/ui/broken", 500),
        ("/jupyter/lab/api/broken", 500),
        ("/api/v1/busy", 503),
    ],
)
def test_a_failed_request_of_a_script_keeps_the_text_of_the_program(edge: Edge, path: str, status: int) -> None:
    answer = edge.ask(path, headers=BROWSER)

    assert (answer.status, answer.text) == (status, "its own words")


def test_nginx_reaches_a_program_that_returns_with_another_address(edge: Edge) -> None:
    def address() -> str:
        return edge.compose("exec", "-T", "superset", "hostname", "-i").strip()

    def every_worker_finds_it() -> bool:
        return all(edge.ask("/").status == 200 for _ in range(30))

    before = address()
    with edge.without("superset"):
        edge.compose("up", "--detach", "squatter")  # takes the old address
    try:
        assert address() != before
        wait_until(every_worker_finds_it, "no worker uses the old address")
    finally:
        edge.compose("rm", "--stop", "--force", "squatter")
