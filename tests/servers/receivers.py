"""A mail server and a webhook on this machine that store what they receive and fail on demand."""

from __future__ import annotations

import asyncio
import email
import email.policy
import logging
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http import HTTPStatus
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

logging.getLogger("werkzeug").setLevel(logging.WARNING)  # its lines per request would look like ours


class WebServer(HTTPServer):
    """A server of pytest-httpserver that stops at once; werkzeug checks only twice a second."""

    def thread_target(self) -> None:
        assert self.server is not None
        self.server.serve_forever(poll_interval=0.02)


@dataclass
class Mailbox:
    """The mails and logins of a mail server at `address`.

    password: accepted from any login. refused: recipients that the server refuses.
    """

    password: str | None = None
    refused: tuple[str, ...] = ()
    address: str = ""
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    was_encrypted: list[bool] = field(default_factory=list)

    def authenticate(self, *attempt: Any) -> AuthResult:
        login = attempt[-1]
        assert isinstance(login, LoginPassword)
        self.logins.append(login.login.decode())
        return AuthResult(success=login.password.decode() == self.password, handled=False)

    async def handle_RCPT(self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: Any) -> str:  # noqa: N802
        if address in self.refused:
            return "550 nobody here"
        envelope.rcpt_tos.append(address)
        return "250 good"

    async def handle_DATA(self, server: SMTP, _: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        assert server.transport is not None
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.recipients.append(envelope.rcpt_tos)
        self.was_encrypted.append(server.transport.get_extra_info("sslcontext") is not None)
        return "250 taken"


class AnyPort(Controller):
    """A controller on a free port; https://github.com/aio-libs/aiosmtpd/issues/276."""

    def _trigger_server(self) -> None:
        assert isinstance(self.server, asyncio.Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


@contextmanager
def mail_server(
    *, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None, **options: Any
) -> Iterator[Mailbox]:
    """Run a mail server, optionally with STARTTLS or TLS. options: fields of its Mailbox."""
    box = Mailbox(**options)
    controller = AnyPort(
        box,
        "127.0.0.1",
        0,
        ssl_context=tls,
        tls_context=starttls,
        authenticator=box.authenticate,
        auth_require_tls=box.password is None,
        auth_exclude_mechanism=["LOGIN"],
    )
    controller.start()
    box.address = f"127.0.0.1:{controller.port}"
    try:
        yield box
    finally:
        controller.stop()


@dataclass
class Hook:
    """A webhook at `url` that answers with `status` after `pause_s` seconds. texts: the received messages."""

    status: int = 200
    pause_s: float = 0.0
    url: str = ""
    texts: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)  # method and path


@contextmanager
def webhook(**options: Any) -> Iterator[Hook]:
    """Run a webhook. options: fields of its Hook."""
    hook, stop = Hook(**options), threading.Event()

    def answer(request: Request) -> Response:
        hook.requests.append((request.method, request.path))
        if request.method == "GET":
            return Response()
        hook.texts.append(request.get_json()["text"])
        stop.wait(hook.pause_s)
        headers = {"Location": "/elsewhere"} if hook.status in (301, 302, 307) else {}
        return Response("ok" if hook.status == HTTPStatus.OK else "no_service", hook.status, headers)

    with WebServer("127.0.0.1", threaded=True) as server:
        server.expect_request(re.compile("")).respond_with_handler(answer)
        hook.url = server.url_for("/services/T0/B0/secret")
        try:
            yield hook
        finally:
            stop.set()
