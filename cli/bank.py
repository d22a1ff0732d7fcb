"""``bitterant fit`` and ``apply``, the halves of ``protect`` with the noise kept in a bank between them, and
``code-book``, which makes a bank of textures from class names alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..protect.request.config import ApplyConfig, CodeBookConfig, FitFolderConfig
from ..records.text import counted
from . import options
from .boundary import guarded, prepare_torch, stopping
from .output import NextStep, free_name, quoted, tell_next
from .progress import ProgressDisplay
from .protect import OutputArgument, SourceArgument, tell_next_of, tell_problems, tell_summary

BankArgument = Annotated[
    Path, typer.Argument(metavar="BANK", help="File to write, for example noise.safetensors. Keep it private.")
]


@options.takes_options(FitFolderConfig, from_file=True)
def fit(source: SourceArgument, bank: BankArgument, given: options.Given, terminal: options.Terminal) -> None:
    """Make the noise for the pictures in SRC and keep it in the file BANK. Writes no pictures."""
    output = terminal.output
    with guarded(output, debug=terminal.debug):
        prepare_torch()
        from ..protect import fit_folder
        from ..records.progress import interruptible

        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            summary = fit_folder(source, bank, **given, progress=progress, stop=stop)
        for text in summary.warnings:
            output.warn(text)
        tell_problems(output, summary.problems)
        output.say(summary.headline, style="bold")
        output.result(summary.to_json())
        if not summary.exit_code:
            copies = quoted(_copies_of(source))
            tell_next(output, NextStep(f"bitterant apply {quoted(source)} {copies} --bank {quoted(bank)}"))
        raise typer.Exit(summary.exit_code)


def _copies_of(source: Path) -> Path:
    """A folder beside SRC that is not there yet."""
    name = Path(os.path.abspath(source))  # noqa: PTH100 - a name, also where SRC is ".."; links are not followed
    shown = source if source.name not in ("", "..") else name
    return shown.with_name(Path(free_name(str(name.with_name(f"{name.stem}-protected")), "")).name)


@options.takes_options(ApplyConfig, from_file=True)
def apply(
    source: SourceArgument,
    output_folder: OutputArgument,
    bank: Annotated[Path, typer.Option(metavar="FILE", help="The bank that 'bitterant fit' wrote.")],
    given: options.Given,
    terminal: options.Terminal,
) -> None:
    """Protect the pictures in SRC with the noise in a bank, without any optimisation.

    A class-wise bank also serves new pictures of its classes, and so does one of textures, without torch; a bank of
    clusters serves any picture. A sample-wise bank only serves the pictures it was made for.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug):
        from ..protect.bank_file import needs_torch

        if needs_torch(bank):
            prepare_torch()
        from ..protect import apply_folder
        from ..records.progress import interruptible

        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            summary = apply_folder(source, output_folder, bank=bank, **given, progress=progress, stop=stop)
        tell_summary(output, summary)
        tell_next_of(output, summary, source, output_folder)
        raise typer.Exit(summary.exit_code)


@options.takes_options(CodeBookConfig)
def code_book(bank: BankArgument, given: options.Given, terminal: options.Terminal) -> None:
    """Make a bank of textures from class names alone. 'bitterant apply' puts it on pictures, without torch.

    The names must be those of the folders that the pictures lie in. Pictures never travel: only this file does.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug):
        from ..errors import ConfigError
        from ..imaging.budget import Budget
        from ..protect.textures import TextureBank, TextureRecipe
        from ..records.secrets import secret_of_run

        config = CodeBookConfig.of(given)
        if bank.exists():
            raise ConfigError(f"{bank} exists already and is not replaced. Choose another name or move it away.")
        known = [*(read_names(config.classes) if config.classes is not None else ()), *config.names]
        if not known:
            raise ConfigError("Which classes? Give --classes FILE, one name a line, or --class NAME for each.")
        made = TextureBank.of_classes(
            known,
            secret_of_run(config.key_file, config.seed, purpose="texture"),
            budget=Budget(config.bound),
            for_resolution=config.for_resolution,
            recipe=TextureRecipe(colour=config.colour),
            seed=config.seed,
        )
        made.save(bank, overwrite=False)
        if config.key_file is None:
            output.warn(
                "The key is made of the seed: whoever guesses it can take the textures off. Give a --key-file of "
                "random bytes for pictures that you publish."
            )
        output.say(f"A code book of {counted(len(known), 'class', 'classes')}: {bank}. Keep it private.", style="bold")
        output.say(f"Next, where the pictures are: bitterant apply PHOTOS OUT --bank {quoted(bank)}", whole=True)
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
