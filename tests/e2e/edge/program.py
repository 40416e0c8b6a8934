"""An echo program behind nginx: it answers with the request, and plays a real program on some paths.

`python program.py PORT NAME`. `.../stream` sends one line, and the second line after `.../release`; `.../busy` answers
503 and `.../broken` 500 with a text of the program; `.../websocket` repeats one message; `.../redirect` asks nginx for
a file by X-Accel-Redirect.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WEBSOCKET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
RELEASED = threading.Event()


class Program(BaseHTTPRequestHandler):
    """Every answer has the headers of Superset's Talisman, which nginx must replace."""

    protocol_version = "HTTP/1.1"
    server_version = "Program/1.0"

    def answer(self) -> None:
        """Answer a request of any method."""
        left = int(self.headers.get("Content-Length", "0"))
        received = 0
        while left > received and (piece := self.rfile.read(min(1 << 20, left - received))):
            received += len(piece)
        last = self.path.partition("?")[0].rpartition("/")[2]
        if last == "stream":
            self.stream()
        elif last == "websocket" and self.headers.get("Upgrade") == "websocket":
            self.websocket()
        elif last in ("busy", "broken"):
            self.say(503 if last == "busy" else 500, b"its own words")
        else:
            if last == "release":
                RELEASED.set()
            seen = {
                "program": sys.argv[2],
                "method": self.command,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "received": received,
            }
            self.say(200, json.dumps(seen).encode(), accel=last == "redirect")

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = answer  # noqa: N815 - http.server looks for these names

    def say(self, status: int, body: bytes, accel: bool = False) -> None:
        """Send a complete answer."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Strict-Transport-Security", "max-age=31556926; includeSubDomains")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "unsafe-url")
        self.send_header("X-Powered-By", "Program")
        self.send_header("Content-Security-Policy", "default-src 'self'")
        self.send_header("Set-Cookie", "session=1; Path=/; HttpOnly")
        if accel:
            self.send_header("X-Accel-Redirect", "/.delaywatch/away/Superset.html")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def stream(self) -> None:
        """Send one line, and another one after a request for `.../release`."""
        RELEASED.clear()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"6\r\nfirst\n\r\n")
        if RELEASED.wait(20):
            self.wfile.write(b"7\r\nsecond\n\r\n0\r\n\r\n")
        else:  # the client has not received the first line
            self.close_connection = True

    def websocket(self) -> None:
        """Accept the upgrade and send one short text message back."""
        key = self.headers["Sec-WebSocket-Key"] + WEBSOCKET
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())  # noqa: S324
        self.end_headers()
        head = self.rfile.read(2)
        mask = self.rfile.read(4)
        text = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(head[1] & 127)))
        self.wfile.write(bytes([0x81, len(text)]) + text)
        self.close_connection = True


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1])), Program).serve_forever()
