"""The certificate that nginx gets: own files, Let's Encrypt's or a self-signed one. One that would fail is refused."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.integration.stack.volumes import Volumes

HOST = "flights.example.com"
OWN = ("project/nginx/certs/tls.crt", "project/nginx/certs/tls.key")
LETS_ENCRYPT = (f"letsencrypt/live/{HOST}/fullchain.pem", f"letsencrypt/live/{HOST}/privkey.pem")
SELF_SIGNED = ("secrets/tls.crt", "secrets/tls.key")
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
AUTHORITY = ec.generate_private_key(ec.SECP256R1())


def pair(
    *hosts: str,
    since: datetime = NOW - DAY,
    until: datetime = NOW + 90 * DAY,
    key: Key | None = None,
    is_self_signed: bool = False,
) -> tuple[bytes, bytes]:
    """Return a certificate for the hosts, signed by AUTHORITY or by itself, and its key as PEM.

    trustme can create neither a short key nor a name in upper case.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject, authority = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("Subject", "Authority")
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if is_self_signed else authority)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )
    names = [x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in hosts]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signed = builder.sign(key if is_self_signed else AUTHORITY, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM), pem(key)


def pem(key: Key, passphrase: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def put(volumes: Volumes, files: tuple[bytes, bytes], place: tuple[str, str]) -> None:
    for name, content in zip(place, files, strict=True):
        volumes.put(name, content)


# --- self-signed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [HOST, "10.0.0.7", "[2001:db8::7]"])
def test_the_self_signed_certificate_names_host_and_loopback_and_gets_no_hsts(volumes: Volumes, host: str) -> None:
    volumes.setup(DELAYWATCH_HOST=host)

    created = x509.load_pem_x509_certificate(volumes.path("handed/nginx/tls.crt").read_bytes())
    names = created.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(name.value) for name in names} == {host.strip("[]"), "localhost", "127.0.0.1", "::1"}
    assert created.not_valid_after_utc - created.not_valid_before_utc <= 825 * DAY, "browsers accept no longer time"
    assert volumes.read("handed/nginx/hsts.conf") == "", "with HSTS, browsers could not open the site"
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(volumes.path("handed/nginx/tls.crt"), volumes.path("handed/nginx/tls.key"))


@pytest.mark.parametrize(
    ("since", "until", "is_replaced"),
    [
        (NOW - 800 * DAY, NOW + 25 * DAY, True),
        (NOW - 800 * DAY, NOW + 35 * DAY, False),
        (NOW + 100 * DAY, NOW + 900 * DAY, True),
    ],
)
def test_a_self_signed_certificate_is_replaced_in_its_last_month_and_before_it_is_valid(
    volumes: Volumes, since: datetime, until: datetime, is_replaced: bool
) -> None:
    former = pair("localhost", since=since, until=until, is_self_signed=True)
    put(volumes, former, SELF_SIGNED)

    volumes.setup()

    assert (volumes.path("secrets/tls.crt").read_bytes() != former[0]) == is_replaced
    assert volumes.read("handed/nginx/tls.crt") == volumes.read("secrets/tls.crt")


# --- own files and Let's Encrypt --------------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", [(HOST,), ("a.org", "*.example.com"), ("FLIGHTS.Example.com",)])
def test_own_files_are_given_to_nginx_unchanged_and_with_hsts(volumes: Volumes, hosts: tuple[str, ...]) -> None:
    chain, key = pair(*hosts)
    chain = b"issued for us\n" + chain + pair("Authority", key=AUTHORITY)[0]
    put(volumes, (chain, key), OWN)

    volumes.setup(DELAYWATCH_HOST=HOST)

    assert volumes.path("handed/nginx/tls.crt").read_bytes() == chain
    assert volumes.path("handed/nginx/tls.key").read_bytes() == key
    assert "Strict-Transport-Security" in volumes.read("handed/nginx/hsts.conf")
    assert not volumes.path("secrets/tls.crt").exists()


def test_lets_encrypt_comes_after_own_files_serves_only_its_host_and_may_be_renewed(volumes: Volumes) -> None:
    for files, place in ((pair(HOST), LETS_ENCRYPT), (pair(HOST), LETS_ENCRYPT), (pair(HOST), OWN)):
        assert "self-signed" in volumes.setup(DELAYWATCH_HOST="localhost").out
        put(volumes, files, place)
        volumes.setup(DELAYWATCH_HOST="Flights.example.com")  # certbot's folder has lower case
        assert volumes.path("handed/nginx/tls.key").read_bytes() == files[1]


# --- refusals ---------------------------------------------------------------------------------------------------------


GOOD = pair(HOST)
EARLIER, EXPIRED, EARLY = NOW - 90 * DAY, NOW - 3 * DAY, NOW + 3 * DAY
SHORT_KEY = rsa.generate_private_key(65537, 1024)  # noqa: S505 - setup must refuse it
FAULTS = {
    "expired": (pair(HOST, since=EARLIER, until=EXPIRED), "crt", f"{EXPIRED:%Y-%m-%d}"),
    "early": (pair(HOST, since=EARLY), "crt", f"{EARLY:%Y-%m-%d}"),
    "other host": (pair("a.org", "10.0.0.7"), "crt", "a.org, 10.0.0.7"),
    "wildcard of a higher level": (pair("*.com"), "crt", "*.com"),
    "other key": ((GOOD[0], pem(AUTHORITY)), "key", "does not belong"),
    "encrypted key": ((GOOD[0], pem(AUTHORITY, b"passphrase")), "key", "openssl pkey"),
    "short key": (pair(HOST, key=SHORT_KEY), "key", "1024"),
    "DER": ((ssl.PEM_cert_to_DER_cert(GOOD[0].decode()), GOOD[1]), "crt", "PEM"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_certificate_that_would_not_work_is_refused(volumes: Volumes, fault: str) -> None:
    files, file, fact = FAULTS[fault]
    put(volumes, files, OWN)

    refusal = volumes.refusal(DELAYWATCH_HOST=HOST)

    assert f"nginx/certs/tls.{file}" in refusal
    assert fact in refusal
    assert str(volumes.root) not in refusal, "a path in the container does not help"


@pytest.mark.parametrize(("present", "missing"), [OWN, OWN[::-1], LETS_ENCRYPT, LETS_ENCRYPT[::-1]])
def test_a_certificate_or_a_key_alone_is_refused(volumes: Volumes, present: str, missing: str) -> None:
    volumes.put(present, "a file")

    assert missing.removeprefix("project/") in volumes.refusal(DELAYWATCH_HOST=HOST)
