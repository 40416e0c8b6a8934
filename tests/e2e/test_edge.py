"""What browsers, scripts and attackers meet at nginx: the stack's own service before programs that tell what came.

The programs are stand-ins: nothing here shows that Airflow, Superset or Jupyter work behind it. Needs a Docker engine.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.installation import free_ports, wait_until
from tests.servers.certificates import self_signed

pytestmark = pytest.mark.e2e

COMPOSE = Path(__file__).parent / "edge" / "compose.yaml"
PROGRAMS = ("airflow-apiserver", "health", "superset", "jupyter")
PATIENCE_S = 60
EVIL = {"Host": "evil.example"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HSTS = 'add_header Strict-Transport-Security "max-age=31536000" always;\n'


@dataclass(frozen=True)
class Answer:
    """A whole answer of nginx."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> dict[str, Any]:
        """The body as an object; of a program: program, method, path, headers, received."""
        return dict(json.loads(self.body))


@dataclass(frozen=True)
class Edge:
    """nginx with its ports on this host, and the Compose project that it runs in."""

    project: str
    folder: Path
    http_port: int
    https_port: int

    def compose(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        ours = {
            "DELAYWATCH_BIND": "127.0.0.1",
            "DELAYWATCH_HOST": "localhost",
            "DELAYWATCH_HTTP_PORT": str(self.http_port),
            "DELAYWATCH_HTTPS_PORT": str(self.https_port),
            "EDGE_FOLDER": str(self.folder),
        }
        command = ["docker", "compose", "--env-file", os.devnull, "-p", self.project, "-f", str(COMPOSE)]

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            environment = os.environ | ours | variables
            return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)

        done = run(*arguments)
        if done.returncode:
            pytest.fail(f"{' '.join(arguments)}: {done.stderr}\n{run('logs', '--tail', '20', 'nginx').stdout}")
        return done

    def tls(self) -> ssl.SSLContext:
        """Trusts this certificate and no other."""
        return ssl.create_default_context(cafile=str(self.folder / "secrets" / "tls.crt"))

    def connect(self, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.https_port), timeout=PATIENCE_S)
        return (context or self.tls()).wrap_socket(plain, server_hostname="localhost")

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        plain: bool = False,
    ) -> Answer:
        """The answer to one request, whose path goes out as it stands."""
        connection = (
            http.client.HTTPConnection("localhost", self.http_port, timeout=PATIENCE_S)
            if plain
            else http.client.HTTPSConnection("localhost", self.https_port, timeout=PATIENCE_S, context=self.tls())
        )
        with closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def logs(self) -> tuple[str, str]:
        """What nginx wrote to stdout, its access log, and to stderr."""
        container = self.compose("ps", "--quiet", "nginx").stdout.strip()
        done = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=True)
        return done.stdout, done.stderr

    def entry(self, path: str) -> dict[str, Any]:
        """The newest line of the access log about a path."""
        entries = [json.loads(line) for line in self.logs()[0].splitlines() if line.startswith("{")]
        return dict([entry for entry in entries if entry["path"] == path][-1])

    @contextmanager
    def without(self, *services: str) -> Iterator[None]:
        """While these programs do not exist; afterwards they answer again."""
        self.compose("rm", "--stop", "--force", *services)
        try:
            yield
        finally:
            self.compose("up", "--detach", "--no-recreate", *services)
            self.wait_for_programs()

    def wait_for_programs(self) -> None:
        for path in ("/airflow/", "/", "/jupyter/", "/health"):
            wait_until(partial(self.answers, path), f"{path} answers")

    def answers(self, path: str) -> bool:
        return self.ask(path).status == 200


