"""Read superset/Dockerfile and the Python files of the image: pins, secrets, the order of the timeouts, Python 3.10.

Superset is not installed here, so its settings are read and not run.
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
CONFIG = (SUPERSET / "superset_config.py").read_text()
PROGRAMS = sorted(SUPERSET.glob("*.py"))
IMPORT_STDLIB_NAMES = """
import ast, importlib, sys
for node in ast.walk(ast.parse(open(sys.argv[1]).read())):
    if isinstance(node, ast.Import):
        [importlib.import_module(n.name) for n in node.names if n.name.split(".")[0] in sys.stdlib_module_names]
    elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in sys.stdlib_module_names:
        [getattr(importlib.import_module(node.module), n.name) for n in node.names]
"""


def settings() -> dict[str, ast.expr]:
    """What superset_config.py assigns."""
    assigned = [node for node in ast.parse(CONFIG).body if isinstance(node, ast.Assign)]
    return {target.id: node.value for node in assigned for target in node.targets if isinstance(target, ast.Name)}


def number(name: str) -> int:
    return int(ast.literal_eval(settings()[name]))


def test_each_timeout_is_longer_than_the_one_before_it() -> None:
    """The timeout of the database ends first; test_nginx_conf.py goes on from gunicorn's."""
    database = yaml.safe_load((SUPERSET / "assets" / "databases" / "warehouse.yaml").read_text())
    arguments = database["extra"]["engine_params"]["connect_args"]
    (statement_ms,) = re.findall(r"statement_timeout=(\d+)", arguments["options"])
    (gunicorn,) = re.findall(r"--timeout=(\d+)", DOCKERFILE)

    chain = [arguments["connect_timeout"], int(statement_ms) / 1000, number("SQLLAB_TIMEOUT"), int(gunicorn)]
    assert chain == sorted(set(chain))
    assert number("SUPERSET_WEBSERVER_TIMEOUT") == int(gunicorn)
    assert f"after {int(statement_ms) // 1000} seconds" in CONFIG  # as the sentence says


def test_secrets_come_from_files_alone() -> None:
    imported = {
        alias.name for node in ast.walk(ast.parse(CONFIG)) if isinstance(node, ast.Import) for alias in node.names
    }

    assert "os" not in imported
    for name in ("SECRET_KEY", "SQLALCHEMY_DATABASE_URI"):
        value = settings()[name]
        assert isinstance(value, ast.Call)
        assert ast.unparse(value.func) == "read_secret"
    assert not re.search(r"^(ARG|ENV .*(KEY|PASSWORD|SECRET|TOKEN))", DOCKERFILE, re.MULTILINE)


def test_the_browser_is_sent_to_no_other_host() -> None:
    policy = ast.literal_eval(settings()["TALISMAN_CONFIG"])["content_security_policy"]

    sources = {source for sources in policy.values() for source in ([sources] if isinstance(sources, str) else sources)}
    assert sources == {"'self'", "'none'", "'strict-dynamic'", "'unsafe-inline'", "blob:", "data:"}


def test_the_image_and_what_it_adds_are_pinned() -> None:
    assert re.search(r"^FROM apache/superset:\d+\.\d+\.\d+$", DOCKERFILE, re.MULTILINE)
    assert "--require-hashes" in DOCKERFILE
    lock = (SUPERSET / "requirements.txt").read_text()
    assert re.search(r"^psycopg2-binary==\S+ \\\n    --hash=sha256:", lock, re.MULTILINE)
    assert "://" not in lock


def test_it_runs_as_superset() -> None:
    assert re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE)[-1] == "superset"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_a_program_of_the_image_has_the_syntax_of_python_3_10(program: Path) -> None:
    """The official image has Python 3.10; ruff checks the rest of the syntax for it (pyproject.toml)."""
    assert ast.parse(program.read_text(), feature_version=(3, 10)).body


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_a_program_of_the_image_imports_only_what_python_3_10_has(program: Path) -> None:
    python_3_10 = ["env", "PYENV_VERSION=3.10", "python3.10"]  # pyenv, if installed, needs to be told
    if subprocess.run([*python_3_10, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("there is no Python 3.10 on this machine")

    done = subprocess.run(
        [*python_3_10, "-c", IMPORT_STDLIB_NAMES, program], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_the_image_can_be_built_without_buildkit() -> None:
    for dockerfile in (DOCKERFILE, (SUPERSET.parent / "stack/airflow/Dockerfile").read_text()):
        assert not re.search(
            r"^(RUN|COPY|ADD) (.*\s)?--(mount|link|chmod|parents|exclude|security|network)|<<", dockerfile, re.M
        )
