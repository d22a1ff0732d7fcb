"""``bitterant fit``, ``apply`` and ``code-book``: the noise or the code book kept in a bank between them.

``bitterant fit`` and ``bitterant apply``: the halves of ``protect``, with the noise kept in a bank between them.

``bitterant code-book BANK``: a bank of textures from class names alone, to be handed to who has the pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .boundary import guarded, prepare_torch, stopping
from .output import Output
from .progress import ProgressDisplay
from .protect import OutputArgument, SourceArgument, tell_problems, tell_summary


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
    config: options.ConfigOption = None,
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
        from ..records.progress import interruptible

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
    mark: options.MarkOption = None,
    resume: options.ResumeOption = True,
    strict: options.StrictOption = False,
    follow_links: options.FollowLinksOption = False,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    config: options.ConfigOption = None,
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
        from ..records.progress import interruptible

        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            summary = apply_folder(
                source,
                output_folder,
                bank=bank,
                format=file_format,
                metadata=metadata,
                mark=mark,
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


def code_book(
    ctx: typer.Context,
    bank: Annotated[
        Path, typer.Argument(metavar="BANK", help="File to write, for example book.safetensors. Keep it private.")
    ],
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Text file with one class name a line.", show_default=False)
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME", help="Name of one class; may be repeated.", show_default=False),
    ] = None,
    strength: options.StrengthOption = None,
    epsilon: options.EpsilonOption = None,
    seed: options.SeedOption = 0,
    key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Secret bytes, 16 or more, that nobody can guess.", show_default="made of the seed"
        ),
    ] = None,
    for_resolution: options.ForResolutionOption = None,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Make a bank of textures from class names alone. 'bitterant apply' puts it on pictures, without torch.

    The names must be those of the folders that the pictures lie in. Pictures never travel: only this file does.
    """
    output = Output(as_json=as_json, quiet=quiet)
    with guarded(output, debug=debug):
        from ..errors import ConfigError
        from ..imaging.budget import Budget
        from ..protect.textures import TextureBank
        from ..records.secrets import read_key

        if bank.exists():
            raise ConfigError(f"{bank} exists already and is not replaced. Choose another name or move it away.")
        known = [*(read_names(classes) if classes is not None else ()), *(names or ())]
        if not known:
            raise ConfigError("Which classes? Give --classes FILE, one name a line, or --class NAME for each.")
        made = TextureBank.of_classes(
            known,
            read_key(key_file, seed, purpose="texture"),
            budget=Budget.from_levels(options.epsilon_levels(ctx, epsilon, strength)),
            for_resolution=for_resolution,
            seed=seed,
        )
        made.save(bank, overwrite=False)
        if key_file is None:
            output.warn(
                "The key is made of the seed: whoever guesses it can take the textures off. Give a --key-file of "
                "random bytes for pictures that you publish."
            )
        output.say(f"A code book of {len(known)} classes: {bank}. Keep it private.", style="bold")
        output.say(f"Next, where the pictures are: bitterant apply PHOTOS OUT --bank {bank}")
        output.result({"bank": str(bank), "classes": len(known), **made.report["texture"]})


def read_names(path: Path) -> list[str]:
    """Class names out of a text file, one a line; empty lines are left out.

    Raises:
        ConfigError: it cannot be read, or holds no text.
    """
    from ..errors import ConfigError

    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"The file of class names {path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The file of class names {path} is not UTF-8 text.") from error
    return [line.strip() for line in lines if line.strip()]
