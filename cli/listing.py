"""``bitterant list KIND``: the names that options take."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ..errors import ConfigError
from ..protect.request.config import complete_method
from . import options
from .boundary import guarded, prepare_torch
from .output import Output

Kind = Literal["methods", "surrogates", "victims", "adversaries"]


@options.takes_options(quiet=False)
def list_names(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="methods, surrogates, victims or adversaries.")],
    terminal: options.Terminal,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A method: what --set takes with it.", autocompletion=complete_method),
    ] = None,
) -> None:
    """List the names of methods, surrogates, victims or adversaries, each with one line about it.

    ``list methods NAME`` lists the hyper-parameters of one method: what each may be, its default and its meaning.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug):
        if name is not None and kind != "methods":
            raise ConfigError(f"Only a method has hyper-parameters to list: 'bitterant list {kind}' takes no NAME.")
        prepare_torch()
        if name is not None:
            _list_hyper_parameters(output, name)
            return
        if kind == "adversaries":
            _list_adversaries(output)
            return
        rows = _rows(kind)
        output.answer(("name", "what it is"), rows)
        output.result({kind: [{"name": name, "about": about} for name, about in rows]})


def _list_hyper_parameters(output: Output, name: str) -> None:
    """What ``--set`` takes with a method, and its presets."""
    from ..protect.methods import method_class

    recipe = method_class(name).recipe_class
    found = recipe.settable()
    if found:
        rows = [(each.name, each.values, each.default or "see there", each.meaning.replace("``", "")) for each in found]
        output.answer(("name", "value", "default", "what it means"), rows)
    else:
        output.say(f"The method {name} has no hyper-parameters.")
    if recipe.presets:
        output.say("Presets: balanced (what stands above), " + " and ".join(recipe.presets) + ".")
    presets = {
        preset: {field: value for field, value in instance.settings().items() if field in instance.model_fields_set}
        for preset, instance in recipe.presets.items()
    }
    output.result({"method": name, "hyper_parameters": [each._asdict() for each in found], "presets": presets})


def _list_adversaries(output: Output) -> None:
    """Name, tier, class of the trainer, whether seen in crafting, cost in plain trainings, one line, and the paper."""
    from ..attacks.adversaries import adversary_classes, adversary_origin
    from ..attacks.terms import CRAFTING_MEANINGS, TRAINER_MEANINGS

    rows = [
        {
            "name": name,
            "tier": cls.tier,
            "trainer": cls.listed_trainer(),
            "crafting": cls.listed_crafting(),
            "cost": cls.cost,
            "about": cls.description,
            "source": " ".join((cls.source, *_from(adversary_origin(name)))),
        }
        for name, cls in adversary_classes().items()
    ]
    output.answer(
        ("name", "tier", "class", "crafting", "cost", "what the trainer does", "source"),
        [tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in row.values()) for row in rows],
    )
    meanings = {"classes": TRAINER_MEANINGS, "crafting": CRAFTING_MEANINGS}
    output.say("\nClasses of trainers, with the parameter that is left out (last-layer:0.01 is W2):")
    output.facts(list(TRAINER_MEANINGS.items()))
    output.say("Crafting:")
    output.facts(list(CRAFTING_MEANINGS.items()))
    output.result({"adversaries": rows, **meanings})


def _rows(kind: Kind) -> list[tuple[str, str]]:
    if kind == "methods":
        from ..protect.methods import method_class, method_names, method_origin

        return [
            (name, " ".join((_first_line(method_class(name)), *_from(method_origin(name))))) for name in method_names()
        ]
    from ..surrogates import surrogate_names, surrogate_spec

    names = surrogate_names()
    if kind == "victims":
        from ..attacks import victim_names

        names = victim_names()
    specs = [(name, surrogate_spec(name)) for name in names]
    rows = [(name, f"{spec.description} (family {spec.family})") for name, spec in specs if spec is not None]
    if kind == "victims":
        from ..attacks.own_victims import victim_origin
        from ..attacks.training import victim_family

        own = [name for name, spec in specs if spec is None]
        rows += [(name, " ".join((f"family {victim_family(name)}", *_from(victim_origin(name))))) for name in own]
    rows.append(("timm:NAME", "any network of timm"))
    if kind == "surrogates":
        rows += [
            ("clip:ARCH/TAG", "any CLIP of open_clip (extra 'clip'); weights from --weights or --allow-download"),
            ("resnet18/TAG", "with torchvision's ImageNet weights, such as resnet18/IMAGENET1K_V1; also resnet50"),
            ("A+B", "several as one: their losses are averaged"),
        ]
    return rows


def _from(origin: str | None) -> list[str]:
    """What is said of a plug-in."""
    return [] if origin is None else [f"[{origin}]"]


def _first_line(thing: type) -> str:
    """The first paragraph of a docstring, on one line, without markup."""
    first = (thing.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(first.replace("``", "").split())
