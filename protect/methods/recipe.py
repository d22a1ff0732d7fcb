"""What a method was told: one frozen model a method, whose fields are its hyper-parameters.

From the fields come the keywords of the constructor, the checks and the list behind ``--set``, the settings in a run
file and the identity of a checkpoint. A default that depends on other values is a ``default_factory`` of those before
it. A preset is an instance: what it sets takes the place of the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import torch
from pydantic import AfterValidator, ConfigDict, Field, InstanceOf, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from ...errors import BitterantError, ConfigError, UnknownNameError
from ...imaging import Budget
from ...records.config import (
    NO_WEIGHTS,
    Config,
    Granularity,
    Problems,
    Refusal,
    Schedule,
    Seed,
    WeightsPolicy,
    accepted,
    kinds,
    limits,
)
from ...surrogates import Precision

SURROGATE = "small-cnn"
"""On a CPU: a ResNet-18 costs forty times as much there."""


def own_surrogate(told: Mapping[str, Any]) -> str:
    """``resnet18``, the network of the literature, where the work is done on a CUDA device."""
    return "resnet18" if told["device"].type == "cuda" else SURROGATE


class HyperParameter(NamedTuple):
    """One hyper-parameter for people: what it may be, what it is by default, and what it means."""

    name: str
    values: str
    default: str
    meaning: str


class MethodRecipe(Config):
    """What every method is told. Hyper-parameters are the fields that a sub-class adds, each described below it."""

    model_config = ConfigDict(
        strict=True, allow_inf_nan=False, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    presets: ClassVar[Mapping[str, MethodRecipe]] = MappingProxyType({})

    method: str = ""
    """Its registry name."""
    budget: InstanceOf[Budget] = Budget(8 / 255)
    """How far a pixel may move."""
    granularity: Granularity = "sample"
    """Whose patterns there are."""
    seed: Seed = 0
    """Of everything random."""
    device: InstanceOf[torch.device] = torch.device("cpu")
    """Where to compute."""
    surrogate: str = ""
    """Registry name; empty for methods without one."""
    weights: InstanceOf[WeightsPolicy] = NO_WEIGHTS
    """Where those of the surrogate come from."""

    @field_validator("surrogate")
    @classmethod
    def _is_used(cls, surrogate: str, info: ValidationInfo) -> str:
        field = cls.model_fields["surrogate"]
        if surrogate and not field.default and field.default_factory is None:
            raise no_surrogate(surrogate, info)
        return surrogate

    @classmethod
    def made(cls, given: Mapping[str, Any]) -> Self:
        """The recipe of what was given by name; ``None`` leaves a value to the preset, or to us.

        Raises:
            ConfigError: all that is wrong with it.
            UnknownNameError: no such hyper-parameter, or no such word.
        """
        given = {name: value for name, value in given.items() if value is not None}
        if given.get("precision") == "auto":
            del given["precision"]
        named = cls.presets.get(str(given.get("preset")))
        values = {} if named is None else {name: getattr(named, name) for name in named.model_fields_set}
        try:
            return cls(**{**values, **given})
        except ValidationError as error:
            problems = Problems()
            for found in cls._wrong(error, given).values():
                problems.add(found)
            problems.raise_all()
            raise

    @classmethod
    def _explain(cls, name: str, item: Any, given: Mapping[str, Any]) -> BitterantError:
        method, value = given["method"], given.get(name)
        if item["type"] == "extra_forbidden":
            if name == "preset":
                return ConfigError(
                    f"The method {method} has no preset {value!r}: it comes in one form only. Leave it out."
                )
            if name == "precision":
                return ConfigError(
                    f"The method {method} computes in one precision only, so {value!r} would do nothing."
                )
            return unknown(method, name, cls.settable())
        if name == "secret":  # whatever was given may be the key: it is not told
            return ConfigError(f"The secret of {method} is bytes, not text or a number.")
        if name == "budget":
            return ConfigError(f"budget is a Budget, such as Budget.from_levels(8) or Budget(8 / 255), not {value!r}.")
        return super()._explain(name, item, given)

    @classmethod
    def _called(cls, name: str, given: Mapping[str, Any]) -> str:
        return name if name in MethodRecipe.model_fields else f"{name} of {given['method']}"

    @classmethod
    def hyper_parameters(cls) -> dict[str, FieldInfo]:
        """The fields that are the method's own by name, preset and precision among them."""
        return {name: field for name, field in cls.model_fields.items() if name not in MethodRecipe.model_fields}

    @classmethod
    def settable(cls) -> list[HyperParameter]:
        """Those that ``--set`` takes: plain values without an option of their own."""
        found = []
        for name, field in cls.hyper_parameters().items():
            if name in CraftingRecipe.model_fields or any(kind not in _PLAIN for kind in kinds(field)):
                continue
            values = " or ".join(accepted(field)) + (f", {limits(field)}" if limits(field) else "")
            default = "" if field.default_factory is not None or field.default is None else str(field.default).lower()
            found.append(HyperParameter(name, values, default, " ".join((field.description or "").split())))
        return found

    @property
    def epsilon(self) -> float:
        """The bound, as a fraction of the full range."""
        return self.budget.epsilon

    def settings(self) -> dict[str, Any]:
        """What decides about the result, resolved and JSON-safe; of a key the method says what may be told."""
        return {
            "method": self.method,
            "granularity": self.granularity,
            "epsilon": self.epsilon,
            "norm": self.budget.norm,
            "surrogate": self.surrogate or None,
            "weights": str(self.weights.file) if self.weights.file else None,
            "seed": self.seed,
            "device": str(self.device),
            **{name: getattr(self, name) for name in self.hyper_parameters() if name not in _PRIVATE},
        }


