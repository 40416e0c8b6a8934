"""superset/Dockerfile and superset_config.py, which the tests read because Superset is not installed here."""

from __future__ import annotations

import ast
import re
from pathlib import Path

SUPERSET = Path(__file__).resolve().parents[2] / "superset"
DOCKERFILE = (SUPERSET / "Dockerfile").read_text()
CONFIG = ast.parse((SUPERSET / "superset_config.py").read_text())
SETTINGS = {ast.unparse(node.targets[0]): node.value for node in CONFIG.body if isinstance(node, ast.Assign)}


def names_in(tree: ast.AST) -> set[str]:
    """Return imported modules and objects, and all names and attributes that the code uses."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            names.update(node.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
    return names


def test_secrets_come_from_files_only() -> None:
    texts = [path.read_text() for path in SUPERSET.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    passwords = {password for text in texts for password in re.findall(r"://[^\s:/@]+:([^\s@]+)@", text)}

    assert names_in(CONFIG) & {"os", "environ", "environb", "getenv"} == set()
    for name in ("SECRET_KEY", "SQLALCHEMY_DATABASE_URI"):
        assert ast.unparse(SETTINGS[name]).startswith("read_secret(")
    assert not re.search(r"^(ARG|ENV .*(KEY|PASSWORD|SECRET|TOKEN))", DOCKERFILE, re.MULTILINE)
    assert passwords <= {"password"}  # the example in a message of provision.py


def test_the_browser_loads_nothing_from_other_hosts() -> None:
    policy = ast.literal_eval(SETTINGS["TALISMAN_CONFIG"])["content_security_policy"]

    sources = {source for value in policy.values() for source in ([value] if isinstance(value, str) else value)}
    assert sources == {"'self'", "'none'", "'strict-dynamic'", "'unsafe-inline'", "blob:", "data:"}


def test_the_image_installs_only_pinned_packages_and_does_not_run_as_root() -> None:
    assert re.search(r"^FROM apache/superset:\d+\.\d+\.\d+$", DOCKERFILE, re.MULTILINE)
    assert "--require-hashes" in DOCKERFILE
    assert re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE)[-1] == "superset"
