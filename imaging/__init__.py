"""Pixels in and out: folders, files, metadata, the budget, quality, and the frame of the HTML pages.

Everything here works without torch, which is imported only for :class:`ImageSet` (with :class:`Features`) and what
returns one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_exports
from ..records.config import MAX_PIXELS
from ..records.files import sweep_temporaries_of, write_atomic
from ..records.manifest import image_key
from ..records.places import sha256_file
from .codec import decode, read_header
from .encoding import encode, output_name, resolve_output_names
from .loading import FeatureExtractor, FileProblem, auto_resolution, common_size, entry_key, load_image_set
from .masking import amplitude, masking_map
from .metadata import Metadata, apply_metadata_policy
from .page import difference_tile, png_data_uri, render_page, thumbnail
from .perturb import Budget, Change, add_delta, measure_change, squash, upsample_delta
from .picture import Picture
from .scan import Entry, FolderScan, scan_folder, scan_source
from .visibility import FLIP_MISSING, Sight, Visibility, flip_available, measure_visibility, tell_sights

if TYPE_CHECKING:
    from .image_set import Features, ImageSet

__all__ = [
    "FLIP_MISSING",
    "MAX_PIXELS",
    "Budget",
    "Change",
    "Entry",
    "FeatureExtractor",
    "Features",
    "FileProblem",
    "FolderScan",
    "ImageSet",
    "Metadata",
    "Picture",
    "Sight",
    "Visibility",
    "add_delta",
    "amplitude",
    "apply_metadata_policy",
    "auto_resolution",
    "common_size",
    "decode",
    "difference_tile",
    "encode",
    "entry_key",
    "flip_available",
    "image_key",
    "load_image_set",
    "masking_map",
    "measure_change",
    "measure_visibility",
    "output_name",
    "png_data_uri",
    "read_header",
    "render_page",
    "resolve_output_names",
    "scan_folder",
    "scan_source",
    "sha256_file",
    "squash",
    "sweep_temporaries_of",
    "tell_sights",
    "thumbnail",
    "upsample_delta",
    "write_atomic",
]

__getattr__, __dir__ = lazy_exports(__name__, {"image_set": ("Features", "ImageSet")})
