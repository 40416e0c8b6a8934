"""A server that we talk to and whose certificate has expired: the sentence says so, and what is there stays.

Our own certificate: test_setup_certificate.py, test_bad_start.py (in containers) and test_health.py.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.integration.faults.conftest import fault
from tests.servers.certificates import self_signed
from tests.servers.receivers import mail_server
from utils.monitoring import channels
from utils.monitoring.messages import Message
from utils.settings import AlertSettings, Settings
from utils.sources import fetch
from utils.storage.lake import Lake

pytestmark = pytest.mark.faults

MESSAGE = Message("Delaywatch 2015: 1 extreme event", "LGA")


@pytest.fixture
def expired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """What a server shows whose certificate ended yesterday; its issuer is trusted here by everybody."""
    now = datetime.now(UTC)
    certificate, key = self_signed("127.0.0.1", now - timedelta(days=90), now - timedelta(days=1))
    pem = tmp_path / "expired.pem"
    pem.write_bytes(key + certificate)
    for variable in ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(variable, str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@pytest.fixture
def address(expired: ssl.SSLContext) -> Iterator[str]:
    """The https:// address of a server that nobody who looks at its certificate gets an answer from."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = expired.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_object_store_with_an_expired_certificate_is_told_so(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    settings = Settings(
        lake="s3://lake",
        warehouse="",
        scratch=tmp_path,
        aws_endpoint_url=address,
        aws_region="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )

    told = fault(lambda: Lake(settings).bronze_years())

    assert told == f"The certificate of S3 at {address} has expired; renew it there, then run the step again."


def test_a_webhook_with_an_expired_certificate_is_told_so(address: str) -> None:
    told = fault(lambda: channels.post(MESSAGE, f"{address}/services/T0/B0/secret"))

    assert told == "The certificate of the webhook at 127.0.0.1 has expired; renew it there."


def test_a_mail_server_with_an_expired_certificate_is_told_so(expired: ssl.SSLContext) -> None:
    with mail_server(starttls=expired) as server:
        told = fault(
            lambda: channels.send_mail(
                MESSAGE, AlertSettings(recipients=("ops@here.org",), smtp=f"smtp://{server.address}")
            )
        )

        assert told == f"The certificate of the mail server {server.address} has expired; renew it there."
        assert server.mails == []


def test_a_bureau_with_an_expired_certificate_is_told_so_and_bronze_stays_empty(address: str, tmp_path: Path) -> None:
    settings = Settings(lake=(tmp_path / "lake").as_uri(), warehouse="", scratch=tmp_path, bts_url=f"{address}/PREZIP")

    told = fault(lambda: fetch.into_bronze(settings, 2015, "bts"))

    assert told.startswith(f"No trusted connection to {address.removeprefix('https://')} (")
    assert "certificate has expired" in told
    assert Lake(settings).bronze_years() == []
