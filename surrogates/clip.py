"""CLIP through open_clip: image features, a trainable last layer on them, and text features.

Nothing here fetches weights unless it is told to: a tag is taken from the local cache of the hub, a file from disk.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, SetupError, UnknownNameError, WeightsError
from ..records.config import WeightsPolicy
from ..records.text import some_counted
from .base import Surrogate
from .weights import load_state

if TYPE_CHECKING:
    from types import ModuleType


_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class _UnitScale(nn.Module):
    """Features on the sphere of radius sqrt(D): a last layer then learns at the rate it does on other networks."""

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(features, dim=-1) * math.sqrt(features.shape[-1])


class ClipSurrogate(Surrogate):
    """The image tower of a CLIP with a fresh last layer; only that layer learns.

    Args:
        model: an open_clip model.
        tokenizer: texts to token numbers.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, name: str, num_classes: int, source: str, side: int,
        mean: Sequence[float], std: Sequence[float],
    ) -> None:  # fmt: skip
        visual: nn.Module = model.visual
        width = int(model.visual.output_dim)
        net = nn.Sequential(
            OrderedDict(visual=visual, unit=_UnitScale(), head=nn.Linear(width, num_classes))  # type: ignore[arg-type]
        )
        super().__init__(
            net, name=name, num_classes=num_classes, mean=mean, std=std, source=source, side=side, head_only=True,
            bf16_on_cpu=True,
        )  # fmt: skip
        self._text: tuple[Any, Any] = (model.requires_grad_(False), tokenizer)  # a tuple hides it from the state
        self.head.requires_grad_(True)

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors float ``[len(texts), D]`` of texts, in the space of the image features."""
        model, tokenizer = self._text
        device = self.head.weight.device
        with torch.no_grad():
            features = model.to(device).eval().encode_text(tokenizer(list(texts)).to(device))
        return F.normalize(features.float(), dim=-1)

    def whole(self) -> tuple[Any, Any]:
        """The open_clip model with both towers, and its tokenizer."""
        return self._text

    def logit_scale(self) -> float:
        """What cosines are multiplied by in its contrastive loss; at most 100, as in its training."""
        return min(100.0, float(self._text[0].logit_scale.detach().exp()))

    def clip_fingerprint(self) -> str:
        """sha256 over both towers, without the last layer."""
        digest = hashlib.sha256(self.name.encode())
        for key, value in sorted(self._text[0].state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def zero_shot(self, texts: Sequence[str], *, scale: float = 100.0) -> ClipSurrogate:
        """Make the last layer compare with one text a class (Radford et al. 2021, section 3.1); returns itself."""
        weight = self.text_features(texts)
        if weight.shape != self.head.weight.shape:
            raise ConfigError(f"{len(texts)} texts for {self.num_classes} classes.")
        with torch.no_grad():
            self.head.weight.copy_(weight * (scale / math.sqrt(weight.shape[1])))
            self.head.bias.zero_()
        return self


def _open_clip() -> ModuleType:
    try:
        import open_clip
    except ImportError as error:
        raise SetupError("CLIP surrogates need open_clip. Run: pip install 'bitterant[clip]'") from error
    return open_clip


def check_clip_name(name: str) -> tuple[str, str | None]:
    """Architecture and tag of ``clip:ARCH/TAG`` or ``clip:ARCH``.

    Raises:
        SetupError: open_clip is not installed.
        UnknownNameError: open_clip knows no such architecture, or no such tag for it.
    """
    open_clip = _open_clip()
    arch, _, tag = name.removeprefix("clip:").partition("/")
    known = open_clip.list_models()
    if arch not in known:
        raise UnknownNameError("CLIP architecture", arch, known)
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if tag and tag not in tags:
        raise UnknownNameError(f"tag of clip:{arch}", tag, tags)
    return arch, tag or None


def find_clip_weights(name: str, weights: WeightsPolicy) -> Path | None:
    """The file that the weights will come from; ``None`` where they will be fetched. Loads nothing.

    Raises:
        UnknownNameError: no such architecture or tag.
        ConfigError: neither a tag nor a file.
        SetupError: open_clip is not installed, or the tag is not on this machine and may not be fetched.
    """
    arch, tag = check_clip_name(name)
    if weights.file is not None:
        return weights.file
    if tag is None:
        raise ConfigError(f"{name} names no weights. Give a tag, as in clip:ViT-B-32/openai, or --weights FILE.")
    file = _cached(_open_clip(), arch, tag)
    if file is None and not weights.download:
        raise SetupError(
            f"The weights of {name} are not on this machine. Give a file with --weights FILE, or let them be fetched "
            "with --allow-download."
        )
    return file


def clip_weights_on_disk() -> dict[str, Path]:
    """Names ``clip:ARCH/TAG`` whose weights lie in the hub's cache on this machine, with the file; fetches nothing.

    Raises:
        SetupError: open_clip is not installed.
    """
    open_clip = _open_clip()
    found = {(arch, tag): _cached(open_clip, arch, tag) for arch, tag in open_clip.list_pretrained()}
    return {f"clip:{arch}/{tag}": file for (arch, tag), file in found.items() if file is not None}


def build_clip(name: str, *, num_classes: int, weights: WeightsPolicy) -> ClipSurrogate:
    """A CLIP surrogate. The caller has seeded the generator for the last layer.

    Args:
        name: ``clip:ARCH/TAG``, or ``clip:ARCH`` with ``weights``.
        num_classes: of the last layer.
        weights: a state dictionary of the whole model, .safetensors or tensors-only torch file; or whether open_clip
            may fetch the tag.

    Raises:
        UnknownNameError: no such architecture or tag.
        ConfigError: neither a tag nor a file.
        SetupError: open_clip is not installed, or the tag is not on this machine and may not be fetched.
        WeightsError: the file does not fit.
    """
    open_clip = _open_clip()
    arch, tag = check_clip_name(name)
    file = find_clip_weights(name, weights)
    options: dict[str, Any] = {"force_quick_gelu": True} if _quick_gelu(open_clip, arch, tag) else {}
    if file is None:
        try:
            model = open_clip.create_model(arch, pretrained=tag)
        except (OSError, RuntimeError, ValueError) as error:
            raise SetupError(f"{name} could not be fetched: {error}. Use --weights FILE.") from error
        source = str(tag)
    else:
        model = open_clip.create_model(arch, pretrained=None, load_weights=False, pretrained_text=False, **options)
        _load(model, file)
        source = file.name if weights.file is not None else str(tag)
    side = model.visual.image_size
    config = open_clip.get_pretrained_cfg(arch, tag) if tag else {}
    return ClipSurrogate(
        model, open_clip.get_tokenizer(arch), name=name, num_classes=num_classes, source=source,
        side=side if isinstance(side, int) else side[0],
        mean=config.get("mean") or _MEAN, std=config.get("std") or _STD,
    )  # fmt: skip


def _quick_gelu(open_clip: ModuleType, arch: str, tag: str | None) -> bool:
    return bool(tag and open_clip.get_pretrained_cfg(arch, tag).get("quick_gelu"))


def _cached(open_clip: ModuleType, arch: str, tag: str) -> Path | None:
    """The file of a tag in the hub's cache on this machine, never the network."""
    from huggingface_hub import try_to_load_from_cache

    # "owner/repo", or "owner/repo/file" where the file has a name of its own.
    owner, _, rest = str(open_clip.get_pretrained_cfg(arch, tag).get("hf_hub", "")).strip("/").partition("/")
    repo, _, own = rest.partition("/")
    if not repo:
        return None
    usual = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
    for name in (own,) if own else usual:
        found = try_to_load_from_cache(f"{owner}/{repo}", name)
        if isinstance(found, str):
            return Path(found)
    return None


def _load(model: nn.Module, path: Path) -> None:
    state, own = load_state(path), model.state_dict()
    missing = [key for key in own if key not in state and "position_ids" not in key and "attn_mask" not in key]
    wrong = [key for key in own if key in state and state[key].shape != own[key].shape]
    left_over = [key for key in state if key not in own and "position_ids" not in key]
    problems = [f"missing {k}" for k in missing] + [f"another shape of {k}" for k in wrong]
    problems += [f"left over {k}" for k in left_over]
    if problems:
        raise WeightsError(f"{path} does not fit this architecture: {some_counted(problems, 4, joint='; ')}.")
    model.load_state_dict({key: value for key, value in state.items() if key in own}, strict=False)
