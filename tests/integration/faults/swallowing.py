"""Run one upsert in a separate network that drops packets once the first rows arrive; print its error.

unshare --net python -m tests.integration.faults.swallowing LAKE SOCKET DATABASE both|ours
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servers.proxy import Proxy
from tests.steps import STEPS
from utils.errors import DelaywatchError
from utils.settings import Settings

NOTICE_SILENCE = "tcp_user_timeout=2000&keepalives_idle=1&keepalives_interval=1&keepalives_count=1"  # after 2 s


def main(lake: str, socket: str, database: str, whose: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with Proxy(socket) as proxy:
        warehouse = f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}?{NOTICE_SILENCE}"
        settings = Settings(lake=lake, warehouse=warehouse, scratch=Path(tempfile.gettempdir()), threads=2)
        packets = ["--protocol", "tcp", *(["--dport", str(proxy.port)] if whose == "ours" else [])]
        swallow = ["iptables", "--append", "OUTPUT", *packets, "--jump", "DROP"]
        proxy.before(b'COPY "pg_temp"', lambda: subprocess.run(swallow, check=True))
        try:
            STEPS["upsert"](settings)
        except DelaywatchError as error:
            sys.stdout.write(f"{type(error).__name__}: {error}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
