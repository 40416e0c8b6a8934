"""Build what a Spark cluster needs for the step `silver` into build/spark/: `make spark-bundle`.

silver_job.py               the script
utils.zip                   our package, for --extra-py-files of Glue or --py-files of spark-submit
delaywatch.gluewheels.zip   the locked wheels for Glue's Python, for --additional-python-modules of Glue
VERSION                     the checked-out commit, which deploy.sh compares with its own

pip downloads the wheels and checks the hashes of requirements/spark.txt. A second build has the same bytes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("silver_job.py")
LOCK = ROOT / "requirements/spark.txt"
CODE, WHEELS = "utils.zip", "delaywatch.gluewheels.zip"  # Glue unpacks wheels from a file that ends in .gluewheels.zip
VERSION = "VERSION"
PYTHON = {  # of AWS Glue 6.0, on Amazon Linux 2023 with glibc 2.34
    "python_version": "3.13",
    "python_full_version": "3.13.0",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "sys_platform": "linux",
}
PLATFORMS = ["manylinux2014_x86_64", *(f"manylinux_2_{minor}_x86_64" for minor in range(17, 35))]
GLUE_PACKAGES = {"pyspark", "py4j"}


def pins(lock: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Yield package and hashes of each entry of a lock that Glue's Python needs and does not have."""
    entries = list[list[str]]()
    for line in lock.splitlines():
        if line.startswith("    --hash="):
            entries[-1].append(line.strip().rstrip(" \\"))
        elif line and not line.startswith((" ", "#")):
            entries.append([line.rstrip(" \\")])
    for first, *hashes in entries:
        package = Requirement(first)
        if package.name not in GLUE_PACKAGES and (package.marker is None or package.marker.evaluate(PYTHON)):
            package.marker = None
            yield package, hashes


def download(wheels: Path) -> None:
    """Download the wheels of the lock into a folder, with a requirements.txt of their versions, as Glue asks for."""
    chosen = list(pins(LOCK.read_text(encoding="utf-8")))
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as locked:
        locked.writelines(f"{package} {' '.join(hashes)}\n" for package, hashes in chosen)
        locked.flush()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--require-hashes", "--only-binary=:all:", "--python-version", PYTHON["python_version"]]
        command += [f"--platform={platform}" for platform in PLATFORMS]
        subprocess.run([*command, "--dest", str(wheels), "--requirement", locked.name], check=True)
    (wheels / "requirements.txt").write_text("".join(f"{package}\n" for package, _ in chosen), encoding="utf-8")


def write_zip(target: Path, files: Iterable[Path], root: Path) -> None:
    """Write the files with their paths below `root`, without the times and owners of this machine."""
    with ZipFile(target, "w") as archive:
        for file in sorted(files):
            entry = ZipInfo(str(file.relative_to(root)))
            entry.compress_type = ZIP_STORED if file.suffix == ".whl" else ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes())


def write_code(target: Path) -> None:
    """Write our package as a zip."""
    dags = ROOT / "dags"
    files = (path for path in (dags / "utils").rglob("*") if path.is_file() and path.suffix != ".pyc")
    write_zip(target, files, dags)


def version(repository: Path) -> str:
    """Return the checked-out commit as `version` of deploy.sh does. Raises CalledProcessError outside a git clone."""
    command = ["git", "-C", str(repository), "describe", "--always", "--tags"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return re.sub(r"[^A-Za-z0-9._-]", "-", found)


def main() -> None:
    """Replace build/spark/ and print its files."""
    folder = ROOT / "build/spark"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(SCRIPT, folder)
    write_code(folder / CODE)
    with tempfile.TemporaryDirectory() as temporary:
        wheels = Path(temporary, "wheels")
        wheels.mkdir()
        download(wheels)
        write_zip(folder / WHEELS, wheels.iterdir(), wheels.parent)
    (folder / VERSION).write_text(f"{version(ROOT)}\n", encoding="utf-8")  # last: without it the bundle is not complete
    for file in sorted(folder.iterdir()):
        sys.stdout.write(f"{file.relative_to(ROOT)}  {file.stat().st_size / 1e6:.1f} MB\n")


if __name__ == "__main__":
    main()