def write_certificate(folder: Path) -> None:
    """A self-signed certificate of localhost, valid for a day, where nginx looks for it."""
    now = datetime.now(UTC)
    certificate, key = self_signed("localhost", now - timedelta(hours=1), now + timedelta(days=1))
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "tls.key").write_bytes(key)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """nginx and the three programs, all of them answering."""
    if not shutil.which("docker") or subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        pytest.skip("No Docker engine answers, so nginx cannot be started.")
    folder = tmp_path_factory.mktemp("edge")
    for name in ("secrets", "acme"):
        (folder / name).mkdir()
        (folder / name).chmod(0o755)  # nginx is another user
    write_certificate(folder / "secrets")
    (folder / "secrets" / "hsts.conf").write_text("")

    edge = Edge(f"delaywatch-edge-{uuid.uuid4().hex[:8]}", folder, *free_ports(2))
    try:
        edge.compose("up", "--detach", "--wait", "nginx", *PROGRAMS)
        edge.wait_for_programs()
        yield edge
    finally:
        edge.compose("down", "--volumes", "--timeout", "1", "--remove-orphans")


# The service


def test_nginx_finds_no_fault_in_its_configuration(edge: Edge) -> None:
    said = edge.compose("exec", "-T", "nginx", "nginx", "-t").stderr

    assert "test is successful" in said
    assert "[warn]" not in said


def test_nginx_runs_as_a_user_without_capabilities(edge: Edge) -> None:
    status = edge.compose("exec", "-T", "nginx", "cat", "/proc/1/status").stdout
    facts = dict(line.split(":\t", 1) for line in status.splitlines())

    assert facts["Uid"].split() == ["101"] * 4
    assert int(facts["CapEff"], 16) == int(facts["CapPrm"], 16) == 0
    assert facts["NoNewPrivs"] == "1"


def test_nginx_starts_healthy_before_any_program_exists(edge: Edge) -> None:
    with edge.without(*PROGRAMS):
        edge.compose("restart", "nginx")
        edge.compose("up", "--detach", "--wait", "--no-recreate", "nginx")

        assert edge.ask("/").status == 503


def test_the_health_check_of_the_container_is_not_for_the_outside(edge: Edge) -> None:
    assert edge.ask("/edge-health").json["program"] == "Superset"
    assert edge.ask("/edge-health", plain=True).status == 308


# TLS


