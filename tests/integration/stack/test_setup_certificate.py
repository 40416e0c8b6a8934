"""Which certificate nginx gets: one that browsers accept for the host, or a start that is refused with the reason."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.integration.stack.volumes import Volumes

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
AUTHORITY = ec.generate_private_key(ec.SECP256R1())
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes.make(tmp_path)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def certificate(
    key: Key,
    *hosts: str,
    since: datetime = NOW - DAY,
    until: datetime = NOW + 90 * DAY,
    is_self_signed: bool = False,
) -> bytes:
    """A certificate for the hosts, by an authority of ours or by itself."""
    subject = name(hosts[0] if hosts else "nobody")
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if is_self_signed else name("Authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([general(host) for host in hosts]), critical=False)
    signed = builder.sign(key if is_self_signed else AUTHORITY, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def pem(key: Key, passphrase: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def give(volumes: Volumes, chain: bytes, key: bytes, place: str = "project/nginx/certs/tls.crt tls.key") -> None:
    crt, beside = place.split()
    volumes.put(crt, chain)
    volumes.put(str(Path(crt).with_name(beside)), key)


LETSENCRYPT = "letsencrypt/live/flights.example.com/fullchain.pem privkey.pem"
SELF_SIGNED = "secrets/tls.crt tls.key"


# --- self-signed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "flights.example.com", "10.0.0.7", "[2001:db8::7]"])
@pytest.mark.parametrize("address", ["", "localhost", "127.0.0.1", "::1"])
def test_a_client_that_trusts_the_made_certificate_accepts_it_under_every_name(
    volumes: Volumes, host: str, address: str
) -> None:
    """A real TLS handshake, in memory."""
    volumes.setup(DELAYWATCH_HOST=host)
    served = volumes.path("handed/nginx/tls.crt")
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=served)
    server.load_cert_chain(served, volumes.path("handed/nginx/tls.key"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=address or host.strip("[]")),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]

    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue

    assert ends[0].version() == "TLSv1.3"


def test_the_made_certificate_is_as_short_lived_as_browsers_ask_and_gets_no_hsts(volumes: Volumes) -> None:
    volumes.setup()
    made = x509.load_pem_x509_certificate(volumes.path("handed/nginx/tls.crt").read_bytes())

    assert made.not_valid_after_utc - made.not_valid_before_utc <= 825 * DAY
    assert made.not_valid_before_utc < NOW
    assert isinstance(made.public_key(), ec.EllipticCurvePublicKey)
    assert list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        x509.oid.ExtendedKeyUsageOID.SERVER_AUTH
    ]
    assert volumes.read("handed/nginx/hsts.conf") == ""


def test_another_host_gets_another_certificate_and_nothing_else_changes(volumes: Volumes) -> None:
    volumes.setup()
    before = volumes.snapshot("secrets", "handed")

    outcome = volumes.setup(DELAYWATCH_HOST="flights.example.com")

    after = volumes.snapshot("secrets", "handed")
    changed = {path for path in after if after[path] != before[path]}
    kept, handed = {"secrets/tls.crt", "secrets/tls.key"}, {"handed/nginx/tls.crt", "handed/nginx/tls.key"}
    assert changed == kept | handed | {"handed/health/certificate.pem"}
    assert "self-signed certificate for flights.example.com until" in outcome.out


@pytest.mark.parametrize(
    ("since", "until", "is_made_anew"),
    [
        (NOW - 800 * DAY, NOW + 25 * DAY, True),
        (NOW - 800 * DAY, NOW + 35 * DAY, False),
        (NOW + 100 * DAY, NOW + 900 * DAY, True),
    ],
)
def test_a_made_certificate_is_made_anew_in_its_last_month_and_when_the_clock_was_wrong(
    volumes: Volumes, since: datetime, until: datetime, is_made_anew: bool
) -> None:
    volumes.setup()
    key = new_key()
    give(volumes, certificate(key, "localhost", since=since, until=until, is_self_signed=True), pem(key), SELF_SIGNED)
    before = volumes.read("secrets/tls.crt")

    volumes.setup()

    assert (volumes.read("secrets/tls.crt") != before) == is_made_anew
    assert volumes.read("handed/nginx/tls.crt") == volumes.read("secrets/tls.crt")


def test_a_made_pair_that_a_crash_left_unequal_is_made_anew(volumes: Volumes) -> None:
    volumes.setup()
    volumes.put("secrets/tls.key", pem(new_key()))

    volumes.setup()

    chain = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chain.load_cert_chain(volumes.path("handed/nginx/tls.crt"), volumes.path("handed/nginx/tls.key"))


# --- own files and Let's Encrypt --------------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", [("flights.example.com",), ("a.org", "*.example.com"), ("FLIGHTS.Example.com",)])
def test_own_files_are_handed_to_nginx_as_they_are_with_hsts(volumes: Volumes, hosts: tuple[str, ...]) -> None:
    key = new_key()
    chain = b"issued for us\n" + certificate(key, *hosts) + certificate(AUTHORITY, "Authority")
    give(volumes, chain, pem(key))

    outcome = volumes.setup(DELAYWATCH_HOST="flights.example.com")

    assert volumes.path("handed/nginx/tls.crt").read_bytes() == chain
    assert volumes.path("handed/nginx/tls.key").read_bytes() == pem(key)
    assert volumes.read("handed/nginx/hsts.conf") == (
        'add_header Strict-Transport-Security "max-age=31536000" always;\n'
    )
    assert f"own certificate for flights.example.com until {NOW + 90 * DAY:%Y-%m-%d}" in outcome.out
    assert not volumes.path("secrets/tls.crt").exists()


def test_own_files_that_are_self_signed_get_no_hsts(volumes: Volumes) -> None:
    key = rsa.generate_private_key(65537, 2048)
    give(volumes, certificate(key, "localhost", is_self_signed=True), pem(key))

    volumes.setup()

    assert volumes.read("handed/nginx/hsts.conf") == ""


def test_the_certificate_of_lets_encrypt_is_used_for_its_host_alone(volumes: Volumes) -> None:
    key = new_key()
    give(volumes, certificate(key, "flights.example.com"), pem(key), LETSENCRYPT)

    live = volumes.setup(DELAYWATCH_HOST="Flights.example.com")  # certbot writes names in small letters
    other = volumes.setup()

    assert "Let's Encrypt certificate for flights.example.com until" in live.out
    assert "self-signed certificate for localhost until" in other.out


def test_own_files_come_before_those_of_lets_encrypt(volumes: Volumes) -> None:
    own, live = new_key(), new_key()
    give(volumes, certificate(own, "flights.example.com"), pem(own))
    give(volumes, certificate(live, "flights.example.com"), pem(live), LETSENCRYPT)

    volumes.setup(DELAYWATCH_HOST="flights.example.com")

    assert volumes.path("handed/nginx/tls.key").read_bytes() == pem(own)


def test_a_renewed_certificate_is_handed_over_at_the_next_start(volumes: Volumes) -> None:
    for until in (NOW + 20 * DAY, NOW + 90 * DAY):
        key = new_key()
        give(volumes, certificate(key, "flights.example.com", until=until), pem(key), LETSENCRYPT)
        outcome = volumes.setup(DELAYWATCH_HOST="flights.example.com")
        assert f"until {until:%Y-%m-%d}" in outcome.out

    assert volumes.path("handed/nginx/tls.key").read_bytes() == pem(key)


def test_a_certificate_in_its_last_two_weeks_is_a_warning_and_no_failure(volumes: Volumes) -> None:
    key, until = new_key(), NOW + 10 * DAY
    give(volumes, certificate(key, "localhost", until=until), pem(key))

    outcome = volumes.setup()

    assert outcome.err.startswith("Warning: The certificate ")
    assert f"expires on {until:%Y-%m-%d}, in 9 days" in outcome.err


@pytest.mark.parametrize("place", ["project/nginx/certs/tls.crt tls.key", LETSENCRYPT])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("expired", f"expired on {NOW - 3 * DAY:%Y-%m-%d}; "),
        ("early", f"is not valid before {NOW + 3 * DAY:%Y-%m-%d}; correct this machine's clock"),
        ("other host", "is not for flights.example.com but for a.org, 10.0.0.7; set DELAYWATCH_HOST"),
        ("star too high", "is not for flights.example.com but for *.com; "),
        ("no name", "is not for flights.example.com but for no name at all; "),
        ("other key", "does not belong to the first certificate in "),
        ("wrong order", "does not belong to the first certificate in "),
        ("encrypted key", "is encrypted, and nginx cannot ask for its passphrase; "),
        ("short key", "has 1024 bits, too few for nginx; "),
        ("DER certificate", "is no certificate in PEM form; "),
        ("empty certificate", "is no certificate in PEM form; "),
        ("no key", "is no private key in PEM form; "),
        ("broken link", "cannot be read (No such file or directory); "),
        ("certificate alone", " is missing beside the other file of the pair; "),
        ("key alone", " is missing beside the other file of the pair; "),
    ],
)
def test_a_certificate_that_would_not_work_is_refused_with_the_reason(
    volumes: Volumes, fault: str, said: str, place: str
) -> None:
    host, key = "flights.example.com", new_key()
    short = rsa.generate_private_key(65537, 1024) if fault == "short key" else key  # noqa: S505 it is to be refused
    good = certificate(key, host)
    chain, private = {
        "expired": (certificate(key, host, since=NOW - 90 * DAY, until=NOW - 3 * DAY), pem(key)),
        "early": (certificate(key, host, since=NOW + 3 * DAY), pem(key)),
        "other host": (certificate(key, "a.org", "10.0.0.7"), pem(key)),
        "star too high": (certificate(key, "*.com"), pem(key)),
        "no name": (certificate(key), pem(key)),
        "other key": (good, pem(new_key())),
        "wrong order": (certificate(AUTHORITY, "Authority") + good, pem(key)),
        "encrypted key": (good, pem(key, b"passphrase")),
        "short key": (certificate(short, host), pem(short)),
        "DER certificate": (ssl.PEM_cert_to_DER_cert(good.decode()), pem(key)),
        "empty certificate": (b"", pem(key)),
        "no key": (good, good),
    }.get(fault, (good, pem(key)))
    give(volumes, chain, private, place)
    name, key_name = place.split()
    crt = volumes.path(name)
    beside = crt.with_name(key_name)
    if fault == "broken link":
        crt.unlink()
        crt.symlink_to(volumes.path("letsencrypt/archive/fullchain1.pem"))
    if fault.endswith("alone"):
        (beside if fault.startswith("certificate") else crt).unlink()

    refused = volumes.refusal(DELAYWATCH_HOST=host)

    assert said in refused
    folder = "nginx/certs" if place.startswith("project") else f"/etc/letsencrypt/live/{host}"
    assert f"{folder}/{crt.name} " in refused or f"{folder}/{beside.name} " in refused
    assert str(volumes.root) not in refused
    assert refused.count(". ") == 0
