"""Ask the object store as any program on the network `lake` can; print as JSON what it answers.

The scheduler's Python runs it.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

HOST = "s3"
GRPC = 18333
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # what a gRPC client sends first
WRONG = {"aws_access_key_id": "A" * 20, "aws_secret_access_key": "b" * 40}
RIGHT_NAME = {"aws_access_key_id": boto3.Session().get_credentials().access_key, "aws_secret_access_key": "b" * 40}


def accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=5).close()
    except OSError:
        return False
    return True


def status(**how: object) -> int:
    """The HTTP status of a listing of the lake."""
    try:
        answer = boto3.client("s3", **how).list_objects_v2(Bucket="delaywatch", MaxKeys=1)
    except ClientError as error:
        answer = error.response
    return int(answer["ResponseMetadata"]["HTTPStatusCode"])


def grpc_without_tls() -> str:
    """The first bytes that the gRPC port sends to a client without TLS, as hex; a gRPC server sends its settings."""
    with socket.create_connection((HOST, GRPC), timeout=10) as connection:
        connection.sendall(HTTP2)
        try:
            return connection.recv(64).hex()
        except OSError:
            return ""


def grpc_accepts_tls() -> bool:
    """Whether a client that checks nothing and has no certificate gets through the TLS handshake of the gRPC port."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((HOST, GRPC), timeout=10) as connection:
        try:
            context.wrap_socket(connection).close()
        except OSError:
            return False
    return True


def main() -> None:
    with ThreadPoolExecutor(64) as pool:
        ports = [port for port, is_open in enumerate(pool.map(accepts, range(1, 65536)), start=1) if is_open]
    found = {
        "ports": ports,
        "status": {
            "right": status(),
            "unsigned": status(config=Config(signature_version=UNSIGNED)),
            "wrong": status(**WRONG),
            "wrong secret": status(**RIGHT_NAME),
        },
        "grpc without TLS": grpc_without_tls() if GRPC in ports else "",
        "grpc accepts TLS": GRPC in ports and grpc_accepts_tls(),
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
