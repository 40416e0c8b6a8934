"""Send requests to the object store as any program on the network `lake` can, and print the answers as JSON.

The Python of the scheduler runs it.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

GRPC = ("s3", 18333)
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # the first bytes of a gRPC client
WRONG = {"aws_access_key_id": "A" * 20, "aws_secret_access_key": "b" * 40}
RIGHT_NAME = {"aws_access_key_id": boto3.Session().get_credentials().access_key, "aws_secret_access_key": "b" * 40}


def status(**options: object) -> int:
    """Return the HTTP status of a listing of the lake."""
    try:
        answer = boto3.client("s3", **options).list_objects_v2(Bucket="delaywatch", MaxKeys=1)
    except ClientError as error:
        answer = error.response
    return int(answer["ResponseMetadata"]["HTTPStatusCode"])


def grpc_without_tls() -> str:
    """Return the first bytes, as hex, that the gRPC port sends to a client without TLS: settings if it accepts it."""
    with socket.create_connection(GRPC, timeout=10) as connection:
        connection.sendall(HTTP2)
        try:
            return connection.recv(64).hex()
        except OSError:
            return ""


def grpc_accepts_tls() -> bool:
    """Return whether a client without a certificate completes the TLS handshake with the gRPC port."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(GRPC, timeout=10) as connection:
        try:
            context.wrap_socket(connection).close()
        except OSError:
            return False
    return True


def main() -> None:
    statuses = {
        "right": status(),
        "unsigned": status(config=Config(signature_version=UNSIGNED)),
        "wrong": status(**WRONG),
        "wrong secret": status(**RIGHT_NAME),
    }
    grpc = {"grpc without TLS": grpc_without_tls(), "grpc accepts TLS": grpc_accepts_tls()}
    sys.stdout.write(json.dumps({"status": statuses, **grpc}))


if __name__ == "__main__":
    main()
