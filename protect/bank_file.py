"""Opening a bank file of any kind, without torch where its kind needs none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from ..errors import BankError
from .textures.bank import FORMAT, TextureBank

if TYPE_CHECKING:
    from .bank import Bank


def needs_torch(path: Path) -> bool:
    """Whether a bank file may need torch: it holds perturbations, or clusters, in which new pictures are found by a
    network. Of what is no bank, yes: opening it says why."""
    metadata = _metadata(path)
    return metadata.get("format") != FORMAT or metadata.get("granularity") != "sample"


def made_for(path: Path) -> str:
    """The digest of settings and inputs that a bank file was made for; empty where it says none, or is no bank."""
    return _metadata(path).get("made_for", "")


def open_bank(path: Path) -> Bank | TextureBank:
    """Read a bank file.

    Raises:
        BankError: no such file, damaged, or of another format version.
    """
    if not path.is_file():
        raise BankError(f"There is no bank file {path}. `bitterant fit SRC BANK` makes one.")
    if _metadata(path).get("format") == FORMAT:
        return TextureBank.load(path)
    from .bank import Bank

    return Bank.load(path)


def _metadata(path: Path) -> dict[str, str]:
    """Of a safetensors file; nothing of any other."""
    try:
        with safe_open(path, framework="np") as handle:
            return handle.metadata() or {}
    except (SafetensorError, OSError):
        return {}
