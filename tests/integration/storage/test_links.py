"""Links and folders that somebody else has put where Delaywatch writes, deletes or reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import csv_of, flight
from tests.servers.bureau import Bureau, serving
from utils.errors import DelaywatchError
from utils.pipeline import refine
from utils.settings import Settings
from utils.sources import fetch
from utils.sources.download import RetryPolicy
from utils.storage.folder import FolderStore
from utils.storage.lake import Lake

pytestmark = pytest.mark.security

BRONZE = csv_of([flight(OP_CARRIER_FL_NUM=str(number)) for number in range(3)])
SECRET = "postgresql://loader:s3cret@host:5432/warehouse"
OUT = "leads out of the lake"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder beside the lake with things that are not Delaywatch's."""
    folder = tmp_path / "elsewhere"
    (folder / "year=2015").mkdir(parents=True)
    for name in ("letter.png", "x.lock", "year=2015/letter.png"):
        (folder / name).write_text("mine")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "lake").mkdir()
    return Settings(lake=(tmp_path / "lake").as_uri(), warehouse="", scratch=tmp_path / "scratch", threads=1)


def link(settings: Settings, key: str, to: Path) -> None:
    place = Path(settings.lake.removeprefix("file://")) / key
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(to)


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def put(store: FolderStore, _: Path) -> None:
    store.put("04_plots/year=2015/letter.png", b"ours")


def adopt(store: FolderStore, file: Path) -> None:
    store.adopt(file, "04_plots/year=2015/letter.png")


def upload(store: FolderStore, file: Path) -> None:
    store.upload(file, "04_plots/year=2015/new/letter.png")


def delete(store: FolderStore, _: Path) -> None:
    store.delete(["04_plots/year=2015/letter.png"])


@pytest.mark.parametrize("change", [put, adopt, upload, delete])
@pytest.mark.parametrize("at", ["04_plots", "04_plots/year=2015"])
def test_nothing_is_changed_through_a_link_that_leads_out_of_the_lake(
    settings: Settings, elsewhere: Path, tmp_path: Path, change: Callable[[FolderStore, Path], None], at: str
) -> None:
    link(settings, at, elsewhere)
    before, file = content(elsewhere), tmp_path / "file"
    file.write_text("ours")
    store = Lake(settings).store
    assert isinstance(store, FolderStore)

    with pytest.raises(DelaywatchError, match=OUT):
        change(store, file)

    assert content(elsewhere) == before


def test_a_link_within_the_lake_is_followed(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "lake" / "pictures").mkdir()
    link(settings, "04_plots", tmp_path / "lake" / "pictures")

    Lake(settings).store.put("04_plots/year=2015/index.html", b"ours")

    assert content(tmp_path / "lake" / "pictures") == {"year=2015/index.html": "ours"}


def test_a_lake_that_is_itself_a_link_is_used(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(tmp_path / "lake")

    Lake(settings.replace(lake=(tmp_path / "other").as_uri())).store.put("05_alerts/2015.json", b"{}")

    assert content(tmp_path / "lake") == {"05_alerts/2015.json": "{}"}


def test_pictures_of_a_linked_folder_are_not_taken_for_stale_plots(settings: Settings, elsewhere: Path) -> None:
    link(settings, "04_plots", elsewhere)
    before = content(elsewhere)

    with pytest.raises(DelaywatchError, match=OUT):
        Lake(settings).replace_plots(2015, [])

    assert content(elsewhere) == before


@pytest.mark.parametrize("at", ["_staging", "_staging/put"])
def test_staging_that_leads_elsewhere_is_neither_swept_nor_emptied(
    settings: Settings, elsewhere: Path, at: str
) -> None:
    link(settings, at, elsewhere)
    before = content(elsewhere)

    with pytest.raises(DelaywatchError, match=OUT), Lake(settings).staging(2015):
        pass

    assert content(elsewhere) == before


def test_a_link_in_place_of_a_lock_empties_nothing(settings: Settings, elsewhere: Path) -> None:
    link(settings, "_staging/year=2015.lock", elsewhere / "x.lock")

    with Lake(settings).staging(2015):
        pass

    assert content(elsewhere)["x.lock"] == "mine"


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_linked_csv_is_read_which_is_how_the_demo_takes_a_file_of_any_size(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "my-2015.csv").write_bytes(BRONZE)
    link(settings, "01_bronze/2015.csv", tmp_path / "my-2015.csv")

    refine.write_silver(settings, 2015)

    assert Lake(settings).manifest(2015)["rows"] == 3


def test_a_link_to_a_secret_shows_nothing_of_it(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "warehouse_url").write_text(SECRET + "\n")
    link(settings, "01_bronze/2015.csv", tmp_path / "warehouse_url")

    with pytest.raises(DelaywatchError, match="separated by commas, but it names none of them") as refused:
        refine.write_silver(settings, 2015)

    assert "s3cret" not in str(refused.value) + caplog.text


# --- scratch space, which is in everybody's temporary folder unless it is set ---------------------------------------


def scratch_of_lake(settings: Settings) -> Path:
    """The folder that a lake in a bucket takes for files on their way; made as the first run makes it."""
    with Lake(settings).staging(2015) as folder:
        return folder.parent


def test_scratch_space_is_for_its_user_alone(settings: Settings) -> None:
    found = scratch_of_lake(settings.replace(lake="s3://bucket"))

    assert found.stat().st_mode & 0o777 == 0o700


def test_scratch_space_that_is_a_link_is_refused(settings: Settings, elsewhere: Path) -> None:
    of_bucket = settings.replace(lake="s3://bucket")
    found = scratch_of_lake(of_bucket)
    found.rename(found.with_name("moved"))
    found.symlink_to(elsewhere)
    before = content(elsewhere)

    with pytest.raises(DelaywatchError, match=r"is a link or another user's.*DELAYWATCH_SCRATCH"):
        scratch_of_lake(of_bucket)

    assert content(elsewhere) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_scratch_space_that_another_user_has_made_is_refused(settings: Settings) -> None:
    of_bucket = settings.replace(lake="s3://bucket")
    os.chown(scratch_of_lake(of_bucket), 12345, 12345)

    with pytest.raises(DelaywatchError, match="is a link or another user's"):
        scratch_of_lake(of_bucket)


def test_what_is_fetched_waits_in_no_folder_of_somebody_else(settings: Settings, elsewhere: Path) -> None:
    settings.scratch.mkdir()
    (settings.scratch / "delaywatch-fetch").symlink_to(elsewhere)
    before = content(elsewhere)

    with serving(Bureau()) as bureau:
        asking = settings.replace(bts_url=f"{bureau.url}/PREZIP")
        with pytest.raises(DelaywatchError, match="is a link or another user's"):
            fetch.into_bronze(asking, 2015, policy=RetryPolicy(tries=1))

    assert content(elsewhere) == before
