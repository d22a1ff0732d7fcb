"""Prompts to noise: a generator and a text embedder as one pipeline of diffusers, saved and loaded together.

The embedder gives a caption the vector that the generator was trained on, and knows the identity of the tower that
makes it: with another tower the noise would mean nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn

from ....errors import ConfigError, WeightsError
from ....records.config import NO_WEIGHTS, WeightsPolicy
from ....records.text import read_json
from ....surrogates.image_text import ConseTexts, MiniLM, TextTower, create_text_tower
from .generator import NoiseGenerator, SSANoiseGenerator

_Model = TypeVar("_Model", bound=nn.Module)


def move(model: _Model, device: torch.device) -> _Model:
    """The model itself, on the device."""
    return cast(Any, model).to(device)


class TextEmbedder(ModelMixin, ConfigMixin):
    """A frozen text tower whose weights lie elsewhere (a package, a file); saved are its identity and its centre.

    Args:
        tower: ``conse/minilm``, ``minilm`` or ``clip:ARCH/TAG@SOURCE``.
        tower_sha256: digest of its weights; another tower is refused.
        text_dim: length of its vectors.
        text_norm: ``l2`` gives vectors of length sqrt(D), so that inputs of the generator are of order 1; ``none``
            gives them as they come.
    """

    mean: Tensor

    @register_to_config
    def __init__(
        self,
        tower: str = "conse/minilm",
        tower_sha256: str = "",
        text_dim: int = 384,
        text_norm: Literal["l2", "none"] = "l2",
    ) -> None:
        super().__init__()
        # The centre of conse's vectors takes a thousand sentences to find: it is saved.
        self.register_buffer("mean", torch.zeros(text_dim))
        self._tower: tuple[TextTower, ...] = ()  # a tuple hides the tower from the state that is saved
        self._weights = NO_WEIGHTS
        self._read: dict[str, Tensor] = {}

    @classmethod
    def of(cls, tower: TextTower, *, text_norm: Literal["l2", "none"] = "l2") -> TextEmbedder:
        """Around a tower that is loaded."""
        made = cls(tower.name, tower.fingerprint(), tower.width, text_norm)
        inner = tower
        if isinstance(tower, ConseTexts):
            made.mean.copy_(tower.mean)
            inner = tower.encoder
        made._tower = (inner,)
        return made

    def use(self, weights: WeightsPolicy) -> TextEmbedder:
        """Where the weights of a CLIP tower come from, once it is needed."""
        self._weights = weights
        return self

    @property
    def tower_id(self) -> str:
        return str(cast(Any, self.config).tower)

    @property
    def tower_sha256(self) -> str:
        return str(cast(Any, self.config).tower_sha256)

    def _load(self) -> TextTower:
        if not self._tower:
            config = cast(Any, self.config)
            if config.tower == "conse/minilm":
                tower: TextTower = MiniLM()
                digest = ConseTexts.fingerprint_with(tower)
            else:
                tower = create_text_tower(config.tower, weights=self._weights)
                digest = tower.fingerprint()
            if config.tower_sha256 and digest != config.tower_sha256:
                raise WeightsError(
                    f"The generator was trained with other weights of the text tower {config.tower} than are here. "
                    "With these its noise would be meaningless."
                )
            self._tower = (tower.to(self.mean.device),)
        return self._tower[0]

    @torch.no_grad()
    def forward(self, texts: Sequence[str], *, batched: bool = False) -> Tensor:
        """Vectors float32 ``[len(texts), text_dim]``.

        Args:
            texts: captions.
            batched: read many at once: faster, but padding changes the last digits, so that a text's vector depends
                on those beside it. Good enough to train with; noise for a picture must not depend on the others.

        Raises:
            SetupError: the tower is not on this machine.
            WeightsError: it is another one than in training.
        """
        config, tower = cast(Any, self.config), self._load().to(self.mean.device)
        if not texts:
            return torch.empty(0, config.text_dim, device=self.mean.device)
        vectors = tower(texts) if batched else torch.cat([self._alone(tower, text) for text in texts])
        vectors = vectors.to(self.mean.device) - self.mean
        return F.normalize(vectors, dim=-1) * config.text_dim**0.5 if config.text_norm == "l2" else vectors

    def _alone(self, tower: TextTower, text: str) -> Tensor:
        """A text's own vector. Captions made of class names come again and again: those read last are kept."""
        if text not in self._read:
            if len(self._read) >= _KEPT:
                del self._read[next(iter(self._read))]
            self._read[text] = tower([text])
        return self._read[text].to(self.mean.device)


_KEPT = 4096
"""Vectors that are kept: 6 MB."""


@dataclass
class T2UEOutput(BaseOutput):
    """Noise float32 ``[N, 3, S, S]`` on the CPU within ``±epsilon``, in units of the full range."""

    delta: Tensor


