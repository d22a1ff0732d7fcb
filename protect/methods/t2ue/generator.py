"""Text and a random vector to bounded noise: the paper's network, and a second kind behind the same interface.

The paper's network (:class:`SSANoiseGenerator`) has seven gated blocks, six times twice the size, 256 px and 31.3
million parameters with the defaults here; fewer and narrower blocks make the small ones. Its parts are semantic-spatial
aware convolutions (Liao et al. 2022, SSA-GAN), which a text steers where a mask lets it. The paper's equation 2 leaves
out the ``1 +`` and the mask; with its zero-initialised last layers it would then give 0, so the masked form is the one
here.

It enlarges a map of random numbers; nothing in it tells one pixel of a cell from the next, so that textures have to be
learnt through the borders. Small generators trained for minutes never got there (measured: the contrastive loss stayed
at that of guessing), while plain gratings, one a class, take a small network trained on CIFAR-10 from .54 to .10. So
the small generators are handed gratings (:class:`Carriers`), and the text decides how they are mixed.

The second kind (:class:`LatentNoiseGenerator`) is one step of a latent diffusion network, and a tiny decoder. The paper
chose its small network over this for memory and time; it is here for who has such weights in a folder, or wants to
compare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn

from ....errors import ConfigError

_DIRECTIONS = ((1, 0), (0, 1), (1, 1), (1, -1))


class Carriers(nn.Module):
    """Sines and cosines in four directions, where wanted cropped as a whole by the first two numbers of z.

    Noises of one text with two z have a low cosine where the waves are cropped, and nearly the same noise where they
    are not, as with the paper's network. Trainers learn a texture all the same, wherever it
    lies; it takes the generator longer to make one that they do (docs/methods/t2ue.md). Two numbers are no secret
    from somebody who has text and generator and tries all shifts.

    Args:
        side: of the maps in px.
        periods: in px; each divides the side, so that the waves fit in.
        crop: how far they go, as a share of the side; 0 leaves them in place.
    """

    frequencies: Tensor
    arguments: Tensor

    def __init__(self, side: int, periods: Sequence[int], crop: float = 0.0) -> None:
        super().__init__()
        if any(period < 2 or side % period for period in periods):
            raise ConfigError(f"Periods of carriers divide the side of {side} px and are 2 at least, not {periods}.")
        cycles = [(x * (side // period), y * (side // period)) for period in periods for x, y in _DIRECTIONS]
        frequencies = 2 * math.pi * torch.tensor(cycles, dtype=torch.float32)
        place = (torch.arange(side) + 0.5) / side
        across, down = frequencies[:, 0, None, None], frequencies[:, 1, None, None]
        arguments = across * place[None, None, :] + down * place[None, :, None]
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("arguments", arguments, persistent=False)
        self.channels = 2 * len(cycles)
        self.crop = crop

    def forward(self, z: Tensor) -> Tensor:
        """``[B, channels, side, side]`` in [-1, 1] for ``z`` [B, latent_dim of 2 at least], standard normal."""
        # The normal distribution's own function makes the crop uniform.
        crop = self.crop * torch.special.ndtr(z[:, :2].float())
        phase = self.arguments[None] + (crop @ self.frequencies.T)[:, :, None, None]
        return torch.cat([phase.sin(), phase.cos()], dim=1)


def _two_layers(text_dim: int, hidden: int, channels: int, spread: float) -> nn.Sequential:
    last = nn.Linear(hidden, channels)
    nn.init.normal_(last.weight, std=spread / hidden**0.5)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(text_dim, hidden), nn.ReLU(), last)


class TextSteeredNorm(nn.Module):
    """Conditional batch norm under a mask: ``(1 + m * gamma(e)) * norm(h) + m * beta(e)``.

    The last layers of ``gamma`` and ``beta`` begin at zero in the paper, so that it ignores the text at the start;
    ``spread`` above 0 lets the text act at once.
    """

    def __init__(self, channels: int, text_dim: int, hidden: int, spread: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gamma = _two_layers(text_dim, hidden, channels, spread)
        self.beta = _two_layers(text_dim, hidden, channels, spread)

    def forward(self, h: Tensor, text: Tensor, mask: Tensor | None) -> Tensor:
        """``h`` [B, C, H, W], ``text`` [B, D], ``mask`` [B, 1, H, W] in (0, 1) or None for 1 everywhere."""
        gamma, beta = self.gamma(text)[:, :, None, None], self.beta(text)[:, :, None, None]
        if mask is not None:
            gamma, beta = mask * gamma, mask * beta
        # Statistics in single precision whatever the autocast: in half precision they drift.
        with torch.autocast(h.device.type, enabled=False):
            normed = self.norm(h.float())
        return (1.0 + gamma) * normed.to(gamma.dtype) + beta


class MaskHead(nn.Module):
    """Where in the next block the text may act: logits [B, 1, H, W]."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, 1, 1)
        )

    def forward(self, h: Tensor) -> Tensor:
        return self.net(h)


