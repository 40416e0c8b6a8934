"""Settings of the stack's Jupyter server: address behind nginx, token, kernels. labconfig/ has the page's settings.

Jupyter reads this file because JUPYTER_CONFIG_PATH names the folder. After an exception in it, Jupyter would start with
default settings; SystemExit stops it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

NOTEBOOKS = Path("/opt/airflow/notebooks")
TOKEN = Path("/run/delaywatch/token")

try:
    token = TOKEN.read_text().strip()
except OSError as error:
    sys.exit(f"{TOKEN} cannot be read ({error.strerror}); `setup` writes it, so start the whole stack (make up).")
if not token:  # an empty token would disable authentication
    sys.exit(f"{TOKEN} is empty, so Jupyter does not start; run `setup` again, which writes it.")
if not os.access(NOTEBOOKS, os.W_OK):
    sys.stderr.write(
        f"Jupyter runs as user {os.getuid()}, but the notebooks belong to user {NOTEBOOKS.stat().st_uid}, so they run "
        f"but cannot be saved. Set DELAYWATCH_UID={NOTEBOOKS.stat().st_uid} in .env.\n"
    )

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - Jupyter gives it to the file

c.ServerApp.ip = "0.0.0.0"  # noqa: S104 # nosec B104 # the container publishes no port
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0  # nginx knows only this port
c.ServerApp.base_url = "/jupyter/"
c.ServerApp.root_dir = str(NOTEBOOKS)
c.ServerApp.open_browser = False
c.ServerApp.quit_button = False  # Compose would start the server again
c.IdentityProvider.token = token
# nginx forwards the requested host name, the client's address and the scheme https, which makes the cookie secure.
# Requests from pages of another origin are still rejected, because their Origin differs from the host.
c.ServerApp.allow_remote_access = True
c.ServerApp.trust_xheaders = True
# A cell can do what a terminal can; without terminals no shell stays behind, and idle kernels are culled.
c.ServerApp.terminals_enabled = False
c.ServerApp.jpserver_extensions = {"jupyter_lsp": False, "jupyter_server_terminals": False}

# Kernels use sockets in /tmp, because every service of the network could reach ports.
c.KernelManager.transport = "ipc"
# A kernel that is idle for two hours is stopped to free its memory, even if its page is still open.
c.MappingKernelManager.cull_idle_timeout = 2 * 60 * 60
c.MappingKernelManager.cull_interval = 5 * 60
c.MappingKernelManager.cull_connected = True

c.FileContentsManager.delete_to_trash = False  # the root is read-only and has no trash folder

# No requests to the internet: PyPI for extensions, which cannot be installed, and news and releases of JupyterLab.
c.LabApp.extension_manager = "readonly"
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
