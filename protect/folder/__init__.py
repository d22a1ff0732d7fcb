"""Whole folders: protect one, fit a bank to one, apply a bank to one. Streaming, and resumable after any kill."""

from ...records.progress import StopRequest
from .fitting import fit_folder
from .merging import merge_folders
from .previewing import Preview, PreviewedPicture
from .protecting import apply_folder, protect_folder
from .publish import publish_folder

__all__ = [
    "Preview",
    "PreviewedPicture",
    "StopRequest",
    "apply_folder",
    "fit_folder",
    "merge_folders",
    "protect_folder",
    "publish_folder",
]
