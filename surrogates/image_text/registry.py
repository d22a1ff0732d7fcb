"""Names of the image-text surrogates and of text towers alone."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigError, UnknownNameError
from ..clip import build_clip, find_clip_weights
from .base import ImageText, TextTower
from .clip import ClipImageText, ClipTexts
from .conse import Conse, ConseTexts
from .sentence import MiniLM, minilm_folder

__all__ = ["IMAGE_TEXT_NAMES", "check_image_text", "create_image_text", "create_text_tower"]

IMAGE_TEXT_NAMES = ("conse", "clip:ARCH/TAG")
"""What :func:`create_image_text` takes."""


def check_image_text(name: str, *, weights: Path | None = None, allow_download: bool = False) -> None:
    """Make sure that a surrogate's weights can be had, before any work; loads and fetches nothing.

    Raises:
        UnknownNameError: no such surrogate, architecture or tag.
        ConfigError: weights are given for ``conse``, or a CLIP has neither tag nor file.
        SetupError: they are not on this machine and may not be fetched.
    """
    if name == "conse":
        if weights is not None:
            raise ConfigError("conse brings its own weights: leave --weights out.")
        minilm_folder()
    elif name.startswith("clip:"):
        find_clip_weights(name, weights=weights, allow_download=allow_download)
    else:
        raise UnknownNameError("image-text surrogate", name, list(IMAGE_TEXT_NAMES))


def create_image_text(
    name: str, *, weights: Path | None = None, allow_download: bool = False, side: int | None = None
) -> ImageText:
    """A frozen pair of towers.

    Args:
        name: ``conse``, ``clip:ARCH/TAG``, or ``clip:ARCH`` with ``weights``.
        weights: a state dictionary of the whole CLIP.
        allow_download: whether the tag of a CLIP may be fetched.
        side: what the image tower of ``conse`` sees, in px; a CLIP has its own.

    Raises:
        As :func:`check_image_text`.
        WeightsError: the file does not fit.
    """
    check_image_text(name, weights=weights, allow_download=allow_download)
    if name == "conse":
        return Conse() if side is None else Conse(side=side)
    if side is not None:
        raise ConfigError(f"{name} sees pictures at a side of its own: leave it out.")
    return ClipImageText(name, weights=weights, allow_download=allow_download)


def create_text_tower(name: str, *, weights: Path | None = None, allow_download: bool = False) -> TextTower:
    """A text tower alone, by the ``name`` that a :class:`TextTower` carries.

    Args:
        name: ``conse/minilm``, ``minilm``, ``clip:ARCH/TAG@SOURCE`` or ``clip:ARCH/TAG``.
        weights, allow_download: as for :func:`create_image_text`.
    """
    if name == "minilm":
        return MiniLM()
    if name == "conse/minilm":
        return ConseTexts()
    if name.startswith("clip:"):
        surrogate = build_clip(name.partition("@")[0], num_classes=2, weights=weights, allow_download=allow_download)
        return ClipTexts(surrogate.eval())
    raise UnknownNameError("text tower", name, ["conse/minilm", "minilm", "clip:ARCH/TAG"])