class CraftingRecipe(MethodRecipe):
    """What methods are told that optimise: a preset, and what networks are computed in."""

    preset: Schedule = "balanced"
    """``balanced``, our default; ``fast``, some of the rounds; ``paper``, the published schedule."""
    surrogate: str = Field(default_factory=own_surrogate)
    """Registry name; default ``small-cnn``, on a GPU ``resnet18``."""
    precision: Precision = "auto"
    """``float32``, ``bfloat16`` or ``auto``; the paper preset computes in float32."""

    seed_places: ClassVar[tuple[int, ...]]

    @field_validator("precision")
    @classmethod
    def _as_in_the_paper(cls, precision: Precision, info: ValidationInfo) -> Precision:
        if info.data.get("preset") == "paper" and precision != "float32":
            raise Refusal(
                ConfigError("The paper preset is computed in float32. Leave out the precision, or the preset.")
            )
        return precision

    @property
    def paper(self) -> bool:
        """Whether this is the published schedule."""
        return self.preset == "paper"

    def derived_seed(self, *numbers: int) -> int:
        """The seed of one piece of work: what is done again is done alike.

        Args:
            numbers: which piece, one number for each of ``seed_places``, below which they lie.
        """
        seed = self.seed
        for number, place in zip(numbers, self.seed_places, strict=True):
            seed = seed * place + number
        return seed % 2**63  # torch takes 64 bits; a seed of 31 would need 65


def _within_the_budget(size: float, info: ValidationInfo) -> float:
    budget = info.data.get("budget")
    if budget is not None and size > 2 * budget.epsilon:
        raise Refusal(ConfigError(f"{info.field_name} {size:g} must lie in (0, 2 epsilon]."))
    return size


StepSize = Annotated[float, Field(gt=0), AfterValidator(_within_the_budget)]
"""Of steps on pixels, in units of the full range."""

_PRIVATE = ("key_file", "secret")
_PLAIN = (bool, int, float, str)


def tenth_of_the_budget(told: Mapping[str, Any]) -> float:
    """The step of the papers: epsilon / 10."""
    return told["budget"].epsilon / 10


def no_surrogate(surrogate: str, info: ValidationInfo) -> Refusal:
    """That a surrogate was named where none is used."""
    method = info.data.get("method")
    return Refusal(ConfigError(f"{method} uses no surrogate, so {surrogate!r} would do nothing. Leave it out."))


def unknown(method: str, name: str, known: list[HyperParameter]) -> ConfigError:
    """That a method has no hyper-parameter of this name."""
    if not known:
        return ConfigError(f"The method {method} has no hyper-parameters, so not {name!r} either.")
    return UnknownNameError(f"hyper-parameter of {method}", name, [each.name for each in known])
