"""``bitterant t2ue train``: a generator of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..protect.request.text_config import GeneratorConfig
from ..records.text import counted
from . import options
from .boundary import guarded, pin_arithmetic, prepare_torch, stopping
from .output import quoted
from .progress import ProgressDisplay

if TYPE_CHECKING:
    from ..protect.methods.t2ue import TrainProgress


@options.takes_options(GeneratorConfig)
def train(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="New folder for the generator.")],
    given: options.Given,
    terminal: options.Terminal,
) -> None:
    """Train a generator that turns captions into noise. A GPU helps; the small sizes do without.

    On a CPU it computes with the instructions that all processors have, in one thread: the same command gives the same
    generator on another machine, too.

    Stopped or killed, the same command goes on where it was.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug, stopped="Stopped. The same command goes on where it was."):
        config = GeneratorConfig.of(given)
        # A GPU has its own arithmetic, and a CPU beside it no need of it.
        if not config.device.startswith(("cuda", "mps")):
            pin_arithmetic()
        prepare_torch()
        from ..protect.methods.t2ue.generator_training import TrainRequest, make_generator
        from ..records.progress import interruptible

        recipe = {name: getattr(config, name) for name in ("steps", "batch_size", "diversity")}
        request = TrainRequest(
            out=out,
            pairs=config.pairs,
            coco=config.coco,
            surrogate=config.surrogate,
            side=None if config.size is None else int(config.size),
            epsilon=config.bound,
            preset=config.preset,
            seed=config.seed,
            device=config.device,
            resume=config.resume,
            recipe={
                **{name: value for name, value in recipe.items() if value is not None},
                **({} if config.mismatched else {"mismatched": False}),
            },
            weights=config.policy,
        )
        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:

            def tell(step: TrainProgress) -> None:
                losses = ", ".join(f"{name} {value:.2f}" for name, value in step.losses.items())
                progress("train", step.step, step.steps, losses)

            report = make_generator(request, progress=tell, stop=lambda: stop.requested)
        measures = report.measures
        output.say(f"A generator after {counted(report.steps, 'step')}: {out}", style="bold")
        output.facts(
            [
                ("losses", ", ".join(f"{name} {value:.2f}" for name, value in report.losses.items())),
                ("one caption, two random vectors", f"noises have a cosine of {measures.same_text:.2f}"),
                ("two classes", f"noises have a cosine of {measures.other_class:.2f}"),
                ("at the bound", f"{measures.saturated:.0%} of the values"),
            ]
        )
        if measures.same_text > 0.9:
            output.warn(
                "Noises of one caption are nearly the same whatever the random vector: who knows the caption and has "
                "the generator can subtract them. --diversity 1 keeps them apart."
            )
        words = f"bitterant protect PHOTOS PROTECTED --method t2ue -g {quoted(out)}"
        output.say(f"It is used by: {words}", style="bold", whole=True)
        output.result({"generator": str(out), "steps": report.steps, "losses": report.losses,
                       "measures": measures.facts()})  # fmt: skip
