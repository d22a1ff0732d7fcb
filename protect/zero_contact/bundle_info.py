"""What a noise bundle says about itself: string metadata in the head of its file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from ..._version import __version__
from ...errors import BundleError
from ...imaging.perturb import Fit

__all__ = ["FORMAT", "INDEX_SUFFIX", "SUFFIX", "TENSOR_NAME", "VERSION", "BundleInfo", "PromptMode", "Stage", "ZMode"]

FORMAT: Final = "unlearnable-noise"
VERSION: Final = 1
SUFFIX: Final = ".noise.safetensors"
INDEX_SUFFIX: Final = ".noise.index.json"
#: ``d/`` and the id of a picture, or ``c/`` and the key of a pattern that several pictures share.
TENSOR_NAME: Final = re.compile(r"d/[0-9a-f]{16}|c/[0-9a-z-]{1,60}")

Stage = Literal["native", "final"]
ZMode = Literal["class", "codebook", "sample"]
PromptMode = Literal["fixed", "cycle"]

#: int8 holds no more; far beyond what is hard to see anyway.
_LARGEST_EPSILON: Final = 127.0
_LARGEST_SIDE: Final = 4096


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """How the noise was made.

    Attributes:
        stage: ``native``: float16 squares of one side, which the owner fits to the pictures; ``final``: int8, at the
            size of each picture.
        epsilon_levels: no value is larger, in 1/255 levels.
        native_size: side of the squares in px; of a final bundle, that of the generator.
        generator_id, generator_sha256: of the generator.
        text_encoder, text_norm: what read the prompts.
        z_mode: whether a class, an entry of a codebook, or a picture has a seed of its own.
        prompt_mode: ``fixed``: the prompts as they came; ``cycle``: class prompts in changing words.
        resize: how squares are meant to meet a picture.
        count: how many pictures it is for.
        prompts_sha256: digest of the request's ids and prompts.
        created: when; left out unless given, so that the same request gives the same bytes.
        method: what made it.
        tool_version: of bitterant.
    """

    stage: Stage
    epsilon_levels: float
    native_size: int
    generator_id: str
    generator_sha256: str
    text_encoder: str
    text_norm: str
    z_mode: ZMode
    prompt_mode: PromptMode
    resize: Fit
    count: int
    prompts_sha256: str
    created: str = ""
    method: str = "t2ue"
    tool_version: str = __version__

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon_levels) and 1 <= self.epsilon_levels <= _LARGEST_EPSILON):
            raise BundleError(
                f"A bundle of epsilon {self.epsilon_levels:g} cannot be: 1 to {_LARGEST_EPSILON:g} levels."
            )
        choices = ((self.stage, Stage), (self.z_mode, ZMode), (self.prompt_mode, PromptMode), (self.resize, Fit))
        for value, kind in choices:
            if value not in get_args(kind):
                raise BundleError(
                    f"A bundle cannot have {value!r:.40} where one of {', '.join(get_args(kind))} stands."
                )
        if not 1 <= self.native_size <= _LARGEST_SIDE or self.count < 1:
            raise BundleError(f"A bundle of {self.count} perturbations of side {self.native_size} cannot be.")

    def to_metadata(self) -> dict[str, str]:
        """As the text that stands in the file."""
        metadata = {
            "format": FORMAT,
            "version": str(VERSION),
            "method": self.method,
            "stage": self.stage,
            "units": "levels",
            "scale": "1",
            "epsilon_levels": format(self.epsilon_levels, ".12g"),
            "native_size": str(self.native_size),
            "generator_id": self.generator_id,
            "generator_sha256": self.generator_sha256,
            "text_encoder": self.text_encoder,
            "text_norm": self.text_norm,
            "z_mode": self.z_mode,
            "prompt_mode": self.prompt_mode,
            "resize": self.resize,
            "count": str(self.count),
            "prompts_sha256": self.prompts_sha256,
            "tool_version": self.tool_version,
        }
        return {**metadata, "created": self.created} if self.created else metadata

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], name: str) -> BundleInfo:
        """Read the head of a file.

        Args:
            metadata: as found.
            name: what messages call the file.

        Raises:
            BundleError: another format or version, or values that cannot be.
        """
        if metadata.get("format") != FORMAT:
            raise BundleError(f"{name} is a safetensors file, but no noise bundle. `bitterant t2ue noise` makes one.")
        version = metadata.get("version", "")
        if version.partition(".")[0] != str(VERSION):
            raise BundleError(
                f"{name} has bundle format {version or '?'}; this bitterant reads {VERSION}. It was written by "
                f"{metadata.get('tool_version', 'an unknown version')}: update bitterant, or ask for the noise again."
            )
        if (metadata.get("units"), metadata.get("scale")) != ("levels", "1"):
            raise BundleError(f"{name}: its values are not in 1/255 levels, the only unit that is read.")
        try:
            return cls(
                stage=cast(Stage, metadata["stage"]),
                epsilon_levels=float(metadata["epsilon_levels"]),
                native_size=int(metadata["native_size"]),
                generator_id=metadata["generator_id"],
                generator_sha256=metadata["generator_sha256"],
                text_encoder=metadata["text_encoder"],
                text_norm=metadata["text_norm"],
                z_mode=cast(ZMode, metadata["z_mode"]),
                prompt_mode=cast(PromptMode, metadata.get("prompt_mode", "fixed")),
                resize=cast(Fit, metadata["resize"]),
                count=int(metadata["count"]),
                prompts_sha256=metadata["prompts_sha256"],
                created=metadata.get("created", ""),
                method=metadata.get("method", "t2ue"),
                tool_version=metadata.get("tool_version", ""),
            )
        except KeyError as error:
            raise BundleError(f"{name} is damaged: its head lacks {error}.") from error
        except (ValueError, BundleError) as error:
            raise BundleError(f"{name} is damaged: {error!s:.200}") from error
