"""Which folder or bucket `DELAYWATCH_LAKE` names."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from utils.errors import InvalidInput
from utils.settings import Settings
from utils.storage.folder import FolderStore
from utils.storage.stores import Store

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FOLDER_URL = re.compile(r"(?i:file)://(/.*)", re.DOTALL)
_BUCKET_URL = re.compile(r"(?i:s3)://([^/]+)/?(.*)", re.DOTALL)


def open_store(settings: Settings) -> Store:
    """Return the store at `settings.lake`: `file:///folder` or `s3://bucket[/prefix]`.

    The path of a file URL is percent-decoded, as in every file URL; bucket and prefix are taken literally, as AWS does.
    Raises InvalidInput for another URL, and for a name that another program would cut or read differently.
    """
    lake = settings.lake
    folder, bucket = _FOLDER_URL.fullmatch(lake), _BUCKET_URL.fullmatch(lake)
    if _CONTROL.search(lake):
        raise InvalidInput(f"DELAYWATCH_LAKE is {lake!r}; write it without tabs, line ends and control characters.")
    if (folder or bucket) and (cut := re.search("[?#]", lake)):
        rename = "write # as %23 and ? as %3F" if folder else "take a prefix without # and ?"
        raise InvalidInput(
            f"DELAYWATCH_LAKE is {lake!r}, and {cut[0]} would end the name; {rename}. Earlier releases used "
            f"{lake[: cut.start()]!r}: write that to keep the years that are there."
        )
    if folder:
        return FolderStore(_decoded(folder[1], lake))
    if bucket:
        # boto3 takes 30 MB, which a lake in a folder does not need.
        from utils.storage.bucket import BucketStore

        return BucketStore(settings, bucket[1], bucket[2].strip("/"))
    raise InvalidInput(
        f"The lake {lake!r} is neither file:///folder nor s3://bucket[/prefix]; correct DELAYWATCH_LAKE."
    )


def _decoded(path: str, lake: str) -> Path:
    """Return the folder that the path of a file URL names. Raises InvalidInput for a % that encodes nothing."""
    try:
        decoded = unquote(path, errors="strict")
        is_encoded = not re.search("%(?![0-9A-Fa-f]{2})", path) and not _CONTROL.search(decoded)
    except UnicodeDecodeError:
        is_encoded = False
    if not is_encoded:
        raise InvalidInput(
            f"DELAYWATCH_LAKE is {lake!r}, in which a % does not encode a character; write % itself as %25."
        )
    return Path(decoded)
