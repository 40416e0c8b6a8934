"""Free ports, and waiting for a condition that another process causes."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable


def wait_until(is_true: Callable[[], object], condition: str, timeout_s: float = 60) -> None:
    """Wait for a condition. The test fails with the condition after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, f"not true after {timeout_s} s: {condition}"
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Return different ports of this host that no program uses."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in sockets]
    for server in sockets:
        server.close()
    return ports
