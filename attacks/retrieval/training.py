"""A CLIP trained on captioned pictures of each arm, alike but for the pictures, and what it then retrieves.

The victim is a pair of towers that learn: a small one for a CPU, a published one from scratch, or a pretrained CLIP to
fine-tune.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ConfigError, SetupError, UnknownNameError
from ...records.config import NO_WEIGHTS, WeightsPolicy
from ...surrogates import create_surrogate, crop_flip, draw_crops, fused, own_randomness, pad_images, transfer
from ...surrogates.arithmetic import one_thread
from ...surrogates.base import Normalise, Resize
from ...surrogates.clip import build_clip
from ...surrogates.image_text import RetrievalScores, retrieval_scores
from ..data.sets import noise_arm
from ..terms import Arm
from ..training.victims import victim_seed
from .data import CaptionedSet

CLIP_VICTIMS = ("clip-small", "scratch:ARCH", "clip:ARCH/TAG")
"""Names that :func:`create_clip_victim` takes; the paper's are ``scratch:RN50`` and ``scratch:ViT-B-32``."""

_WIDTH, _CONTEXT = 128, 40
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class ClipVictim(nn.Module):
    """Pictures and texts into one space, everything learnable.

    Args:
        image_tower: float ``[N, 3, R, R]`` in [0, 1] to ``[N, D]``.
        text_tower: tokens int64 ``[N, L]`` to ``[N, D]``.
        tokenize: texts to tokens.
        name: registry name.
        pretrained: whether weights are trained ones.
        log_scale: log of what cosines are multiplied by, at the start.
    """

    def __init__(
        self, image_tower: nn.Module, text_tower: nn.Module, tokenize: Callable[[list[str]], Tensor], *, name: str,
        pretrained: bool, log_scale: float = math.log(1 / 0.07),
    ) -> None:  # fmt: skip
        super().__init__()
        self.image_tower, self.text_tower, self.tokenize = image_tower, text_tower, tokenize
        self.name, self.pretrained = name, pretrained
        self.log_scale = nn.Parameter(torch.tensor(float(log_scale)))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of both, and the scale, at most 100 (Radford et al. 2021, section 2.5)."""
        return self.see(images), self.read(tokens), self.log_scale.exp().clamp(max=100.0)

    def see(self, images: Tensor) -> Tensor:
        """Unit vectors ``[N, D]`` of pictures float ``[N, 3, R, R]`` in [0, 1]."""
        return F.normalize(self.image_tower(images).float(), dim=-1)

    def read(self, tokens: Tensor) -> Tensor:
        """Unit vectors ``[N, D]`` of tokens ``[N, L]``."""
        return F.normalize(self.text_tower(tokens).float(), dim=-1)


class _Texts(nn.Module):
    """The text tower of an open_clip model, whose parts lie loose in it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model.encode_text(tokens)


def create_clip_victim(name: str, *, resolution: int, seed: int, weights: WeightsPolicy = NO_WEIGHTS) -> ClipVictim:
    """A victim, the same for the same seed.

    Args:
        name: ``clip-small``: small-cnn and two layers of transformer, 128 wide. ``scratch:ARCH``: an architecture of
            open_clip with random weights. ``clip:ARCH/TAG`` (or ``clip:ARCH`` with ``weights``): a pretrained one.
        resolution: side of the pictures in px.
        seed: of random weights.
        weights: as for CLIP surrogates.

    Raises:
        UnknownNameError: no such victim or architecture.
        SetupError: open_clip is missing, or weights are not on this machine.
    """
    open_clip = _open_clip()
    if name == "clip-small" or name.startswith("scratch:"):
        if weights.file is not None:
            raise ConfigError(f"{name} starts from random weights: leave --weights out.")
        # Towers draw their weights from the global generator: it is put back as it was.
        with own_randomness(seed):
            return _small(open_clip, resolution, seed) if name == "clip-small" else _scratch(open_clip, name)
    if not name.startswith("clip:"):
        raise UnknownNameError("CLIP victim", name, list(CLIP_VICTIMS))
    with own_randomness(seed):
        surrogate = build_clip(name, num_classes=2, weights=weights)
    model, tokenizer = surrogate.whole()
    return ClipVictim(
        surrogate.trunk(), _Texts(model), tokenizer, name=name, pretrained=True,
        log_scale=float(model.logit_scale.detach()),
    ).requires_grad_(True)  # fmt: skip


