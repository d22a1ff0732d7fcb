"""What was asked for, checked before anything is read or trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import ConfigError, UnknownNameError
from ..records.config import Problems
from ..surrogates import Precision, Recipe
from .adversaries import Adversary, create_adversaries
from .config import VerifyConfig, preset_named
from .schema import GRADES, Grade, PlannedCondition
from .terms import TIERS, Arm, Tier
from .training import check_victim, published_recipe, victim_recipe


@dataclass(frozen=True)
class Request:
    """Resolved and checked options of a verification.

    Attributes:
        victims: the first meets every adversary, the others only those of the naive tier.
        adversaries: by canonical name, ``none`` first.
        named: whether the caller named the adversaries. What the preset brings is left out, and told, where it cannot
            be applied; what was named stops the run instead.
        seeds: number of trainings a cell is repeated.
        recipe: replaces the recipe of every victim, steps included.
        epochs: passes over the training pictures, instead of the length that the preset and their number give.
        precision: what networks are trained in, where the recipe leaves it open.
        published: train victims by this published recipe; ``None`` for ours.
    """

    preset: str
    victims: tuple[str, ...]
    adversaries: Mapping[str, Adversary]
    named: bool
    seeds: int
    seed: int
    step_scale: float
    required_tier: Tier | None
    required_grade: Grade | None
    max_minutes: float | None
    recipe: Recipe | None
    published: str | None = None
    epochs: float | None = None
    precision: Precision = "auto"

    def recipes(self, images: int) -> dict[str, Recipe]:
        """How each victim is trained on so many images."""
        pretrained = {a.network: a for a in self.adversaries.values() if a.network is not None}
        if self.recipe is not None:
            recipes = dict.fromkeys([*self.victims, *pretrained], self.recipe)
        else:
            if self.published:
                recipes = dict.fromkeys(self.victims, published_recipe(self.published, images, epochs=self.epochs))
            else:
                recipes = {name: self._scaled(name, images) for name in self.victims}
            recipes |= {name: a.adapt(self._scaled(name, images)) for name, a in pretrained.items()}
        if self.precision == "auto":
            return recipes
        return {name: replace(recipe, precision=self.precision) for name, recipe in recipes.items()}

    def _scaled(self, name: str, images: int) -> Recipe:
        return victim_recipe(name, images, scale=self.step_scale, epochs=self.epochs)


def resolve_request(config: VerifyConfig, problems: Problems | None = None) -> Request:
    """Fill in the preset and check every name.

    Args:
        config: what was asked for.
        problems: what is known to be wrong already; it is told together with what is found here.

    Raises:
        UnknownNameError: no such preset, victim, adversary, tier or grade.
        ConfigError: what is required cannot be reached by what is tested; or several things are wrong.
        SetupError: an adversary lacks something on this machine.
    """
    problems = problems or Problems()
    chosen = preset_named(config.preset)
    victims: list[str] = []
    for name in config.victims or chosen.victims:
        with problems.collecting():
            victims.append(check_victim(name))
    made: tuple[Adversary, ...] = ()
    with problems.collecting():
        made = tuple(create_adversaries(chosen.adversaries if config.adversaries is None else config.adversaries))
    # What a preset has and this machine lacks is left out, and told; what was asked for by name is needed.
    for adversary in made if config.adversaries is not None else ():
        with problems.collecting():
            adversary.check_packages()
    seeds = chosen.seeds if config.seeds is None else config.seeds
    if config.epochs is not None and config.recipe is not None:
        problems.add(ConfigError("A recipe says how many steps a training has: give that or epochs, not both."))
    tier: Tier | None = None
    grade: Grade | None = None
    with problems.collecting():
        tier, grade = _required(config.require_tier, config.require_grade, made, seeds)
    problems.raise_all()
    return Request(
        preset=chosen.name,
        victims=tuple(dict.fromkeys(victims)),
        adversaries={adversary.name: adversary for adversary in made},
        named=config.adversaries is not None,
        seeds=seeds,
        seed=config.seed,
        step_scale=chosen.step_scale,
        required_tier=tier,
        required_grade=grade,
        max_minutes=config.max_minutes,
        recipe=config.recipe,
        published=chosen.published,
        epochs=config.epochs,
        precision=config.precision,
    )


def _required(
    tier: str | None, grade: str | None, adversaries: Sequence[Adversary], seeds: int
) -> tuple[Tier | None, Grade | None]:
    """The tier and the grade that are required, by their known names; ``adversaries`` are those that are tested, none
    where that is not known."""
    if tier is None and grade is None:
        return None, None
    if grade is None:
        raise ConfigError(f"--require-tier {tier} needs a grade: add --require-grade weak, moderate or strong.")
    known_grade: Grade | None = next((known for known in GRADES if known == grade), None)
    if known_grade is None:
        raise UnknownNameError("grade", grade, GRADES)
    if seeds < 2:
        raise ConfigError("One seed gives no grade, so none can be required. Use --preset quick or --seeds 3.")
    if tier is None:
        return None, known_grade
    known_tier: Tier | None = next((known for known in TIERS if known == tier), None)
    if known_tier is None:
        raise UnknownNameError("tier", tier, TIERS)
    tested = {adversary.tier for adversary in adversaries}
    if adversaries and known_tier not in tested:
        raise ConfigError(
            f"The tier {tier!r} is required but no adversary of it is tested. "
            f"Tested tiers: {', '.join(t for t in TIERS if t in tested)}. Add one with --adversary, or require another."
        )
    return known_tier, known_grade


def plan_conditions(
    request: Request, details: Mapping[str, str | None] | None = None, *, images: int | None = None
) -> tuple[PlannedCondition, ...]:
    """The conditions in the order in which they are kept when time is short.

    First the first victim with everything, then the others with the naive tier. The victim of a probe, and
    of fine-tuning, is its own network.

    Args:
        request: what was asked for.
        details: what an adversary does with these classes in particular, by its name.
        images: number of training pictures, on which the class of some trainers depends.
    """
    planned = []
    for number, victim in enumerate(request.victims):
        for adversary in request.adversaries.values():
            if number and adversary.tier != "naive":
                continue
            network = adversary.surrogate or adversary.network or victim
            reads: dict[Arm, str] = {arm: adversary.trained_by(arm) for arm in adversary.arms}
            # A smoke test asks whether it runs at all, and a fourth training would be much of its time.
            if not planned and request.seeds > 1:
                reads["shuffled"] = adversary.name
            planned.append(
                PlannedCondition(
                    id=f"{network}/{adversary.name}",
                    tier=adversary.tier,
                    trainer=adversary.trainer_among(images),
                    crafting=adversary.crafting,
                    adversary=adversary.name,
                    victim=network,
                    metric=adversary.metric,
                    fit=adversary.fit,
                    reads=reads,
                    detail=(details or {}).get(adversary.name),
                )
            )
    return tuple(planned)
