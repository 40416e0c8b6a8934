"""superset/Dockerfile and the Python files of its image: pins, secrets, timeouts, Python 3.10.

Superset is not installed here, so the tests read its settings and do not run them.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

SUPERSET = Path(__file__).resolve().parents[3] / "superset"
DOCKERFILE = (SUPERSET / "Dockerfile").read_text()
CONFIG = ast.parse((SUPERSET / "superset_config.py").read_text())
PROGRAMS = sorted(SUPERSET.glob("*.py"))
IMPORT_STDLIB_NAMES = """
import ast, importlib, sys
for node in ast.walk(ast.parse(open(sys.argv[1]).read())):
    if isinstance(node, ast.Import):
        [importlib.import_module(n.name) for n in node.names if n.name.split(".")[0] in sys.stdlib_module_names]
    elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in sys.stdlib_module_names:
        [getattr(importlib.import_module(node.module), n.name) for n in node.names]
"""


def setting(name: str) -> ast.expr:
    """Return the value that superset_config.py assigns to `name`."""
    (value,) = (
        node.value
        for node in CONFIG.body
        if isinstance(node, ast.Assign) and name in {ast.unparse(target) for target in node.targets}
    )
    return value


def test_each_timeout_is_longer_than_the_one_before_it() -> None:
    """The database's timeout is the first; test_nginx_conf.py compares gunicorn's with nginx's."""
    database = yaml.safe_load((SUPERSET / "assets" / "databases" / "warehouse.yaml").read_text())
    arguments = database["extra"]["engine_params"]["connect_args"]
    (statement_ms,) = map(int, re.findall(r"statement_timeout=(\d+)", arguments["options"]))
    (gunicorn_s,) = map(int, re.findall(r"--timeout=(\d+)", DOCKERFILE))

    chain = [statement_ms / 1000, ast.literal_eval(setting("SQLLAB_TIMEOUT")), gunicorn_s]
    assert arguments["connect_timeout"] < chain[0] < chain[1] < chain[2]
    assert ast.literal_eval(setting("SUPERSET_WEBSERVER_TIMEOUT")) == gunicorn_s
    assert f"after {statement_ms // 1000} seconds" in ast.unparse(setting("CUSTOM_DATABASE_ERRORS"))


def test_secrets_come_from_files_only() -> None:
    imported = {name.name for node in ast.walk(CONFIG) if isinstance(node, ast.Import) for name in node.names}

    assert "os" not in imported
    for name in ("SECRET_KEY", "SQLALCHEMY_DATABASE_URI"):
        assert ast.unparse(setting(name)).startswith("read_secret(")
    assert not re.search(r"^(ARG|ENV .*(KEY|PASSWORD|SECRET|TOKEN))", DOCKERFILE, re.MULTILINE)


def test_the_browser_loads_nothing_from_other_hosts() -> None:
    policy = ast.literal_eval(setting("TALISMAN_CONFIG"))["content_security_policy"]

    sources = {source for value in policy.values() for source in ([value] if isinstance(value, str) else value)}
    assert sources == {"'self'", "'none'", "'strict-dynamic'", "'unsafe-inline'", "blob:", "data:"}


def test_the_image_and_its_packages_are_pinned_and_it_does_not_run_as_root() -> None:
    lock = (SUPERSET / "requirements.txt").read_text()

    assert re.search(r"^FROM apache/superset:\d+\.\d+\.\d+$", DOCKERFILE, re.MULTILINE)
    assert "--require-hashes" in DOCKERFILE
    assert re.search(r"^psycopg2-binary==\S+ \\\n    --hash=sha256:", lock, re.MULTILINE)
    assert "://" not in lock
    assert re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE)[-1] == "superset"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_a_program_of_the_image_has_the_syntax_and_imports_of_python_3_10(program: Path) -> None:
    assert ast.parse(program.read_text(), feature_version=(3, 10)).body
    python_3_10 = ["env", "PYENV_VERSION=3.10", "python3.10"]
    if subprocess.run([*python_3_10, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("this machine has no Python 3.10, so the imports are not checked")

    command = [*python_3_10, "-c", IMPORT_STDLIB_NAMES, str(program)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)

    assert outcome.returncode == 0, outcome.stderr


def test_the_images_can_be_built_without_buildkit() -> None:
    buildkit = r"^(RUN|COPY|ADD) (.*\s)?--(mount|link|chmod|parents|exclude|security|network)|<<"
    for dockerfile in (DOCKERFILE, (SUPERSET.parent / "stack/airflow/Dockerfile").read_text()):
        assert not re.search(buildkit, dockerfile, re.MULTILINE)
