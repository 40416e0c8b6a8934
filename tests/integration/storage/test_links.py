"""Links and folders that another user has placed where Delaywatch writes, deletes or reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from utils.errors import DelaywatchError, InvalidInput, Missing
from utils.pipeline import refine
from utils.settings import Settings
from utils.sources import fetch
from utils.storage.lake import Lake

pytestmark = pytest.mark.security

PLOT = "04_plots/year=2015/letter.png"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder next to the lake with files of another user."""
    folder = tmp_path / "elsewhere"
    (folder / "year=2015").mkdir(parents=True)
    for name in ("letter.png", "x.lock", "year=2015/letter.png"):
        (folder / name).write_text("mine")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "lake").mkdir()
    return Settings(lake=(tmp_path / "lake").as_uri(), warehouse="", scratch=tmp_path / "scratch", threads=1)


def link(settings: Settings, key: str, target: Path) -> None:
    path = Path(settings.lake.removeprefix("file://")) / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def use_staging(lake: Lake, _: Path) -> None:
    with lake.staging(2015):
        pass


@pytest.mark.parametrize(
    ("linked", "change"),
    [
        *((at, change) for at in ("04_plots", "04_plots/year=2015") for change in (
            lambda lake, _: lake.store.put(PLOT, b"ours"),
            lambda lake, file: lake.store.adopt(file, PLOT),
            lambda lake, file: lake.store.upload(file, "04_plots/year=2015/new/letter.png"),
            lambda lake, _: lake.store.delete([PLOT]),
        )),
        ("04_plots", lambda lake, _: lake.replace_plots(2015, [])),
        ("_staging", use_staging),
        ("_staging/put", use_staging),
    ],
)  # fmt: skip
def test_nothing_is_changed_through_a_link_out_of_the_lake(
    settings: Settings, elsewhere: Path, tmp_path: Path, linked: str, change: Callable[[Lake, Path], None]
) -> None:
    link(settings, linked, elsewhere)
    before, file = content(elsewhere), tmp_path / "file"
    file.write_text("ours")

    with pytest.raises(InvalidInput, match="out of the lake"):
        change(Lake(settings), file)

    assert content(elsewhere) == before


def test_a_link_in_place_of_a_lock_does_not_empty_its_target(settings: Settings, elsewhere: Path) -> None:
    link(settings, "_staging/year=2015.lock", elsewhere / "x.lock")

    use_staging(Lake(settings), Path())

    assert content(elsewhere)["x.lock"] == "mine"


def test_a_linked_secret_is_neither_shown_nor_logged(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "warehouse_url").write_text("postgresql://loader:s3cret@host:5432/warehouse\n")
    link(settings, "01_bronze/2015.csv", tmp_path / "warehouse_url")

    with pytest.raises(DelaywatchError, match=r"2015\.csv") as caught:
        refine.write_silver(settings, 2015)

    assert "s3cret" not in str(caught.value) + caplog.text


# --- scratch space, by default in a folder that all users may write ---------------------------------------------------


def scratch_of_bucket(settings: Settings) -> Path:
    """Return the folder that a lake in a bucket uses for temporary files."""
    with Lake(settings.replace(lake="s3://bucket")).staging(2015) as folder:
        return folder.parent


def fetch_scratch(settings: Settings) -> Path:
    """Return the folder of unfinished downloads."""
    with suppress(Missing):
        fetch.into_bronze(settings, 2015, folder=settings.scratch.parent / "empty")
    return settings.scratch / "delaywatch-fetch"


@pytest.mark.parametrize("use_scratch", [scratch_of_bucket, fetch_scratch])
def test_scratch_space_is_private_and_refused_if_another_user_controls_it(
    settings: Settings, elsewhere: Path, tmp_path: Path, use_scratch: Callable[[Settings], Path]
) -> None:
    (tmp_path / "empty").mkdir()
    folder = use_scratch(settings)
    assert folder.stat().st_mode & 0o777 == 0o700
    before = content(elsewhere)

    if os.geteuid() == 0:  # only root can give a folder to another user
        os.chown(folder, 12345, 12345)
        with pytest.raises(InvalidInput, match="DELAYWATCH_SCRATCH"):
            use_scratch(settings)
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(elsewhere)
    with pytest.raises(InvalidInput, match="DELAYWATCH_SCRATCH"):
        use_scratch(settings)

    assert content(elsewhere) == before
