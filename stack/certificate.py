"""Choose and check nginx's certificate: own files, else Let's Encrypt's, else a self-signed one.

`handover` gives it to nginx; nginx/README.md describes how to get and renew one from Let's Encrypt.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stack import vault
from stack.files import put
from utils.errors import InvalidInput

LIFE = timedelta(days=825)  # browsers reject certificates that are valid for longer, even trusted ones
RENEW = timedelta(days=30)
WARN = timedelta(days=14)
SKEW = timedelta(days=1)  # clients with a slow clock accept it too
MIN_RSA_BITS = 2048  # nginx does not start with less
ALWAYS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Certificate:
    """A certificate chain and its key as PEM, with the facts that setup prints."""

    kind: str
    chain: bytes
    key: bytes = field(repr=False)
    until: datetime
    is_self_signed: bool
    warning: str | None = None


@dataclass(frozen=True)
class _Place:
    """A folder for a pair of files, its name in messages, and the remedy for an invalid pair."""

    kind: str
    folder: Path
    called: str
    chain: str
    key: str
    remedy: str

    def name(self, file: str) -> str:
        """Return the file's path outside the container."""
        return f"{self.called}/{file}"


def find(project: Path, letsencrypt: Path, secrets: Path, host: str, now: datetime) -> Certificate:
    """Return the first pair that exists. Raises InvalidInput if it is invalid for `host`.

    If there is no pair, create a self-signed one; replace it if it expires within 30 days or is for another host.
    """
    replace = "replace both files, or remove both for a self-signed certificate"
    renew, live = "renew it (see nginx/README.md)", f"live/{host}"
    places = (
        _Place("own", project / "nginx/certs", "nginx/certs", "tls.crt", "tls.key", replace),
        _Place("Let's Encrypt", letsencrypt / live, f"/etc/letsencrypt/{live}", "fullchain.pem", "privkey.pem", renew),
    )
    for place in places:
        files = place.chain, place.key
        # `lexists`, because a broken link counts as present.
        missing = [file for file in files if not os.path.lexists(place.folder / file)]
        if len(missing) == 1:
            (present,) = set(files) - set(missing)
            raise InvalidInput(f"{place.name(present)} exists, but {place.name(missing[0])} does not; {place.remedy}.")
        if not missing:
            return _checked(place, host, now)
    ours = _Place("self-signed", secrets, "the volume `secrets`", vault.CERTIFICATE, vault.KEY, "start the stack again")
    try:
        _checked(ours, host, now + RENEW)
    except InvalidInput:  # whatever is wrong with it, it can be replaced: only browsers have used it
        _create(ours, host, now)
    return _checked(ours, host, now)


def _checked(place: _Place, host: str, now: datetime) -> Certificate:
    chain, key = _content(place, place.chain), _content(place, place.key)
    certificate, names = _certificate(chain, place)
    key_bits = _key_bits(key, certificate, place)
    if key_bits is not None and key_bits < MIN_RSA_BITS:
        raise InvalidInput(
            f"The key {place.name(place.key)} has {key_bits} bits, but nginx needs {MIN_RSA_BITS}; {place.remedy}."
        )
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    shown = f"The certificate {place.name(place.chain)}"
    if until <= now:
        raise InvalidInput(f"{shown} expired on {until:%Y-%m-%d}; {place.remedy}.")
    if since > now:
        raise InvalidInput(
            f"{shown} is not valid before {since:%Y-%m-%d}; correct the clock of this machine, or {place.remedy}."
        )
    if not _covers(names, host):
        raise InvalidInput(
            f"{shown} is valid for {', '.join(names) or 'no host'}, but not for {host}; set DELAYWATCH_HOST to the "
            f"name that people type, or {place.remedy}."
        )
    warning = f"{shown} expires on {until:%Y-%m-%d}, in {(until - now).days} days; {place.remedy}."
    return Certificate(
        kind=place.kind,
        chain=chain,
        key=key,
        until=until,
        is_self_signed=certificate.issuer == certificate.subject,
        warning=warning if until - now < WARN else None,
    )


def _content(place: _Place, file: str) -> bytes:
    try:
        return (place.folder / file).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{place.name(file)} cannot be read ({error.strerror}); {place.remedy}.") from None


def _certificate(chain: bytes, place: _Place) -> tuple[x509.Certificate, list[str]]:
    """Return the server's own certificate, the first of the chain, with its DNS names and addresses."""
    try:
        certificate = x509.load_pem_x509_certificates(chain)[0]
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return certificate, []  # browsers have ignored the common name since 2017
    except ValueError:
        raise InvalidInput(f"{place.name(place.chain)} is not a certificate in PEM format; {place.remedy}.") from None
    return certificate, [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def _key_bits(key: bytes, certificate: x509.Certificate, place: _Place) -> int | None:
    """Return the length of an RSA key, None for other kinds. Raises InvalidInput if it does not fit the certificate."""
    try:
        public = serialization.load_pem_private_key(key, password=None).public_key()
        is_right = public == certificate.public_key()
    except TypeError:
        raise InvalidInput(
            f"The key {place.name(place.key)} is encrypted, and nginx cannot ask for its passphrase; decrypt it "
            f"(openssl pkey -in {place.key} -out {place.key}.new) and replace it by the decrypted file."
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput(f"{place.name(place.key)} is not a private key in PEM format; {place.remedy}.") from None
    if not is_right:
        raise InvalidInput(
            f"The key {place.name(place.key)} does not belong to the first certificate in {place.chain}; put the "
            f"server's own certificate first in {place.chain}, and its key in {place.key}."
        )
    return public.key_size if isinstance(public, rsa.RSAPublicKey) else None


def _covers(names: list[str], host: str) -> bool:
    """Return True if one of the names matches the host; a wildcard matches one label, as in browsers."""
    parent = host.partition(".")[2]
    names = [name.lower() for name in names]
    return host in names or (bool(parent) and f"*.{parent}" in names)


# --- self-signed ------------------------------------------------------------------------------------------------------


def _create(place: _Place, host: str, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    # The host is an alternative name, because it may be too long for a common name.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Delaywatch, self-signed")])
    names = [_general_name(name) for name in dict.fromkeys((host, *ALWAYS))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now - SKEW + LIFE)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    put(place.folder / place.key, private, vault.PRIVATE)
    put(place.folder / place.chain, certificate.public_bytes(serialization.Encoding.PEM), vault.PRIVATE)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