@pytest.mark.parametrize(
    ("version", "ciphers", "is_taken"),
    [
        pytest.param(ssl.TLSVersion.TLSv1_3, None, True, id="TLS 1.3"),
        pytest.param(ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", True, id="TLS 1.2, forward secret"),
        pytest.param(ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256", False, id="TLS 1.2, CBC"),
        pytest.param(ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", False, id="TLS 1.1"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_only_modern_tls_is_spoken(edge: Edge, version: ssl.TLSVersion, ciphers: str | None, is_taken: bool) -> None:
    context = edge.tls()
    if ciphers:
        context.set_ciphers(ciphers)
    context.minimum_version = context.maximum_version = version

    if is_taken:
        with edge.connect(context) as connection:
            assert connection.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    else:
        with pytest.raises(ssl.SSLError, match="ALERT"):  # sent by nginx: this client was willing
            edge.connect(context)


def test_http_2_is_offered(edge: Edge) -> None:
    context = edge.tls()
    context.set_alpn_protocols(["h2", "http/1.1"])

    with edge.connect(context) as connection:
        assert connection.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_plain_http_leads_to_tls_on_our_name_whatever_the_client_calls_us(edge: Edge, method: str) -> None:
    answer = edge.ask("/login/?next=%2Fx", method, headers=EVIL, plain=True)

    assert answer.status == 308
    assert answer.headers["Location"] == f"https://localhost:{edge.https_port}/login/?next=%2Fx"


def test_plain_http_on_the_tls_port_leads_to_tls(edge: Edge) -> None:
    connection = http.client.HTTPConnection("localhost", edge.https_port, timeout=PATIENCE_S)
    with closing(connection):
        connection.request("GET", "/airflow/", headers=EVIL)
        answer = connection.getresponse()

        assert answer.status == 308
        assert answer.headers["Location"] == f"https://localhost:{edge.https_port}/airflow/"


def test_the_redirect_names_no_port_when_it_is_the_usual_one(edge: Edge) -> None:
    name = f"{edge.project}-usual-port"
    edge.compose(
        "run", "--detach", "--name", name, "nginx", DELAYWATCH_HOST="flights.example.org", DELAYWATCH_HTTPS_PORT="443"
    )
    try:
        asked = ["docker", "exec", name, "curl", "-sS", "-o", "/dev/null", "-w", "%{redirect_url}"]
        asked += ["--retry", "20", "--retry-connrefused", "--retry-delay", "1", "http://127.0.0.1:8080/airflow/?a=b"]
        found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=True)

    assert found == "https://flights.example.org/airflow/?a=b"


def test_lets_encrypt_finds_its_challenge_over_plain_http_and_nothing_beside_it(edge: Edge) -> None:
    challenges = edge.folder / "acme" / ".well-known" / "acme-challenge"
    challenges.mkdir(parents=True)
    (challenges / "token").write_text("token.thumbprint")
    (edge.folder / "acme" / "private").write_text("not for you")

    found = edge.ask("/.well-known/acme-challenge/token", plain=True)
    absent = edge.ask("/.well-known/acme-challenge/other", plain=True)
    beside = edge.ask("/.well-known/acme-challenge/../../private", plain=True)

    assert (found.status, found.text) == (200, "token.thumbprint")
    assert absent.status == 404
    assert beside.status == 308


def test_hsts_is_sent_on_every_answer_once_there_is_a_real_certificate_and_never_before(edge: Edge) -> None:
    paths = ("/", "/airflow/", "/airflow/execution/", "/airflow", "/busy")

    def sent() -> list[list[str] | None]:
        return [edge.ask(path).headers.get_all("Strict-Transport-Security") for path in paths]

    before = sent()
    (edge.folder / "secrets" / "hsts.conf").write_text(HSTS)
    try:
        edge.compose("exec", "-T", "nginx", "nginx", "-s", "reload")
        wait_until(
            lambda: None not in sent(), "nginx has read hsts.conf"
        )  # a worker of before may still answer for a moment
        after = sent()
    finally:
        (edge.folder / "secrets" / "hsts.conf").write_text("")
        edge.compose("exec", "-T", "nginx", "nginx", "-s", "reload")
        wait_until(lambda: not any(sent()), "nginx has read hsts.conf")

    assert before == [None] * len(paths)
    assert after == [["max-age=31536000"]] * len(paths)


# What reaches a program, and what comes back


@pytest.mark.parametrize(
    ("path", "program"),
    [
        ("/", "Superset"),
        ("/superset/dashboard/1/?native_filters=(x)", "Superset"),
        ("/api/v1/chart/data", "Superset"),
        ("/airflowx", "Superset"),
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
    ],
)
def test_every_path_reaches_its_program_unchanged(edge: Edge, path: str, program: str) -> None:
    answer = edge.ask(path)

    assert answer.status == 200
    assert (answer.json["program"], answer.json["path"]) == (program, path)


@pytest.mark.parametrize("path", ["/airflow", "/jupyter"])
def test_a_forgotten_slash_is_added_on_the_address_that_the_browser_uses(edge: Edge, path: str) -> None:
    answer = edge.ask(f"{path}?a=b", headers=EVIL)

    assert answer.status == 308
    assert answer.headers["Location"] == f"{path}/?a=b"


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
        "/airflow/execution/../api/v2/dags",  # open by location, closed as the program may read it
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
        "/.delaywatch/away/Airflow.html",  # ours, but no page by itself
    ],
)
def test_what_only_the_inside_needs_is_closed_however_it_is_spelt(edge: Edge, path: str) -> None:
    assert edge.ask(path).status == 404


def test_the_word_of_health_is_for_everybody_who_only_asks(edge: Edge) -> None:
    assert edge.ask("/health").json["program"] == "Health"
    assert edge.ask("/health", "POST", b"x").status == 403


def test_behind_a_load_balancer_the_client_is_who_that_one_says(edge: Edge) -> None:
    """`0.0.0.0/0` stands for the load balancer's network: Docker chooses from which address these requests come."""
    told = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9"}  # the first is what the client itself has sent
    edge.compose("up", "--detach", "--wait", "--no-deps", "nginx", DELAYWATCH_TRUSTED_PROXY="0.0.0.0/0")
    try:
        edge.wait_for_programs()
        seen = edge.ask("/behind", headers=told).json["headers"]
        client = edge.entry("/behind")["client"]
    finally:
        edge.compose("up", "--detach", "--wait", "--no-deps", "nginx")
        edge.wait_for_programs()

    assert (seen["x-forwarded-for"], seen["x-real-ip"], client) == ("203.0.113.9",) * 3


def test_a_client_does_not_choose_who_it_is(edge: Edge) -> None:
    lie = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Real-IP": "203.0.113.9",
        "Forwarded": "for=203.0.113.9",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Port": "1",
        "Proxy": "http://evil.example",
    }
    seen = edge.ask("/who", headers=lie).json["headers"]
    address = edge.entry("/who")["client"]

    assert {
        name: value for name, value in seen.items() if name.startswith("x-") or name in ("host", "forwarded", "proxy")
    } == {
        "host": f"localhost:{edge.https_port}",
        "x-forwarded-for": address,
        "x-forwarded-host": f"localhost:{edge.https_port}",
        "x-forwarded-port": str(edge.https_port),
        "x-forwarded-proto": "https",
        "x-real-ip": address,
    }
    assert address != "203.0.113.9"


@pytest.mark.parametrize(
    ("host", "port"), [("localhost:9443", "9443"), ("flights.example.org", "443"), ("unknown.example:1", "1")]
)
def test_a_program_learns_the_address_that_stands_in_the_browser(edge: Edge, host: str, port: str) -> None:
    """As through an SSH tunnel, where it is neither ours nor the published one."""
    seen = edge.ask("/airflow/", headers={"Host": host}).json["headers"]

    assert (seen["host"], seen["x-forwarded-host"], seen["x-forwarded-port"]) == (host, host, port)


@pytest.mark.parametrize("path", ["/", "/airflow/", "/jupyter/", "/login/", "/metrics", "/airflow", "/busy"])
def test_every_answer_has_each_security_header_once(edge: Edge, path: str) -> None:
    headers = edge.ask(path).headers

    assert headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert headers.get_all("X-Frame-Options") == ["SAMEORIGIN"]
    assert headers.get_all("Referrer-Policy") == ["strict-origin-when-cross-origin"]
    assert len(headers.get_all("Permissions-Policy", [])) == 1
    assert headers.get_all("Server") == ["nginx"]
    assert "X-Powered-By" not in headers


def test_a_programs_own_policy_and_cookie_pass_and_the_cookie_is_for_tls_only(edge: Edge) -> None:
    headers = edge.ask("/jupyter/").headers

    assert headers.get_all("Content-Security-Policy") == ["default-src 'self'"]
    assert [part.strip().lower() for part in headers["Set-Cookie"].split(";")] == [
        "session=1",
        "path=/",
        "httponly",
        "secure",
    ]


def test_a_program_cannot_have_nginx_answer_for_it(edge: Edge) -> None:
    assert edge.ask("/redirect").json["path"] == "/redirect"


@pytest.mark.parametrize("program", ["airflow", "jupyter"])
def test_lines_arrive_as_they_are_written(edge: Edge, program: str) -> None:
    connection = http.client.HTTPSConnection("localhost", edge.https_port, timeout=PATIENCE_S, context=edge.tls())
    with closing(connection):
        connection.request("GET", f"/{program}/stream")
        answer = connection.getresponse()
        first = answer.readline()  # the program sends no second one before it is asked to
        edge.ask(f"/{program}/release")

        assert (first, answer.read()) == (b"first\n", b"second\n")


def test_a_websocket_reaches_jupyter(edge: Edge) -> None:
    with edge.connect() as connection:
        connection.sendall(upgrade("/jupyter/api/kernels/1/websocket", "websocket"))
        incoming = connection.makefile("rb")
        status = incoming.readline()
        while incoming.readline().strip():
            pass
        connection.sendall(
            bytes([0x81, 0x80 | 5, 1, 2, 3, 4]) + bytes(b ^ (1, 2, 3, 4)[i % 4] for i, b in enumerate(b"hello"))
        )

        assert status.startswith(b"HTTP/1.1 101")
        assert incoming.read(7) == b"\x81\x05hello"


@pytest.mark.parametrize(("path", "protocol"), [("/airflow/websocket", "websocket"), ("/jupyter/x", "h2c")])
def test_no_other_upgrade_gets_through(edge: Edge, path: str, protocol: str) -> None:
    with edge.connect() as connection:
        connection.sendall(upgrade(path, protocol))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        seen = json.loads(answer.read())["headers"]

    assert answer.status == 200
    assert "upgrade" not in seen
    assert seen["connection"] == "close"


def upgrade(path: str, protocol: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


def test_a_notebook_may_be_larger_than_the_memory_of_nginx(edge: Edge) -> None:
    size = 200_000_000
    answer = edge.ask("/jupyter/api/contents/a.ipynb", "PUT", bytes(size))

    assert (answer.status, answer.json["received"]) == (200, size)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/v1/assets/import/", "Superset takes no more than 20 MB in one request; send less at once."),
        ("/airflow/api/v2/variables", "Airflow takes no more than 20 MB in one request; send less at once."),
    ],
)
def test_a_body_that_is_too_large_is_refused_in_a_sentence(edge: Edge, path: str, said: str) -> None:
    with edge.connect() as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20971521\r\n\r\n".encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()

        assert (answer.status, json.loads(answer.read())["message"]) == (413, said)


