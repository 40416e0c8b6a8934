"""A mail server and a webhook on this machine that keep what they are sent, and can be told to misbehave."""

from __future__ import annotations

import base64
import email
import email.policy
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Mailbox:
    """A mail server at `host:port`; it speaks as much of RFC 5321 as a client of ours needs.

    tls: its certificate, offered by STARTTLS, or from the first byte. refused: addresses that it takes no mail for.
    logins: what clients have logged in with. silent: it takes the connection and never says a word.
    """

    tls: ssl.SSLContext | None = None
    is_tls_from_the_start: bool = False
    password: str | None = None
    refused: tuple[str, ...] = ()
    is_silent: bool = False
    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    was_encrypted: list[bool] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def mail_server(**how: Any) -> Iterator[Mailbox]:
    box, over = Mailbox(**how), threading.Event()

    class Session(socketserver.StreamRequestHandler):
        def finish(self) -> None:
            super().finish()
            self.request.close()  # the server itself knows only the socket that TLS has taken over

        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def encrypt(self) -> None:
            assert box.tls
            self.request = box.tls.wrap_socket(self.request, server_side=True)
            self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb", buffering=0)

        def handle(self) -> None:
            if box.is_silent:
                over.wait(60)
                return
            try:
                if box.is_tls_from_the_start:
                    self.encrypt()
                self.say("220 test")
                self.converse()
            except (ssl.SSLError, ConnectionError):
                return  # a client that does not trust us goes away

        def converse(self) -> None:
            to: list[str] = []
            while line := self.rfile.readline().decode().strip():
                verb, _, rest = line.partition(" ")
                is_encrypted = isinstance(self.request, ssl.SSLSocket)
                if verb.upper() == "EHLO":
                    offers = ["AUTH PLAIN"] if box.password else []
                    offers += ["STARTTLS"] if box.tls and not is_encrypted else []
                    for offer in ["test", *offers][:-1]:
                        self.say(f"250-{offer}")
                    self.say(f"250 {['test', *offers][-1]}")
                elif verb.upper() == "STARTTLS":
                    self.say("220 go on")
                    self.encrypt()
                elif verb.upper() == "AUTH":
                    _, login, password = base64.b64decode(rest.split()[1]).decode().split("\0")
                    box.logins.append(login)
                    self.say("235 welcome" if password == box.password else "535 who are you")
                elif verb.upper() == "RCPT":
                    address = rest.partition("<")[2].partition(">")[0]
                    self.say("550 nobody here" if address in box.refused else "250 good")
                    to += [] if address in box.refused else [address]
                elif verb.upper() == "DATA":
                    self.say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    mail = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
                    assert isinstance(mail, EmailMessage)
                    box.mails.append(mail)
                    box.recipients.append(to)
                    box.was_encrypted.append(is_encrypted)
                    self.say("250 taken")
                elif verb.upper() == "QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 good")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
        server.daemon_threads = True
        box.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield box
        over.set()
        server.shutdown()


@dataclass
class Hook:
    """A webhook at `url` that answers with `status`, waiting `pause_s` before it. texts: what it was told."""

    status: int = 200
    pause_s: float = 0.0
    url: str = ""
    texts: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)  # method and path


@contextmanager
def webhook(**how: Any) -> Iterator[Hook]:
    hook, over = Hook(**how), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.requests.append(("POST", self.path))
            hook.texts.append(json.loads(body)["text"])
            over.wait(hook.pause_s)
            self.send_response(hook.status)
            if hook.status in (301, 302, 307):
                self.send_header("Location", "/elsewhere")
            said = b"ok" if hook.status == 200 else b"no_service"
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def do_GET(self) -> None:
            hook.requests.append(("GET", self.path))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hook.url = f"http://127.0.0.1:{server.server_address[1]}/services/T0/B0/secret"
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield hook
        over.set()
        server.shutdown()
