"""The training: who learns, who does not, and that a kill changes nothing."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F

from bitterant.errors import ConfigError, FitError
from bitterant.protect.methods.checkpoint import Stopped
from bitterant.protect.methods.t2ue import CaptionPairs, SSANoiseGenerator, TextEmbedder, TrainRecipe, train_t2ue
from bitterant.protect.methods.t2ue.data import made_up_captions
from bitterant.protect.methods.t2ue.generator_training import TrainRequest, make_generator
from bitterant.protect.methods.t2ue.training import GeneratorTraining

from ....fake_device import CUDA, FakeDevice

CPU = torch.device("cpu")
QUICK = TrainRecipe(steps=6, batch_size=6, surrogate_images=4, learner_life=2, image_side=16, warmup=1, ema=0.0)


def weights(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in net.state_dict().items()}


@pytest.mark.parametrize("recipe", [QUICK, replace(QUICK, learner_weight=0.0), replace(QUICK, surrogate_weight=0.0),
                                    replace(QUICK, diversity=1.0), replace(QUICK, mismatched=False)])  # fmt: skip
def test_the_generator_learns_and_the_surrogate_does_not(
    recipe: TrainRecipe, pairs: CaptionPairs, surrogate: Any, generator: SSANoiseGenerator, embedder: TextEmbedder
) -> None:
    before, frozen = weights(generator), weights(surrogate)
    report = train_t2ue(pairs, surrogate, generator, embedder, recipe, device=CPU)
    after = weights(generator)
    still = [key for key in before if before[key].is_floating_point() and torch.equal(before[key], after[key])]
    assert [key for key in still if key.split(".")[-1] in ("weight", "bias", "gate")] == []
    assert all(torch.equal(frozen[key], value) for key, value in weights(surrogate).items())
    assert report.steps == 6
    wanted = {"surrogate": recipe.surrogate_weight, "learner": recipe.learner_weight, "sameness": recipe.diversity}
    assert set(report.losses) == {name for name, weight in wanted.items() if weight}


def test_it_gets_better_at_its_loss(pairs: CaptionPairs, surrogate: Any, embedder: TextEmbedder) -> None:
    torch.manual_seed(0)
    net = SSANoiseGenerator(latent_dim=4, text_dim=24, ngf=8, multipliers=(2, 2, 1), hidden=16, mask_hidden=4,
                            gate_init=1.0, text_init=1.5, epsilon=0.5)  # fmt: skip
    recipe = replace(QUICK, steps=60, learner_weight=0.0, surrogate_images=0, lr=5e-3)
    report = train_t2ue(pairs, surrogate, net, embedder, recipe, device=CPU)
    first = sum(losses["surrogate"] for _, losses in report.curve[:5]) / 5
    assert report.losses["surrogate"] < 0.8 * first


def test_stopped_and_resumed_is_the_same_as_in_one_go(
    pairs: CaptionPairs, surrogate: Any, generator: SSANoiseGenerator, embedder: TextEmbedder, tmp_path: Path
) -> None:
    begin = weights(generator)
    whole = train_t2ue(pairs, surrogate, generator, embedder, QUICK, device=CPU)
    wanted = weights(generator)
    generator.load_state_dict(begin)
    generator.requires_grad_(True)
    steps = []
    with pytest.raises(Stopped):
        train_t2ue(pairs, surrogate, generator, embedder, QUICK, device=CPU, checkpoint=tmp_path / "state",
                   progress=steps.append, stop=lambda: len(steps) == 3)  # fmt: skip
    torch.manual_seed(9)
    fresh = cast(SSANoiseGenerator, SSANoiseGenerator.from_config(generator.config))
    again = train_t2ue(pairs, surrogate, fresh, embedder, QUICK, device=CPU, checkpoint=tmp_path / "state")
    assert all(torch.equal(wanted[key], value) for key, value in weights(fresh).items())
    assert again.curve == whole.curve


def test_a_checkpoint_of_another_recipe_is_not_used(
    pairs: CaptionPairs, surrogate: Any, generator: SSANoiseGenerator, embedder: TextEmbedder, tmp_path: Path
) -> None:
    steps: list[Any] = []
    with pytest.raises(Stopped):
        train_t2ue(pairs, surrogate, generator, embedder, QUICK, device=CPU, checkpoint=tmp_path / "state",
                   progress=steps.append, stop=lambda: len(steps) == 3)  # fmt: skip
    seen: list[Any] = []
    train_t2ue(pairs, surrogate, generator.requires_grad_(True), embedder, replace(QUICK, lr=2e-3), device=CPU,
               checkpoint=tmp_path / "state", progress=seen.append)  # fmt: skip
    assert seen[0].step == 1


def test_a_breakdown_is_told(
    pairs: CaptionPairs, surrogate: Any, generator: SSANoiseGenerator, embedder: TextEmbedder
) -> None:
    with torch.no_grad():
        next(generator.parameters()).fill_(float("nan"))
    with pytest.raises(FitError, match="no finite number"):
        train_t2ue(pairs, surrogate, generator, embedder, QUICK, device=CPU)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"lr": 0.0}, {"pace": 1.0}, {"ema": 1.0}, {"surrogate_images": 1},
                                   {"surrogate_weight": 0.0, "learner_weight": 0.0}])  # fmt: skip
def test_recipes_that_cannot_be_meant(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TrainRecipe(**wrong)


def test_pairs_are_checked() -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="differ"):
        CaptionPairs(("a", "a"), images)
    with pytest.raises(ConfigError, match="two different captions"):
        CaptionPairs(("a",), images)
    made = CaptionPairs.of(images, [["a", "b"], ["b", "c"]])
    assert made.captions == ("a", "b", "c")
    assert made.owners is not None
    assert made.owners.tolist() == [0, 0, 1]
    assert [rows.tolist() for rows in made.wordings()] == [[0, 1], [2]]
    assert [rows.tolist() for rows in CaptionPairs(("a", "b"), images).wordings()] == [[0], [1]]
    with pytest.raises(ConfigError, match="meaning"):
        CaptionPairs(("a", "b"), images, meanings=torch.tensor([0]))


def test_captions_that_all_say_the_same_are_refused(
    surrogate: Any, generator: SSANoiseGenerator, embedder: TextEmbedder
) -> None:
    images = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="nothing for the noise to tell apart"):
        train_t2ue(CaptionPairs.of(images, [["a", "b", "c"]]), surrogate, generator, embedder, QUICK, device=CPU)


def test_made_up_captions_have_several_wordings_and_never_repeat() -> None:
    made = made_up_captions(1100, seed=3)
    assert made == made_up_captions(1100, seed=3)
    assert made != made_up_captions(1100, seed=4)
    every = [sentence for several in made for sentence in several]
    assert len(made) == 1100
    assert len(set(every)) == len(every)
    assert min(len(several) for several in made) >= 3


def test_one_update_of_the_papers_recipe(
    pairs: CaptionPairs, surrogate: Any, generator: SSANoiseGenerator, embedder: TextEmbedder
) -> None:
    """Written out: noise of a caption on its own picture, InfoNCE through the frozen pair, AdamW, nothing else."""
    recipe = TrainRecipe.paper(steps=2, batch_size=5, image_side=16, lr=1e-3)
    assert (recipe.schedule, recipe.clip, recipe.ema, recipe.learner_weight) == ("cosine", 0.0, 0.0, 0.0)
    plain = cast(SSANoiseGenerator, SSANoiseGenerator.from_config(generator.config)).train()
    plain.load_state_dict(generator.state_dict())
    work = GeneratorTraining(pairs, surrogate, generator, embedder, recipe, CPU)
    losses = work._one_step()

    draw = torch.Generator().manual_seed(recipe.seed)
    wordings = pairs.wordings()
    chosen = torch.randperm(len(wordings), generator=draw)[:5].tolist()
    dice = torch.rand(5, generator=draw).tolist()
    rows = [int(wordings[m][int(die * len(wordings[m]))]) for m, die in zip(chosen, dice, strict=True)]
    seeds = torch.randint(2**62, (2, 5), generator=draw)[0].tolist()
    text = embedder([pairs.captions[row] for row in rows], batched=True)
    delta = plain(torch.stack([plain.draw(seed) for seed in seeds]), text).delta
    assert pairs.owners is not None
    pictures = torch.stack([pairs.images[int(pairs.owners[row])].float() / 255 for row in rows])
    seen = F.normalize(surrogate.net((pictures + delta).clamp(0, 1)), dim=-1)
    logits = surrogate.scale * seen @ surrogate.texts([pairs.captions[row] for row in rows]).T
    both = [-matrix.log_softmax(1).diagonal().mean() for matrix in (logits, logits.T)]
    loss = (both[0] + both[1]) / 2
    heavy = [parameter for parameter in plain.parameters() if parameter.ndim > 1]
    light = [parameter for parameter in plain.parameters() if parameter.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": heavy, "weight_decay": 1e-4}, {"params": light, "weight_decay": 0.0}], lr=1e-3, betas=(0.0, 0.9)
    )
    loss.backward()
    optimiser.step()
    assert float(losses["surrogate"]) == pytest.approx(float(loss), rel=1e-4)
    moved = torch.cat([(p - plain.get_parameter(n)).detach().flatten().abs() for n, p in generator.named_parameters()])
    assert (
        float((moved <= 1e-4).float().mean()) > 0.97
    )  # of a step of 1e-3 each; where the gradient is 0 but for rounding
    work.step = 1
    assert work._rate() == pytest.approx(0.5)  # half of the way along the cosine


def test_on_a_gpu_ten_steps_ask_once(
    pairs: CaptionPairs, surrogate: Any, generator: SSANoiseGenerator, embedder: TextEmbedder, gpu: FakeDevice
) -> None:
    """And the steps themselves nothing: losses and contrast are told after ten of them."""
    recipe = replace(QUICK, steps=40, learner_life=100, diversity=0.5, ema=0.9)
    surrogate, told = copy.deepcopy(surrogate), list[int]()
    work = GeneratorTraining(
        pairs, surrogate, generator, embedder, recipe, CUDA, lambda progress: told.append(progress.step)
    )
    pieces = work.pieces()
    assert next(pieces) is False  # the first ones also make the learner
    assert told == list(range(1, 11))
    assert 0 < work.contrast < 1 or work.told
    assert not gpu.waits_of(lambda: [work._one_step() for _ in range(3)])
    waits = gpu.waits_of(work._settle)
    assert waits.total() == 1, waits
    assert told[-1] == 13
    tensors, facts = work.state_dict()
    work.load_state_dict({name: value.cpu() for name, value in tensors.items()}, facts)
    work._one_step()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"side": 32, "surrogate": "clip:ViT-B-32/openai"}, "256 px, not 32"), ({}, "conse is none")],
)
def test_the_papers_recipe_takes_the_papers_network_and_a_clip(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        make_generator(TrainRequest(out=tmp_path / "made", preset="paper", device="cpu", **options))
    assert not (tmp_path / "made").exists()
