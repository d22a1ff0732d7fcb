"""``bitterant fit`` and ``bitterant apply``: the halves of ``protect``, with the noise kept in a bank between them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .boundary import guarded, stopping
from .config import ConfigOption
from .environment import prepare_torch
from .output import Output
from .progress import ProgressDisplay
from .protect import OutputArgument, SourceArgument, tell_problems, tell_summary

__all__ = ["apply", "fit"]


def fit(
    ctx: typer.Context,
    source: SourceArgument,
    bank: Annotated[
        Path, typer.Argument(metavar="BANK", help="File to write, for example noise.safetensors. Keep it private.")
    ],
    strength: options.StrengthOption = None,
    epsilon: options.EpsilonOption = None,
    method: options.MethodOption = "auto",
    granularity: options.GranularityOption = None,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = "auto",
    resume: options.ResumeOption = True,
    follow_links: options.FollowLinksOption = False,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    config: ConfigOption = None,
    surrogate: options.SurrogateOption = None,
    resolution: options.ResolutionOption = "auto",
    preset: options.PaperOption = None,
    precision: options.PrecisionOption = "auto",
    parameters: options.ParameterOption = None,
    generator: options.GeneratorOption = None,
    for_resolution: options.ForResolutionOption = None,
    coco: options.CocoOption = None,
    weights: options.WeightsOption = None,
    allow_download: options.AllowDownloadOption = False,
    workers: options.WorkersOption = None,
    max_pixels: options.MaxPixelsOption = 200_000_000,
    debug: options.DebugOption = False,
) -> None:
    """Make the noise for the pictures in SRC and keep it in the file BANK. Writes no pictures."""
    output = Output(as_json=as_json, quiet=quiet)
    with guarded(output, debug=debug):
        side = options.parse_resolution(resolution)
        chosen = options.method_parameters(parameters, generator=generator, for_resolution=for_resolution)
        prepare_torch()
        from ..protect import fit_folder
        from ..protect.folder.interrupt import interruptible

        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            summary = fit_folder(
                source,
                bank,
                method=method,
                granularity=granularity,
                epsilon=options.epsilon_levels(ctx, epsilon, strength) / 255,
                surrogate=surrogate,
                resolution=side,
                seed=seed,
                device=device,
                preset=preset,
                precision=precision,
                weights=weights,
                allow_download=allow_download,
                coco=coco,
                parameters=chosen,
                resume=resume,
                follow_links=follow_links,
                workers=workers,
                max_pixels=max_pixels,
                progress=progress,
                stop=stop,
            )
        for text in summary.warnings:
            output.warn(text)
        tell_problems(output, summary.problems)
        output.say(summary.headline, style="bold")
        output.result(summary.to_json())
        raise typer.Exit(summary.exit_code)


def apply(
    source: SourceArgument,
    output_folder: OutputArgument,
    bank: Annotated[Path, typer.Option(metavar="FILE", help="The bank that 'bitterant fit' wrote.")],
    file_format: options.FormatOption = "lossless",
    metadata: options.MetadataOption = "keep",
    resume: options.ResumeOption = True,
    strict: options.StrictOption = False,
    follow_links: options.FollowLinksOption = False,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    config: ConfigOption = None,
    weights: options.WeightsOption = None,
    allow_download: options.AllowDownloadOption = False,
    workers: options.WorkersOption = None,
    max_pixels: options.MaxPixelsOption = 200_000_000,
    debug: options.DebugOption = False,
) -> None:
    """Protect the pictures in SRC with the noise in a bank, without any optimisation.

    A class-wise bank also serves new pictures of its classes, and so does one of textures, without torch; a bank of
    clusters serves any picture. A sample-wise bank only serves the pictures it was made for.
    """
    output = Output(as_json=as_json, quiet=quiet)
    with guarded(output, debug=debug):
        from ..protect.bank_file import needs_torch

        if needs_torch(bank):
            prepare_torch()
        from ..protect import apply_folder
        from ..protect.folder.interrupt import interruptible

        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            summary = apply_folder(
                source,
                output_folder,
                bank=bank,
                format=file_format,
                metadata=metadata,
                resume=resume,
                follow_links=follow_links,
                strict=strict,
                device=device,
                weights=weights,
                allow_download=allow_download,
                workers=workers,
                max_pixels=max_pixels,
                progress=progress,
                stop=stop,
            )
        tell_summary(output, summary)
        raise typer.Exit(summary.exit_code)
