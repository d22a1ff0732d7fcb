"""Which noise is to be made for a request: one pattern a picture, or patterns that pictures of a class share."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ...errors import ConfigError, RequestError
from ...imaging.caption_text import CLASS_TEMPLATES, fill_template
from .bundle_info import PromptMode, ZMode
from .request import NoiseRequest, RequestRow
from .secret import seed_of

__all__ = ["DEFAULT_CODEBOOK", "Pattern", "PatternPlan", "plan_patterns"]

#: Patterns a class in z_mode ``codebook``: what the authors' code effectively used.
DEFAULT_CODEBOOK: Final = 32

_NAMES: Final = tuple(
    re.compile(re.escape(template).replace(re.escape("{}"), "(.+)"), re.IGNORECASE)
    # The longest first: "a photo of a small {}." also reads as "a photo of a {}." of a "small cat".
    for template in sorted(CLASS_TEMPLATES, key=len, reverse=True)
)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One call of the generator.

    Attributes:
        tensor: name of the tensor that it becomes.
        prompt: text.
        seed: 0..2**63 - 1.
        size: width and height, where it is made to measure.
    """

    tensor: str
    prompt: str
    seed: int
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class PatternPlan:
    """All patterns, sorted by tensor name.

    Attributes:
        patterns: what to generate.
        shared: from id to the key of its pattern, where patterns are shared.
    """

    patterns: tuple[Pattern, ...]
    shared: Mapping[str, str]


def plan_patterns(
    request: NoiseRequest, *, z_mode: ZMode, prompt_mode: PromptMode, secret: bytes, codebook: int = DEFAULT_CODEBOOK
) -> PatternPlan:
    """What to generate. It depends on the rows and the secret alone, neither on order nor on batches.

    Args:
        request: the rows.
        z_mode: ``class``: one seed a class; ``codebook``: one of ``codebook`` seeds, drawn for each picture;
            ``sample``: a seed for each picture.
        prompt_mode: ``cycle`` puts the class name of each picture into one of 18 sentences, drawn for each picture.
        secret: of whoever generates, or of the owner.
        codebook: number of seeds.

    Raises:
        RequestError: the request lacks what the mode needs.
        ConfigError: ``codebook`` is below 1.
    """
    if codebook < 1:
        raise ConfigError(f"A codebook of {codebook} seeds cannot be: 1 or more.")
    if z_mode != "sample" and any(row.z_seed is not None for row in request.rows):
        raise RequestError("The request brings a seed for each picture, which only --z-mode sample uses.")
    if z_mode == "class":
        _check_classes(request)
    if prompt_mode == "cycle" and not any(_class_name(row.prompt) for row in request.rows):
        raise RequestError(
            f'--prompt-mode cycle needs prompts made of class names, such as "{CLASS_TEMPLATES[0]}", to know the names.'
        )
    patterns: dict[str, Pattern] = {}
    shared: dict[str, str] = {}
    for row in request.rows:
        prompt, words = (row.prompt, "") if prompt_mode == "fixed" else _cycled(row, secret)
        if z_mode == "sample":
            seed = seed_of(secret, f"id:{row.id}") if row.z_seed is None else row.z_seed
            patterns[row.id] = Pattern(f"d/{row.id}", prompt, seed, row.size if request.sized else None)
            continue
        if z_mode == "class":
            key, seed = f"{row.class_id}{words}", seed_of(secret, f"class:{row.class_id}")
        else:
            number = seed_of(secret, f"entry:{row.id}") % codebook
            # Keyed: a plain digest of the prompt could be looked up in a list of guesses.
            group = hmac.new(secret, f"prompt:{prompt}".encode(), hashlib.sha256).hexdigest()[:16]
            key, seed = f"p{group}-z{number}", seed_of(secret, f"codebook:{number}")
        shared[row.id] = key
        patterns[key] = Pattern(f"c/{key}", prompt, seed)
    return PatternPlan(tuple(sorted(patterns.values(), key=lambda pattern: pattern.tensor)), shared)


def _check_classes(request: NoiseRequest) -> None:
    prompts: dict[int, set[str]] = {}
    for row in request.rows:
        if row.class_id is None:
            raise RequestError(
                f"One noise a class needs a class for every picture, and {row.id} has none. Take --z-mode sample, "
                "or make the request from class folders: t2ue captions --source class."
            )
        prompts.setdefault(row.class_id, set()).add(row.prompt)
    several = [number for number, texts in prompts.items() if len(texts) > 1]
    if several:
        raise RequestError(
            f"One noise a class needs one prompt a class, and class {several[0]} has {len(prompts[several[0]])}. "
            "Take --z-mode sample, or make the request with t2ue captions --source class."
        )


def _class_name(prompt: str) -> str | None:
    return next((match.group(1) for name in _NAMES if (match := name.fullmatch(prompt))), None)


def _cycled(row: RequestRow, secret: bytes) -> tuple[str, str]:
    """The prompt in other words, and what tells these words apart in a key."""
    name = _class_name(row.prompt)
    if name is None:
        return row.prompt, ""
    number = seed_of(secret, f"words:{row.id}") % len(CLASS_TEMPLATES)
    return fill_template(CLASS_TEMPLATES[number], name), f"-t{number}"
