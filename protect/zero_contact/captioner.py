"""An optional captioner: an image-to-text model from a folder on this machine, through transformers."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from PIL import Image

from ...errors import ConfigError, SetupError
from ...imaging.captions import Captioner
from ...imaging.codec import decode

__all__ = ["load_captioner"]

_TOKENS = 40


def load_captioner(folder: Path | str, *, device: str = "cpu") -> Captioner:
    """Load a captioner such as BLIP or GIT. Nothing is fetched; the pictures go nowhere.

    Args:
        folder: model and processor as transformers' ``save_pretrained`` writes them.
        device: where it runs.

    Raises:
        ConfigError: there is no such folder.
        SetupError: transformers is not installed, or the folder holds no image-to-text model.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {folder}. A captioner is a local folder with an image-to-text model.")
    try:
        transformers: Any = importlib.import_module("transformers")
        processors, models = transformers.AutoProcessor, transformers.AutoModelForImageTextToText
    except (ImportError, AttributeError) as error:
        raise SetupError(
            f"A captioner needs transformers, which is not installed or too old ({error}). "
            "Run: pip install 'transformers>=4.50'"
        ) from error
    try:
        # Never a program that lies in the folder, and no question whether to run it either.
        trusting = {"local_files_only": True, "trust_remote_code": False}
        processor = processors.from_pretrained(folder, **trusting)
        model = models.from_pretrained(folder, **trusting).to(device).eval()
    except Exception as error:  # whatever transformers raises on a folder that is not what it should be
        raise SetupError(f"{folder} holds no image-to-text model that transformers can load: {error}") from error

    def describe(path: Path) -> str:
        image = Image.fromarray(decode(path).rgb8())
        inputs = processor(images=image, return_tensors="pt").to(device)
        tokens = model.generate(**inputs, max_new_tokens=_TOKENS)
        return str(processor.batch_decode(tokens, skip_special_tokens=True)[0])

    return describe