def enlarge_mask(logits: Tensor) -> Tensor:
    """Twice the size, as the paper's code does between blocks."""
    return F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=True)


class GatedBlock(nn.Module):
    """``shortcut(x) + g * residual(x)`` with a learnt scalar ``g``.

    Args:
        cin, cout: channels.
        text_dim: length of the text vectors.
        hidden: width of the layers that the text goes through.
        gate: what ``g`` begins with. The paper's 0 makes the noise ignore the text for long (its figure 6: 40 epochs
            without any effect); with 1 it counts at once.
        spread: of the text's layers at the start, see :class:`TextSteeredNorm`.
    """

    def __init__(self, cin: int, cout: int, *, text_dim: int, hidden: int, gate: float, spread: float = 0.0) -> None:
        super().__init__()
        self.norm1 = TextSteeredNorm(cin, text_dim, hidden, spread)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.norm2 = TextSteeredNorm(cout, text_dim, hidden, spread)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.shortcut = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1)
        self.gate = nn.Parameter(torch.tensor(float(gate)))

    def forward(self, x: Tensor, text: Tensor, mask: Tensor | None) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x, text, mask)))
        h = self.conv2(F.relu(self.norm2(h, text, mask)))
        return cast(Tensor, self.shortcut(x)) + self.gate * h


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


_LATENT_CHANNELS = 4


class LatentNoiseGenerator(NoiseGenerator):
    """``UNet2DConditionModel`` called once at a fixed time, ``AutoencoderTiny``'s decoder, a last convolution.

    The last convolution is the identity at the start, so that what the decoder draws is what is bounded.

    Args:
        native_px: side of the noise; a multiple of 8.
        text_dim: length of the text vectors, which are given to cross-attention as one token.
        block_out_channels: widths of the network, where it starts at random.
        time: the step at which the network is asked.
        epsilon, bound, text_norm, text_encoder_id, text_encoder_sha256, trained_on, steps: as
            :class:`SSANoiseGenerator` has them.
    """

    @register_to_config
    def __init__(
        self,
        native_px: int = 64,
        text_dim: int = 384,
        block_out_channels: tuple[int, ...] = (32, 64),
        decoder_channels: tuple[int, ...] = (16, 16, 16, 16),
        time: int = 999,
        epsilon: float = 8 / 255,
        bound: str = "tanh",
        text_norm: str = "l2",
        text_encoder_id: str = "",
        text_encoder_sha256: str = "",
        trained_on: str = "",
        steps: int = 0,
    ) -> None:
        super().__init__()
        if native_px % 8:
            raise ConfigError(f"The latent generator draws squares of a multiple of 8 px, not of {native_px}.")
        levels = len(block_out_channels)
        self.unet = UNet2DConditionModel(
            sample_size=native_px // 8,
            in_channels=_LATENT_CHANNELS,
            out_channels=_LATENT_CHANNELS,
            layers_per_block=1,
            block_out_channels=tuple(block_out_channels),
            down_block_types=("CrossAttnDownBlock2D",) * levels,
            up_block_types=("CrossAttnUpBlock2D",) * levels,
            cross_attention_dim=text_dim,
            attention_head_dim=8,
            norm_num_groups=8,
        )
        self.decoder = AutoencoderTiny(
            encoder_block_out_channels=tuple(decoder_channels), decoder_block_out_channels=tuple(decoder_channels)
        ).decoder
        self.last = nn.Conv2d(3, 3, 3, padding=1)
        nn.init.dirac_(self.last.weight)
        nn.init.zeros_(cast(Tensor, self.last.bias))

    @property
    def native_size(self) -> int:
        return int(cast(Any, self.config).native_px)

    @property
    def text_dim(self) -> int:
        return int(cast(Any, self.config).text_dim)

    def draw(self, seed: int) -> Tensor:
        side = self.native_size // 8
        return torch.randn(_LATENT_CHANNELS, side, side, generator=torch.Generator().manual_seed(seed))

    def forward(self, z: Tensor, text: Tensor) -> NoiseOutput:
        """Noise for ``z`` [B, 4, S/8, S/8] and ``text`` [B, text_dim]."""
        config = cast(Any, self.config)
        latent = self.unet(z, config.time, encoder_hidden_states=text[:, None]).sample
        return NoiseOutput(delta=bounded(self.last(self.decoder(latent)), config.epsilon, config.bound), masks=[])
