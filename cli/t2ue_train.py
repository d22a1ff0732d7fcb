"""``bitterant t2ue train``: a generator of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import options
from .boundary import guarded, pin_arithmetic, prepare_torch, stopping
from .output import Output, quoted
from .progress import ProgressDisplay

if TYPE_CHECKING:
    from ..protect.methods.t2ue import TrainProgress


def train(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="New folder for the generator.")],
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Pictures with captions beside them, or in class folders. Without it: sentences about ImageNet's "
            "things, and drawn discs instead of photographs.",
        ),
    ] = None,
    coco: Annotated[
        Path | None, typer.Option("--coco", metavar="FILE", help="A COCO captions file for the pictures of --pairs.")
    ] = None,
    surrogate: Annotated[
        str, typer.Option(metavar="NAME", help="Image-text surrogate: conse, or clip:ARCH/TAG.")
    ] = "conse",
    size: Annotated[
        Literal["32", "64", "256"] | None,
        typer.Option(
            metavar="32|64|256",
            help="Side of the noise in px. 256 is the paper's network.",
            show_default="32; with --preset paper 256",
        ),
    ] = None,
    strength: options.StrengthOption = None,
    epsilon: options.EpsilonOption = None,
    steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="Optimiser steps.", show_default="800")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Captions a step.", show_default="64")
    ] = None,
    diversity: Annotated[
        float,
        typer.Option(min=0.0, metavar="W", help="Weight of a term that keeps noises of one caption apart."),
    ] = 0.0,
    mismatched: Annotated[
        bool, typer.Option(help="Put noise on any picture, not only on the one that the caption describes.")
    ] = True,
    preset: options.PaperOption = None,
    seed: options.SeedOption = 0,
    resume: options.ResumeOption = True,
    device: options.DeviceOption = "auto",
    weights: options.WeightsOption = None,
    allow_download: options.AllowDownloadOption = False,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Train a generator that turns captions into noise. A GPU helps; the small sizes do without.

    On a CPU it computes with the instructions that all processors have, in one thread: the same command gives the same
    generator on another machine, too.

    Stopped or killed, the same command goes on where it was.
    """
    output = Output(as_json=as_json, quiet=quiet)
    with guarded(output, debug=debug, stopped="Stopped. The same command goes on where it was."):
        if not device.startswith(("cuda", "mps")):  # a GPU has its own arithmetic, and a CPU beside it no need of it
            pin_arithmetic()
        prepare_torch()
        from ..protect.methods.t2ue.generator_training import TrainRequest, make_generator
        from ..records.progress import interruptible

        chosen = {"steps": steps, "batch_size": batch_size}
        request = TrainRequest(
            out=out, pairs=pairs, coco=coco, surrogate=surrogate, side=None if size is None else int(size),
            epsilon=options.epsilon_levels(ctx, epsilon, strength) / 255, preset=preset, seed=seed, device=device,
            weights=weights, allow_download=allow_download, resume=resume,
            recipe={
                **{name: value for name, value in chosen.items() if value is not None},
                "diversity": diversity, **({} if mismatched else {"mismatched": False}),
            },
        )  # fmt: skip
        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:

            def tell(step: TrainProgress) -> None:
                losses = ", ".join(f"{name} {value:.2f}" for name, value in step.losses.items())
                progress("train", step.step, step.steps, losses)

            report = make_generator(request, progress=tell, stop=lambda: stop.requested)
        measures = report.measures
        output.say(f"A generator after {report.steps} steps: {out}", style="bold")
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
        output.say(f"It is used by: bitterant protect PHOTOS PROTECTED --method t2ue -g {quoted(out)}", style="bold")
        output.result({"generator": str(out), "steps": report.steps, "losses": report.losses,
                       "measures": measures.facts()})  # fmt: skip