# Logins


@pytest.mark.parametrize(
    ("path", "spelt_otherwise", "program"),
    [
        ("/login/", "//login/?next=/", "Superset"),
        ("/airflow/auth/login/", "/airflow/auth/tok%65n", "Airflow"),
        ("/jupyter/login", "/jupyter//login?next=/", "Jupyter"),
    ],
)
def test_guessing_passwords_is_slowed_down_and_looking_at_the_form_is_not(
    edge: Edge, path: str, spelt_otherwise: str, program: str
) -> None:
    edge.compose("up", "--detach", "--wait", "--force-recreate", "nginx")  # forgets earlier attempts
    edge.wait_for_programs()
    looked = {edge.ask(path).status for _ in range(30)}
    tried = [edge.ask(path, "POST", b"password=guess", headers=BROWSER) for _ in range(30)]
    refused = next(answer for answer in tried if answer.status == 429)

    assert looked == {200}
    assert {answer.status for answer in tried[:11]} == {200}
    assert edge.ask(spelt_otherwise, "POST", b"password=guess").status == 429
    assert edge.ask(path).status == 200
    assert refused.headers["Content-Type"] == "text/html; charset=utf-8"
    assert (
        f"There were too many attempts to log in to {program} from your address; wait a minute, then try again."
        in refused.text
    )
    assert "http-equiv" not in refused.text
    assert int(refused.headers["Retry-After"]) == 60


