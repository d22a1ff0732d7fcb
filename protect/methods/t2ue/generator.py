"""Text and a random vector to bounded noise: the paper's network, as a model of diffusers.

Seven gated blocks, six times twice the size, 256 px, 31.3 million parameters with the defaults here; fewer and narrower
blocks of the same code make the small ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn

from ....errors import ConfigError
from .blocks import GatedBlock, MaskHead, enlarge_mask
from .carriers import Carriers

__all__ = ["NoiseGenerator", "NoiseOutput", "SSANoiseGenerator", "bounded"]

BOUNDS = ("tanh", "clamp")


@dataclass
class NoiseOutput(BaseOutput):
    """What a generator gives.

    Attributes:
        delta: float ``[B, 3, S, S]`` within ``±epsilon``, in units of the full range.
        masks: where the text could act, a list of ``[B, 1, h, w]`` in (0, 1); empty without masks.
    """

    delta: Tensor
    masks: list[Tensor]


def bounded(out: Tensor, epsilon: float, bound: str) -> Tensor:
    """Into ``±epsilon``: ``tanh`` scales, ``clamp`` cuts tanh off, as the authors' code does."""
    value = torch.tanh(out.float())
    return epsilon * value if bound == "tanh" else value.clamp(-epsilon, epsilon)


class NoiseGenerator(ModelMixin, ConfigMixin):
    """What every generator offers: ``forward(z, text) -> NoiseOutput``, ``draw``, sizes, gates that start open."""

    @property
    def native_size(self) -> int:
        """Side S of the noise in px."""
        raise NotImplementedError

    @property
    def text_dim(self) -> int:
        """Length of the text vectors that it takes."""
        raise NotImplementedError

    @property
    def epsilon(self) -> float:
        """The bound, in units of the full range."""
        return float(cast(Any, self.config).epsilon)

    def draw(self, seed: int) -> Tensor:
        """The random vector of a seed, without a batch axis; the same on every machine with the same torch."""
        raise NotImplementedError

    def forward(self, z: Tensor, text: Tensor) -> NoiseOutput:
        """Noise for ``z`` [B, ...] and ``text`` [B, D]."""
        raise NotImplementedError


class SSANoiseGenerator(NoiseGenerator):
    """The paper's generator.

    Args:
        latent_dim: length of z; 100 in the authors' code.
        text_dim: length of the text vectors; 512 for CLIP ViT-B/32.
        ngf: base width; ``text_dim // 8`` in the paper.
        multipliers: channels of the blocks in units of ``ngf``. From the second on each block doubles the size.
        base: side of the first map.
        hidden: width of the layers that steer the norms.
        mask_hidden: width of the mask heads.
        use_mask: whether masks are predicted; without, the text acts everywhere.
        gate_init: see :class:`GatedBlock`; 0 in the paper.
        text_init: how far the text acts at the start, see :class:`TextSteeredNorm`; 0 in the paper.
        carriers: periods in px of fixed waves that enter the last block, see :class:`Carriers`; none in the paper.
        carrier_shift: how far z moves them, as a share of the side; 0 to 1.
        epsilon: the bound, in units of the full range.
        bound: ``tanh`` or ``clamp``.
        text_norm: how text vectors were scaled in training: ``l2`` (length sqrt(D)) or ``none``.
        text_encoder_id, text_encoder_sha256: the text tower it was trained with; another one gives garbage.
        trained_on: in words.
        steps: of training.
    """

    @register_to_config
    def __init__(
        self,
        latent_dim: int = 100,
        text_dim: int = 512,
        ngf: int = 64,
        multipliers: Sequence[int] = (8, 8, 8, 8, 4, 2, 1),
        base: int = 4,
        hidden: int = 256,
        mask_hidden: int = 100,
        use_mask: bool = True,
        gate_init: float = 0.0,
        text_init: float = 0.0,
        carriers: Sequence[int] = (),
        carrier_shift: float = 0.0,
        epsilon: float = 8 / 255,
        bound: Literal["tanh", "clamp"] = "tanh",
        text_norm: Literal["l2", "none"] = "l2",
        text_encoder_id: str = "",
        text_encoder_sha256: str = "",
        trained_on: str = "",
        steps: int = 0,
    ) -> None:
        super().__init__()
        if not multipliers or min(*multipliers, latent_dim, text_dim, ngf, base, hidden, mask_hidden) < 1:
            raise ConfigError("A generator needs one block at least, and every width must be 1 or more.")
        if bound not in BOUNDS:
            raise ConfigError(f"A generator is bounded by tanh or clamp, not by {bound!r}.")
        if not 0.0 < epsilon <= 1.0:
            raise ConfigError(f"epsilon must lie in (0, 1] of the full range, not {epsilon:g}.")
        widths = [ngf * multiplier for multiplier in multipliers]
        self._base, self._first = base, widths[0]
        self.fc = nn.Linear(latent_dim, widths[0] * base * base)
        self.waves = Carriers(base * 2 ** (len(widths) - 1), carriers, carrier_shift) if carriers else None
        entering = [widths[0], *widths[:-1]]
        entering[-1] += self.waves.channels if self.waves else 0
        self.blocks = nn.ModuleList(
            GatedBlock(cin, cout, text_dim=text_dim, hidden=hidden, gate=gate_init, spread=text_init)
            for cin, cout in zip(entering, widths, strict=True)
        )
        # The first mask is read off the first map, each further one off the block before it.
        seen = [widths[0], *widths[:-1]] if use_mask else []
        self.mask_heads = nn.ModuleList(MaskHead(channels, mask_hidden) for channels in seen)
        self.out = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.LeakyReLU(0.2), nn.Conv2d(widths[-1], 3, 3, padding=1))

    @property
    def native_size(self) -> int:
        config = cast(Any, self.config)
        return int(config.base * 2 ** (len(config.multipliers) - 1))

    @property
    def text_dim(self) -> int:
        return int(cast(Any, self.config).text_dim)

    def draw(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(int(cast(Any, self.config).latent_dim), generator=generator)

    def forward(self, z: Tensor, text: Tensor) -> NoiseOutput:
        """Noise for ``z`` [B, latent_dim] and ``text`` [B, text_dim]."""
        h = self.fc(z).view(len(z), self._first, self._base, self._base)
        masks: list[Tensor] = []
        logits: Tensor | None = None
        for number, block in enumerate(self.blocks):
            if self.mask_heads:
                head = self.mask_heads[number]
                logits = cast(Tensor, head(h))
            if number:
                h = F.interpolate(h, scale_factor=2, mode="nearest")
                logits = None if logits is None else enlarge_mask(logits)
            mask = None if logits is None else torch.sigmoid(logits)
            if mask is not None:
                masks.append(mask)
            if self.waves is not None and number == len(self.blocks) - 1:
                h = torch.cat([h, self.waves(z).to(h.dtype)], dim=1)
            h = block(h, text, mask)
        config = cast(Any, self.config)
        return NoiseOutput(delta=bounded(self.out(h), config.epsilon, config.bound), masks=masks)
