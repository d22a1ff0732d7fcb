"""Protection from text alone: captions out, noise back, and the pictures never leave their owner.

Three steps that share two files: a request (ids and captions), and a bundle of noise. Everything here works without
torch; only the generator behind :class:`NoiseSource`, and a captioner, need it.
"""

from ...records.secrets import new_secret, read_or_create_secret, read_secret, save_secret
from .applying import ApplyPlan, apply_bundle, write_summary
from .build_request import Asked, ask_for_folder, check_private_places, write_asked
from .bundle import NoiseBundle
from .generating import NoiseSource, export_npz, export_png, generate_bundle
from .request import MappedPicture, NoiseRequest, RequestLimits, RequestMap, RequestRow

__all__ = [
    "ApplyPlan",
    "Asked",
    "MappedPicture",
    "NoiseBundle",
    "NoiseRequest",
    "NoiseSource",
    "RequestLimits",
    "RequestMap",
    "RequestRow",
    "apply_bundle",
    "ask_for_folder",
    "check_private_places",
    "export_npz",
    "export_png",
    "generate_bundle",
    "new_secret",
    "read_or_create_secret",
    "read_secret",
    "save_secret",
    "write_asked",
    "write_summary",
]
