"""A server whose certificate has expired is named, whether it is S3, a webhook, a mail server or the Bureau.

test_setup_certificate.py and test_health.py test the certificate of the stack itself.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.servers.keys import KEYS
from tests.servers.receivers import mail_server
from utils.errors import DelaywatchError, InvalidInput
from utils.monitoring import channels
from utils.monitoring.messages import Message
from utils.settings import AlertSettings, Settings
from utils.sources import fetch
from utils.storage.lake import Lake

pytestmark = pytest.mark.faults

MESSAGE = Message("Delaywatch 2015: 1 extreme event", "LGA")


@pytest.fixture
def expired(tls_context: Callable[..., ssl.SSLContext]) -> ssl.SSLContext:
    """A certificate that ended yesterday; this process trusts its issuer."""
    return tls_context(not_after=datetime.now(UTC) - timedelta(days=1))


@pytest.fixture
def url(expired: ssl.SSLContext) -> Iterator[str]:
    """The https:// URL of a server with this certificate."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = expired.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_expired_certificate_of_s3_is_named(url: str, tmp_path: Path, without_pauses: None) -> None:
    settings = Settings(
        lake="s3://lake",
        warehouse="",
        scratch=tmp_path,
        aws_endpoint_url=url,
        aws_region="us-east-1",
        **KEYS,
    )

    with pytest.raises(InvalidInput, match=f"certificate of S3 at {url} has expired"):
        Lake(settings).bronze_years()


def test_an_expired_certificate_of_a_webhook_is_named_without_its_secret(url: str) -> None:
    with pytest.raises(DelaywatchError, match=r"certificate .*127\.0\.0\.1.* has expired") as caught:
        channels.post(MESSAGE, f"{url}/services/T0/B0/secret")

    assert "secret" not in str(caught.value)


def test_a_mail_server_with_an_expired_certificate_gets_no_mail(expired: ssl.SSLContext) -> None:
    with mail_server(starttls=expired) as server:
        settings = AlertSettings(recipients=("ops@here.org",), smtp=f"smtp://{server.address}")

        with pytest.raises(DelaywatchError, match=f"certificate .*{server.address} has expired"):
            channels.send_mail(MESSAGE, settings)

        assert server.mails == []


def test_an_expired_certificate_of_the_bureau_is_named(url: str, tmp_path: Path) -> None:
    settings = Settings(lake=(tmp_path / "lake").as_uri(), warehouse="", scratch=tmp_path, bts_url=f"{url}/PREZIP")

    with pytest.raises(InvalidInput, match=rf"{url.removeprefix('https://')} .*certificate has expired"):
        fetch.into_bronze(settings, 2015, "bts")

    assert Lake(settings).bronze_years() == []