class T2UEPipeline(DiffusionPipeline):
    """``pipeline(prompts, seeds)``. Row i depends on prompt i and seed i alone, whatever the batch.

    ``save_pretrained(folder)`` writes JSON and safetensors; :meth:`load` reads them, and runs nothing that lies there.
    """

    generator: NoiseGenerator
    text_embedder: TextEmbedder

    def __init__(self, generator: NoiseGenerator, text_embedder: TextEmbedder) -> None:
        super().__init__()
        self.register_modules(generator=generator, text_embedder=text_embedder)
        config = cast(Any, generator.config)
        wanted, given = config.text_encoder_sha256, cast(Any, text_embedder.config).tower_sha256
        if generator.text_dim != cast(Any, text_embedder.config).text_dim or (wanted and given and wanted != given):
            raise ConfigError(
                f"This generator was trained on vectors of {config.text_encoder_id or 'another text tower'}, not of "
                f"{text_embedder.tower_id}."
            )
        generator.eval().requires_grad_(False)

    @classmethod
    def load(cls, folder: Path, *, weights: WeightsPolicy = NO_WEIGHTS) -> T2UEPipeline:
        """From a folder, never from a hub.

        Args:
            folder: as :meth:`save_pretrained` wrote it. It may come from anywhere: of what it names only the classes of
                this package are taken, from this package, and only safetensors are read.
            weights: of a CLIP text tower, see :meth:`TextEmbedder.use`.

        Raises:
            WeightsError: there is no generator in it, it is damaged, or it names classes that are not ours.
            ConfigError: its parts do not belong together.
        """
        if not (folder / "model_index.json").is_file():
            raise WeightsError(f"{folder} holds no generator: there is no model_index.json in it.")
        network = _network_of(folder)
        try:
            from ....surrogates.image_text import quiet_diffusers

            # Part by part, since diffusers' own way imports what the folder names.
            with quiet_diffusers():
                made = cls(
                    generator=_part(network, folder / "generator"),
                    text_embedder=_part(TextEmbedder, folder / "text_embedder"),
                )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
            raise WeightsError(f"The generator in {folder} cannot be read: {error}") from error
        made.generator.float()  # weights may be stored in half precision
        made.text_embedder.use(weights)
        return made

    # ------------------------------------------------------------------ what a source of noise tells of itself
    @property
    def generator_id(self) -> str:
        config = cast(Any, self.generator.config)
        return f"{type(self.generator).__name__}-{self.native_size}px-{config.steps}-steps"

    @property
    def generator_sha256(self) -> str:
        """Over names and bytes of the weights."""
        digest = hashlib.sha256()
        for key, value in sorted(self.generator.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @property
    def text_encoder(self) -> str:
        return self.text_embedder.tower_id

    @property
    def text_norm(self) -> str:
        return str(cast(Any, self.text_embedder.config).text_norm)

    @property
    def native_size(self) -> int:
        """Side S of the noise, in px."""
        return self.generator.native_size

    @property
    def epsilon(self) -> float:
        """The budget it was trained at, in units of the full range."""
        return self.generator.epsilon

    # ------------------------------------------------------------------ noise
    @torch.no_grad()
    def __call__(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        batch_size: int = 8,
        progress: Callable[[int], None] | None = None,
    ) -> T2UEOutput:
        """Noise for each prompt and seed.

        Args:
            prompts: N texts.
            seeds: N numbers in 0..2**63-1, of the random vectors.
            batch_size: rows at once; it decides the time, not the result.
            progress: called with the number of rows done.
        """
        if len(prompts) != len(seeds):
            raise ConfigError(f"{len(prompts)} prompts but {len(seeds)} seeds.")
        size, device = self.native_size, next(self.generator.parameters()).device
        self.generator.eval()
        delta = torch.empty(len(prompts), 3, size, size)
        for start in range(0, len(prompts), batch_size):
            rows = slice(start, start + batch_size)
            text = self.text_embedder(list(prompts[rows])).to(device)
            z = torch.stack([self.generator.draw(seed) for seed in seeds[rows]]).to(device)
            delta[rows] = self._rows(z, text)
            if progress is not None:
                progress(min(len(prompts), start + batch_size))
        return T2UEOutput(delta=delta)

    def _rows(self, z: Tensor, text: Tensor) -> Tensor:
        # Convolutions and matrix products may add up in another order for another number of rows, so the network
        # always sees the same number: the last batch is filled up with copies of a row.
        count = len(z)
        parts = []
        for start in range(0, count, _ROWS):
            rows = [min(row, count - 1) for row in range(start, start + _ROWS)]
            delta = cast(Any, self.generator)(z[rows], text[rows]).delta
            parts.append(delta.float().cpu()[: count - start])
        return torch.cat(parts)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """float32 ``[N, 3, S, S]`` in [-1, 1], in units of the budget: what bundles are made of."""
        return (self(prompts, seeds).delta / self.epsilon).clamp(-1.0, 1.0).numpy()


_ROWS = 4
"""Rows that the network sees at once."""


def _network_of(folder: Path) -> type[NoiseGenerator]:
    """The class of the generator in a folder, out of those there are.

    Raises:
        WeightsError: the index of the folder is damaged, or names other classes.
    """
    from .generator import LatentNoiseGenerator

    place = folder / "model_index.json"
    try:
        index = read_json(place)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{place} is damaged: {error}.") from error
    networks: tuple[type[NoiseGenerator], ...] = (SSANoiseGenerator, LatentNoiseGenerator)
    known = {network.__name__: network for network in networks}
    generator, embedder = (_named(index, name) for name in ("generator", "text_embedder"))
    if generator not in known or embedder != TextEmbedder.__name__:
        raise WeightsError(
            f"{place} names classes that are not those of bitterant. Nothing of it was loaded: such a folder can hold "
            "any program. Give one that `bitterant t2ue train` wrote."
        )
    return known[generator]


def _named(index: Any, part: str) -> str | None:
    """The class that an index names for a part, where it names one of this package's.

    In which of its modules the class lies does not matter: a generator outlives a move from one to another.
    """
    found = index.get(part) if isinstance(index, dict) else None
    if not isinstance(found, list) or len(found) != 2 or not all(isinstance(name, str) for name in found):
        return None
    return found[1] if found[0].startswith(f"{__package__}.") else None


_Part = TypeVar("_Part", NoiseGenerator, TextEmbedder)


def _part(kind: type[_Part], folder: Path) -> _Part:
    return cast(_Part, kind.from_pretrained(str(folder), local_files_only=True, use_safetensors=True))