def test_a_script_that_guesses_is_told_in_json_and_other_programs_stay_open(edge: Edge) -> None:
    edge.compose("up", "--detach", "--wait", "--force-recreate", "nginx")
    edge.wait_for_programs()
    tried = [edge.ask("/api/v1/security/login", "POST", b"{}") for _ in range(30)]
    refused = next(answer for answer in tried if answer.status == 429)

    assert refused.json["message"].startswith("There were too many attempts to log in to Superset")
    assert edge.ask("/airflow/auth/token", "POST", b"{}").json["program"] == "Airflow"
    assert edge.ask("/api/v1/chart/data", "POST", b"{}").status == 200


# While a program does not answer


@pytest.mark.parametrize(
    ("service", "page", "api", "said"),
    [
        ("superset", "/superset/welcome/", "/api/v1/chart/", "Superset does not answer: it is starting or restarting."),
        (
            "airflow-apiserver",
            "/airflow/dags",
            "/airflow/api/v2/dags",
            "Airflow does not answer: it is starting or restarting.",
        ),
        (
            "jupyter",
            "/jupyter/lab",
            "/jupyter/api/contents",
            "Jupyter does not answer: it is starting, or it is off and "
            "docker compose --profile notebooks up --detach switches it on.",
        ),
    ],
)
def test_a_program_that_does_not_answer_is_named_in_a_page_that_asks_again(
    edge: Edge, service: str, page: str, api: str, said: str
) -> None:
    with edge.without(service):
        shown, posted, told = edge.ask(page, headers=BROWSER), edge.ask(page, "POST", b"x=1"), edge.ask(api)
        other = edge.ask("/" if service != "superset" else "/airflow/")

    for answer in (shown, posted):
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "5"
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert said in answer.text
        assert '<meta http-equiv="refresh" content="5">' in answer.text
    assert told.status == 503
    assert told.headers["Content-Type"] == "application/json; charset=utf-8"
    assert told.headers.get_all("X-Frame-Options") == ["SAMEORIGIN"]
    assert told.json == {"message": said, "detail": said}
    assert other.status == 200


