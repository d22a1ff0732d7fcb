"""What operating systems, file servers and photo programs leave in folders of pictures, and nobody means as input."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

__all__ = ["HIDDEN", "why_left_aside"]

#: The reason why a hidden or system file is left aside. Nobody needs to be told of these.
HIDDEN: Final = "hidden"

#: Bins, thumbnails, indexes and snapshots, in lower case. What begins with a dot is hidden anyway.
_SYSTEM_NAMES: Final = frozenset(
    # Windows
    {"$recycle.bin", "recycler", "recycled", "$extend", "system volume information", "wpsystem"}
    | {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"}
    # macOS, and what its archives hold
    | {"__macosx", "network trash folder", "temporary items", "icon\r"}
    # Linux
    | {"lost+found"}
    # file servers: Synology, QNAP, NetApp
    | {"@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@sharebin", "@tmp", "@__thumb"}
    | {"~snapshot", "$snapshot"}
    # programs
    | {"picasa.ini", "zbthumbnail.info", "__pycache__"}
)
_NUMBERED: Final = re.compile(r"found\.\d{3}")  # what chkdsk saves

#: Folders that a photo program keeps as one document: previews, and originals that no one else may touch.
_BUNDLES: Final = {
    ".photoslibrary": "Photos",
    ".migratedphotolibrary": "iPhoto",
    ".photolibrary": "iPhoto",
    ".aplibrary": "Aperture",
    ".migratedaplibrary": "Aperture",
    ".lrdata": "Lightroom",
    ".lrcat-data": "Lightroom",
    ".lrlibrary": "Lightroom",
    ".cocatalog": "Capture One",
}


def why_left_aside(name: str) -> str | None:
    """Why a file or folder of this name is never input; ``None`` where it may be.

    :data:`HIDDEN` for hidden and system files, a text that people need to read for the library of a photo program.
    """
    folded = name.casefold()
    if name.startswith(".") or folded in _SYSTEM_NAMES or _NUMBERED.fullmatch(folded):
        return HIDDEN
    program = _BUNDLES.get(PurePosixPath(folded).suffix)
    if program is not None:
        return f"belongs to {program}, which keeps it as one document; export the pictures from there"
    return None