def _small(open_clip: Any, resolution: int, seed: int) -> ClipVictim:
    from open_clip.transformer import TextTransformer

    images = create_surrogate("small-cnn", num_classes=_WIDTH, resolution=resolution, seed=seed)
    texts = TextTransformer(context_length=_CONTEXT, width=_WIDTH, heads=4, layers=2, output_dim=_WIDTH)
    tokenizer = open_clip.SimpleTokenizer(context_length=_CONTEXT)
    return ClipVictim(images, texts, tokenizer, name="clip-small", pretrained=False)


def _scratch(open_clip: Any, name: str) -> ClipVictim:
    arch = name.removeprefix("scratch:")
    if arch not in open_clip.list_models():
        raise UnknownNameError("architecture of open_clip", arch, open_clip.list_models())
    model = open_clip.create_model(arch, pretrained=None, load_weights=False, pretrained_text=False)
    side = model.visual.image_size
    view = nn.Sequential(Resize(side if isinstance(side, int) else side[0]), Normalise(_MEAN, _STD), model.visual)
    return ClipVictim(view, _Texts(model), open_clip.get_tokenizer(arch), name=name, pretrained=False)


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise SetupError("CLIP victims need open_clip. Run: pip install 'bitterant[clip]'") from error
    return open_clip


_FEWEST_STEPS = 400
_FEWEST_BATCHES = 4
_SMALLEST_BATCH = 8
_MOST_EPOCHS = 120


