"""Autoencoders from disk: any of diffusers, and the tiny ones that are kept as two files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import WeightsError
from ...imaging.structured import read_json
from ...surrogates import load_state

__all__ = ["Autoencoder", "load_autoencoder"]

# A folder names its class, and not any of diffusers' classes is fit to be made of a folder from elsewhere.
_DIFFUSERS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "AsymmetricAutoencoderKL", "VQModel")
_ENCODER, _DECODER = "_encoder.safetensors", "_decoder.safetensors"


@dataclass(frozen=True)
class Autoencoder:
    """There and back.

    Attributes:
        title: for people.
        multiple: the side of a picture must be a multiple of this many px.
        reconstruct: float ``[B, 3, H, W]`` in [0, 1] to the same shape.
    """

    title: str
    multiple: int
    reconstruct: Callable[[Tensor], Tensor]


@lru_cache(maxsize=1)
def load_autoencoder(path: Path) -> Autoencoder:
    """Read an autoencoder. Nothing is fetched.

    Args:
        path: a folder that diffusers saved, or ``NAME_encoder.safetensors`` beside ``NAME_decoder.safetensors``.

    Raises:
        WeightsError: there is nothing there, or it cannot be read as one.
    """
    if path.is_dir():
        return _from_diffusers(path)
    if not path.name.endswith(_ENCODER):
        raise WeightsError(
            f"{path} is neither a folder saved by diffusers nor a file NAME{_ENCODER} with NAME{_DECODER} beside it."
        )
    return _from_files(path, path.with_name(path.name.removesuffix(_ENCODER) + _DECODER))


def _from_diffusers(folder: Path) -> Autoencoder:
    import diffusers

    try:
        kind = read_json(folder / "config.json", repeats=True)["_class_name"]
        if kind not in _DIFFUSERS:
            raise ValueError(f"it is a {kind!s:.40}, and only {', '.join(_DIFFUSERS)} are read")
        model = getattr(diffusers, kind).from_pretrained(folder, local_files_only=True).eval()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise WeightsError(f"{folder} cannot be read as an autoencoder of diffusers: {error}") from error
    if not hasattr(model, "encode") or not hasattr(model, "decode"):
        raise WeightsError(f"{folder} holds a {kind}, which is no autoencoder.")
    channels = model.config.get("block_out_channels") or model.config.get("encoder_block_out_channels") or (0,) * 4

    def reconstruct(batch: Tensor) -> Tensor:
        encoded = model.encode(batch * 2 - 1)  # all of diffusers' autoencoders live in [-1, 1]
        # The middle of the distribution: drawing from it would make the pictures depend on a seed.
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded[0]
        return (model.decode(latents).sample + 1) / 2

    return Autoencoder(f"{kind} from {folder.name}", 2 ** max(3, len(channels) - 1), reconstruct)


class _Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class _Block(nn.Module):
    """Three convolutions with a shortcut; ``pooled`` adds a normalised bottleneck of 1 x 1 convolutions before."""

    def __init__(self, width: int, *, pooled: bool) -> None:
        super().__init__()
        layers = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        self.pool = None
        if pooled:
            wide = 4 * width
            self.pool = nn.Sequential(
                nn.Conv2d(width, wide, 1, bias=False), nn.GroupNorm(4, wide), nn.ReLU(),
                nn.Conv2d(wide, width, 1, bias=False),
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


def _half(width: int) -> nn.Module:
    return nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)


def _double(width: int) -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)]


def _tiny(latents: int, width: int, *, pooled: bool) -> tuple[nn.Sequential, nn.Sequential]:
    """Encoder and decoder of madebyollin/taesd (MIT): three halvings, three blocks at each scale."""

    def blocks(*, deepest: bool = False) -> list[nn.Module]:
        return [_Block(width, pooled=pooled and deepest) for _ in range(3)]

    encoder = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), _Block(width, pooled=False),
        _half(width), *blocks(), _half(width), *blocks(), _half(width), *blocks(deepest=True),
        nn.Conv2d(width, latents, 3, padding=1),
    )  # fmt: skip
    decoder = nn.Sequential(
        _Clamp(), nn.Conv2d(latents, width, 3, padding=1), nn.ReLU(),
        *blocks(deepest=True), *_double(width), *blocks(), *_double(width), *blocks(), *_double(width),
        _Block(width, pooled=False), nn.Conv2d(width, 3, 3, padding=1),
    )  # fmt: skip
    return encoder, decoder


def _from_files(first: Path, second: Path) -> Autoencoder:
    states = [load_state(first), load_state(second)]
    try:
        latents, width = states[1]["1.weight"].shape[1], states[1]["1.weight"].shape[0]
        pooled = any(".pool." in key for key in states[0])
        networks = _tiny(latents, width, pooled=pooled)
        for network, state in zip(networks, states, strict=True):
            network.load_state_dict({key: value.float() for key, value in state.items()})
            network.eval()
    except (KeyError, IndexError, RuntimeError) as error:
        raise WeightsError(f"{first} and {second.name} are no tiny autoencoder: {error}") from error
    title = f"{first.name.removesuffix(_ENCODER)}, {latents} channels at an eighth of the side"
    return Autoencoder(title, 8, lambda batch: networks[1](networks[0](batch)).clamp(0, 1))
