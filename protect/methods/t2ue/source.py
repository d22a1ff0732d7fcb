"""Generators lie in folders: one comes with bitterant, others are named. To look at one loads no network."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from ....errors import WeightsError
from ....records.config import NO_WEIGHTS, WeightsPolicy
from ....records.places import sha256_file
from ....surrogates import resolve_device

if TYPE_CHECKING:
    from .pipeline import T2UEPipeline


def embedded_folder(*, must_exist: bool = True) -> Path:
    """Where the embedded generator lies; its model card is in it.

    Raises:
        WeightsError: the installation is incomplete.
    """
    folder = Path(__file__).parent / "generator"
    if must_exist and not (folder / "model_index.json").is_file():
        raise WeightsError(f"The embedded generator is missing from {folder}. Reinstall bitterant.")
    return folder


def generator_folder(directory: Path | None) -> tuple[Path, str]:
    """The folder of a generator, and a sha256 over its files, without loading it.

    Raises:
        WeightsError: there is no generator.
    """
    folder = directory or embedded_folder()
    if not (folder / "model_index.json").is_file():
        raise WeightsError(
            f"{folder} holds no generator: there is no model_index.json in it. `bitterant t2ue train` makes one."
        )
    digest = hashlib.sha256()
    for part in ("generator", "text_embedder"):
        for path in sorted((folder / part).iterdir()) if (folder / part).is_dir() else ():
            if path.suffix in (".json", ".safetensors"):
                digest.update(f"{part}/{path.name}".encode())
                digest.update(sha256_file(path).encode())
    return folder, digest.hexdigest()


def load_source(
    directory: Path | None = None, device: str = "cpu", weights: WeightsPolicy = NO_WEIGHTS
) -> T2UEPipeline:
    """A generator with its text tower, ready to make noise.

    Args:
        directory: as ``bitterant t2ue train`` wrote it; ``None`` for the embedded one.
        device: where to compute.
        weights: of a CLIP text tower.

    Raises:
        WeightsError: there is no generator, or it is damaged.
        ConfigError, SetupError: the device is not there.
    """
    from .pipeline import T2UEPipeline, move

    pipeline = T2UEPipeline.load(generator_folder(directory)[0], weights=weights)
    place = resolve_device(device)
    move(pipeline.generator, place)
    move(pipeline.text_embedder, place)
    return pipeline
