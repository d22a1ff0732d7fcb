"""A second kind of generator behind the same interface: one step of a latent diffusion network, and a tiny decoder.

The paper chose its small network over this for memory and time; it is here for who has such
weights in a folder, or wants to compare.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from ....errors import ConfigError, WeightsError
from .generator import NoiseGenerator, NoiseOutput, bounded

__all__ = ["LatentNoiseGenerator"]

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

    @classmethod
    def from_folders(cls, unet: Path, decoder: Path, **config: Any) -> LatentNoiseGenerator:
        """With a pretrained network and autoencoder, both saved by diffusers in local folders.

        Raises:
            WeightsError: they cannot be read, or the network takes text of another length or other latents.
        """
        try:
            net = UNet2DConditionModel.from_pretrained(str(unet), local_files_only=True)
            tiny = AutoencoderTiny.from_pretrained(str(decoder), local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(f"The generator cannot be made of {unet} and {decoder}: {error}") from error
        net, tiny = cast(UNet2DConditionModel, net), cast(AutoencoderTiny, tiny)
        wide = cast(Any, net.config).cross_attention_dim
        if cast(Any, net.config).in_channels != _LATENT_CHANNELS or wide != config.get("text_dim", wide):
            raise WeightsError(
                f"{unet} takes text of length {wide}, or other latents than {_LATENT_CHANNELS} channels."
            )
        made = cls(**{"text_dim": wide, **config})
        made.unet, made.decoder = net, tiny.decoder
        return made

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