@dataclass(frozen=True, kw_only=True)
class ClipRecipe:
    """The settings of a training, the same for every arm.

    Attributes:
        epochs: passes over the pictures; each time a picture goes with one of its captions, drawn anew.
        batch_size: pairs a step; each pair is told from the others in its batch.
        lr: peak rate of AdamW, after a linear warm-up, with a cosine to 0.
        weight_decay: of matrices, not of norms, biases and the scale.
        warmup: share of the steps.
        padding: px of random crops at 64 px; 0 with ``flip=False`` for none, as in the paper's code.
        flip: mirror half of the pictures.
    """

    epochs: int = 30
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.1
    warmup: float = 0.1
    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or not 0 < self.lr < math.inf:
            raise ConfigError("A CLIP is trained for one epoch at least, in batches of two or more, at a rate above 0.")

    @classmethod
    def paper(cls) -> ClipRecipe:
        """32 epochs (arXiv 2508.03091); 5e-4, weight decay 0.2 and no augmentation as in the authors' code."""
        return cls(epochs=32, lr=5e-4, weight_decay=0.2, padding=0, flip=False)

    @classmethod
    def fine_tuning(cls) -> ClipRecipe:
        """What the authors' logs use for a pretrained CLIP: 1e-5."""
        return cls(epochs=10, lr=1e-5, weight_decay=0.2)

    def fitted_to(self, pictures: int) -> ClipRecipe:
        """The recipe for a folder of so many pictures; the default one is unchanged for 1,800 and more.

        An epoch over a few pictures is one or two steps, after which nothing is learned yet: batches become smaller, so
        that an epoch has four of them, and epochs more, until there are 400 steps.
        """
        batch = min(self.batch_size, max(_SMALLEST_BATCH, pictures // _FEWEST_BATCHES))
        wanted = math.ceil(_FEWEST_STEPS / max(1, pictures // batch))
        return replace(self, batch_size=batch, epochs=max(self.epochs, min(wanted, _MOST_EPOCHS)))

    def steps(self, pictures: int) -> int:
        """Optimiser steps over so many pictures; an incomplete batch is left out."""
        return self.epochs * (pictures // max(1, min(self.batch_size, pictures)))

    def settings(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)


@dataclass(frozen=True)
class ClipFit:
    """What a training left beside the weights.

    Attributes:
        loss: mean of the last epoch.
        accuracy: how often, in the last epoch, the caption of a picture was told from the others of its batch. Captions
            in the same words count as one.
        steps: optimiser steps.
    """

    loss: float
    accuracy: float
    steps: int


def train_clip(
    victim: ClipVictim,
    pairs: CaptionedSet,
    recipe: ClipRecipe,
    *,
    seed: int,
    device: torch.device,
    progress: Callable[[float], None] | None = None,
) -> ClipFit:
    """Train ``victim`` in place by symmetric InfoNCE.

    Order, crops and the choice of captions depend on the seed alone, so that arms differ in their pictures only.
    """
    victim.to(device).train()
    draw = torch.Generator().manual_seed(seed)
    count, batch = len(pairs.images), min(recipe.batch_size, len(pairs.images))
    if count < 2:
        raise ConfigError("A CLIP tells pictures from each other: it needs two at least.")
    images = pairs.images.to(device)
    tokens = [victim.tokenize(list(several)) for several in pairs.captions]
    steps = recipe.steps(count)
    optimiser = _optimiser(victim, recipe)
    step, losses, told = 0, [], []
    for _ in range(recipe.epochs):
        losses, told = [], []
        order = torch.randperm(count, generator=draw)
        for start in range(0, count - batch + 1, batch):
            rows = order[start : start + batch]
            for group in optimiser.param_groups:
                group["lr"] = recipe.lr * _rate(step, steps, recipe.warmup)
            chosen = [tokens[row][int(torch.randint(len(tokens[row]), (), generator=draw))] for row in rows.tolist()]
            seen = _augmented(images[transfer(rows, device)].float() / 255.0, recipe, draw)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
                words = transfer(torch.stack(chosen), device)
                pictures, texts, scale = victim(seen, words)
            loss = _contrast(pictures, texts, scale)
            taken = words[(pictures.detach() @ texts.detach().T).argmax(dim=1)]
            told.append((taken == words).flatten(1).all(dim=1).float().mean())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
            step += 1
            if progress is not None:
                progress(step / steps)
    # Of the last epoch, and at its end: a device is not asked for them after every step.
    loss, accuracy = (sum(torch.stack(values).tolist()) / len(values) for values in (losses, told))
    return ClipFit(loss, accuracy, step)


@torch.no_grad()
def retrieve(
    victim: ClipVictim, test: CaptionedSet, *, device: torch.device, batch_size: int = 256
) -> tuple[RetrievalScores, RetrievalScores]:
    """Scores of pictures for texts, and of texts for pictures, among all of ``test``; see
    :meth:`CaptionedSet.answers` for what counts as right."""
    victim.to(device).eval()
    texts, own = test.answers()
    seen = [victim.see(part.to(device).float() / 255.0).cpu() for part in test.images.split(batch_size)]
    read = [
        victim.read(victim.tokenize(texts[start : start + batch_size]).to(device)).cpu()
        for start in range(0, len(texts), batch_size)
    ]
    return retrieval_scores(torch.cat(seen), torch.cat(read), own)


def _contrast(pictures: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    logits = scale * pictures @ texts.T
    target = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


def _augmented(images: Tensor, recipe: ClipRecipe, draw: torch.Generator) -> Tensor:
    padding = round(recipe.padding * images.shape[-1] / 64)
    if not padding and not recipe.flip:
        return images
    crops = draw_crops(len(images), padding, recipe.flip, draw)
    rows = torch.arange(len(images), device=images.device)
    return crop_flip(pad_images(images, padding), rows, crops, images.shape[-1])


def _rate(step: int, steps: int, warmup: float) -> float:
    first = max(1, round(warmup * steps))
    if step < first:
        return (step + 1) / first
    return 0.5 * (1.0 + math.cos(math.pi * (step - first) / max(1, steps - first)))


def _optimiser(victim: ClipVictim, recipe: ClipRecipe) -> torch.optim.Optimizer:
    learnt = [p for p in victim.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=fused(learnt))


ARM_NAMES: tuple[Arm, ...] = ("clean", "noise", "protected")
KS = (1, 5, 10)
"""Cut-offs k of Hit@k: the share of the questions answered among the first k."""


@dataclass(frozen=True)
class ArmScores:
    """One training.

    Attributes:
        arm: clean, noise or protected.
        seed: number of the repetition.
        loss: mean of the last epoch.
        fit: how often a caption was told from the others of its batch in the last epoch.
        steps: optimiser steps.
        seconds: of the training and the test.
        image_to_text, text_to_image: share of queries answered among the first k, by k.
        image_to_text_rank, text_to_image_rank: median ranks.
        image_ranks, text_ranks: 0-based rank of each test picture and of each different caption, in their order.
    """

    arm: Arm
    seed: int
    loss: float
    image_to_text: dict[int, float]
    text_to_image: dict[int, float]
    image_to_text_rank: int
    text_to_image_rank: int
    image_ranks: tuple[int, ...] = field(default=(), repr=False)
    text_ranks: tuple[int, ...] = field(default=(), repr=False)
    fit: float = 1.0
    steps: int = 0
    seconds: float = field(default=0.0, compare=False)

    def to_json(self) -> dict[str, Any]:
        """JSON-safe, without the ranks of each query."""
        return {name: value for name, value in asdict(self).items() if name not in ("image_ranks", "text_ranks")}


@dataclass
class RetrievalReport:
    """All trainings, and what guessing gives.

    Attributes:
        victim, recipe, pictures, tested: what was done.
        scores: one row a training.
        chance_image_to_text, chance_text_to_image: by k.
        chance_ranks: median ranks both ways.
        warnings: what the reader should know.
    """

    victim: str
    recipe: dict[str, Any]
    pictures: int
    tested: int
    scores: list[ArmScores] = field(default_factory=list)
    chance_image_to_text: dict[int, float] = field(default_factory=dict)
    chance_text_to_image: dict[int, float] = field(default_factory=dict)
    chance_ranks: tuple[int, int] = (0, 0)
    warnings: list[str] = field(default_factory=list)

    def arms(self) -> list[str]:
        """Those that were trained, in order."""
        return list(dict.fromkeys(row.arm for row in self.scores))

    def mean(self, arm: str, way: str, k: int) -> tuple[float, float]:
        """Mean and standard deviation over seeds of Hit@k; ``way`` is ``image_to_text`` or ``text_to_image``."""
        values = [getattr(row, way)[k] for row in self.scores if row.arm == arm]
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

    def rank(self, arm: str, way: str) -> float:
        """Mean over seeds of the median rank."""
        return float(np.mean([getattr(row, f"{way}_rank") for row in self.scores if row.arm == arm]))

    def left(self, way: str = "text_to_image", k: int = 10) -> float | None:
        """What is left of the clean pictures' gain over guessing; ``None`` where there was none, or no such arm."""
        if not {"clean", "protected"} <= {*self.arms()}:
            return None
        chance = getattr(self, f"chance_{way}")[k]
        gain = self.mean("clean", way, k)[0] - chance
        return (self.mean("protected", way, k)[0] - chance) / gain if gain > chance else None

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            **asdict(self),
            "scores": [row.to_json() for row in self.scores],
            "left_of_hit_at_10": {"image_to_text": self.left("image_to_text"), "text_to_image": self.left()},
        }


def retrieval_trial(
    clean: CaptionedSet,
    protected: Tensor,
    test: CaptionedSet,
    *,
    victim: str = "clip-small",
    recipe: ClipRecipe | None = None,
    seeds: int = 3,
    seed: int = 0,
    noise_levels: float | None = None,
    device: torch.device | None = None,
    weights: WeightsPolicy = NO_WEIGHTS,
    arms: Sequence[Arm] = ARM_NAMES,
    progress: Callable[[str, float], None] | None = None,
) -> RetrievalReport:
    """Train a CLIP on each arm with equal settings and compare.

    The random noise has the largest change of the protected pictures as its size. It is there to tell protection from
    any disturbance; the authors' own comparison trained its arms at different rates.

    Args:
        clean: pictures with captions.
        protected: the same pictures, protected, uint8 ``[N, 3, R, R]``.
        test: others, clean.
        victim: see :func:`create_clip_victim`.
        recipe: of the training; the victim's own by default.
        seeds: repetitions.
        seed: the first of them.
        noise_levels: size of the random noise in 1/255; by default as said.
        device: where to compute.
        weights: of a pretrained victim.
        arms: which to train.
        progress: called with the name of a training and the share of all that is done.

    Raises:
        ConfigError: the sets do not fit together.
    """
    if protected.shape != clean.images.shape or protected.dtype != torch.uint8:
        raise ConfigError(f"Protected pictures are {tuple(protected.shape)}, the clean {tuple(clean.images.shape)}.")
    if test.resolution != clean.resolution:
        raise ConfigError(f"Test pictures have {test.resolution} px, the others {clean.resolution}.")
    if unknown := set(arms) - set(ARM_NAMES):
        raise ConfigError(f"No such arms: {', '.join(sorted(unknown))}.")
    device = device or torch.device("cpu")
    recipe = recipe or (ClipRecipe.fine_tuning() if victim.startswith("clip:") else ClipRecipe())
    change = int((protected.short() - clean.images.short()).abs().max()) if len(protected) else 0
    report = RetrievalReport(victim, recipe.settings(), len(clean.images), len(test.images))
    total, done = seeds * len(arms), 0
    for repeat in range(seeds):
        for arm in arms:
            images = {"clean": clean.images, "protected": protected}.get(arm)
            if images is None:
                levels = change if noise_levels is None else noise_levels
                made = noise_arm(clean.images.numpy(), clean.keys, levels, seed=seed + repeat)
                images = torch.from_numpy(made)
            own = victim_seed(seed, repeat)
            model = create_clip_victim(victim, resolution=clean.resolution, seed=own, weights=weights)

            def tell(share: float, arm: Arm = arm, repeat: int = repeat, before: int = done) -> None:
                if progress is not None:
                    progress(f"{arm}, seed {repeat + 1}", (before + share) / total)

            begun = time.perf_counter()
            with one_thread(device.type):
                fit = train_clip(model, clean.with_images(images), recipe, seed=own, device=device, progress=tell)
                forth, back = retrieve(model, test, device=device)
            report.scores.append(
                ArmScores(
                    arm,
                    repeat,
                    fit.loss,
                    forth.hits,
                    back.hits,
                    forth.median_rank,
                    back.median_rank,
                    image_ranks=forth.ranks,
                    text_ranks=back.ranks,
                    fit=fit.accuracy,
                    steps=fit.steps,
                    seconds=round(time.perf_counter() - begun, 3),
                )
            )
            report.chance_image_to_text, report.chance_text_to_image = forth.chance_hits, back.chance_hits
            report.chance_ranks = (forth.chance_median_rank, back.chance_median_rank)
            done += 1
    if "clean" in arms and report.mean("clean", "text_to_image", 10)[0] < 3 * report.chance_text_to_image[10]:
        report.warnings.append(
            "The CLIP trained on clean pictures is weak itself, below three times guessing: differences between the "
            "arms say little."
        )
    return report