@pytest.mark.parametrize(
    ("path", "program"),
    [
        ("/superset/dashboard/broken", "Superset"),
        ("/login/broken", "Superset"),
        ("/airflow/dags/broken", "Airflow"),
        ("/airflow/auth/login/broken", "Airflow"),
    ],
)
def test_a_page_with_an_internal_error_is_replaced_by_a_page_of_ours_that_asks_again(
    edge: Edge, path: str, program: str
) -> None:
    shown, told = edge.ask(path, headers=BROWSER), edge.ask(path, headers={"Accept": "application/json"})

    assert (shown.status, told.status) == (500, 500)
    assert shown.headers["Content-Type"] == "text/html; charset=utf-8"
    assert '<meta http-equiv="refresh" content="5">' in shown.text
    assert program in shown.text
    assert told.json["message"] in shown.text


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/chart/broken",
        "/superset/explore_json/broken",
        "/airflow/api/v2/broken",
        "/airflow/ui/broken",
        "/jupyter/lab/api/broken",
    ],
)
def test_what_the_pages_of_a_program_ask_for_fails_with_the_text_of_the_program(edge: Edge, path: str) -> None:
    answer = edge.ask(path, headers=BROWSER)

    assert (answer.status, answer.text) == (500, "its own words")


def test_the_api_of_a_program_passes_even_when_it_answers_503(edge: Edge) -> None:
    answer = edge.ask("/api/v1/busy")

    assert (answer.status, answer.text) == (503, "its own words")


def test_a_program_that_comes_back_with_another_address_is_found(edge: Edge) -> None:
    def address() -> str:
        return edge.compose("exec", "-T", "superset", "hostname", "-i").stdout.strip()

    def every_worker_finds_it() -> bool:
        return all(edge.answers("/") for _ in range(30))

    before = address()
    assert every_worker_finds_it()
    with edge.without("superset"):
        edge.compose("up", "--detach", "squatter")
    try:
        assert address() != before
        wait_until(every_worker_finds_it, "no worker keeps the old address")
    finally:
        edge.compose("rm", "--stop", "--force", "squatter")


# Logs


def test_logs_tell_who_asked_for_what_but_no_token(edge: Edge) -> None:
    edge.ask("/jupyter/lab?token=s3cr3t-while-up", headers={"User-Agent": "a browser"})
    with edge.without("jupyter"):
        edge.ask("/jupyter/tree?token=s3cr3t-while-down")
    edge.ask("/jupyter/tree?token=s3cr3t-plain", plain=True)

    entry = edge.entry("/jupyter/lab")
    assert (entry["method"], entry["status"], entry["program"], entry["agent"]) == ("GET", 200, "Jupyter", "a browser")
    assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", entry["client"])
    assert edge.entry("/jupyter/tree")["status"] == 308
    assert "s3cr3t" not in "".join(edge.logs())
