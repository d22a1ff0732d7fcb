"""``bitterant fit`` and ``apply``, the halves of ``protect`` with the noise kept in a bank between them, and
``code-book``, which makes a bank of textures from class names alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..protect.request.config import ApplyConfig, CodeBookConfig, FitFolderConfig, StreamConfig, read_names
from ..records.config import spellings
from ..records.text import counted, duration, pace
from . import options
from .boundary import guarded, prepare_torch, stopping
from .output import NextStep, Output, ProgressDisplay, free_name, quoted, tell_next
from .protect import SourceArgument, tell_next_of, tell_problems, tell_summary

if TYPE_CHECKING:
    from ..protect.streams import StreamPlan, StreamSummary

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


@options.takes_options(StreamConfig, from_file=True)
def apply(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="Folder of pictures, or of .tar or .parquet shards; a path, a pattern, or a URL (s3://).",
        ),
    ],
    output_folder: Annotated[
        str,
        typer.Argument(metavar="OUT", help="New folder for the protected copies, or its URL. SRC is never changed."),
    ],
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
        from ..protect.streams import StreamPlan, StreamSummary, apply_stream, is_stream

        if needs_torch(bank):
            prepare_torch()
        from ..protect import apply_folder
        from ..records.progress import interruptible

        elsewhere = bool(given.get("dry_run") or given.get("executor")) or is_stream(source, output_folder)
        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            if elsewhere:
                outcome = apply_stream(source, output_folder, bank=bank, **given, progress=progress, stop=stop)
            else:
                outcome = apply_folder(
                    source, output_folder, bank=bank, **_for_folders(given), progress=progress, stop=stop
                )
        if isinstance(outcome, StreamPlan):
            _tell_plan(output, outcome)
        elif isinstance(outcome, StreamSummary):
            _tell_stream(output, outcome)
            raise typer.Exit(outcome.exit_code)
        else:
            tell_summary(output, outcome)
            tell_next_of(output, outcome, Path(source), Path(output_folder), given.get("shard"))
            raise typer.Exit(outcome.exit_code)


def _for_folders(given: options.Given) -> options.Given:
    """What a folder run is told.

    Raises:
        ConfigError: an option was given that only shards have.
    """
    from ..errors import ConfigError

    only = [name for name in given if name not in ApplyConfig.model_fields and name != "dry_run" and given[name]]
    if only:
        names = ", ".join(spellings(name, StreamConfig.options()[name][1])[0] for name in only)
        raise ConfigError(f"{names}: for shards alone. In a folder of picture files the folders are the classes.")
    return {name: value for name, value in given.items() if name in ApplyConfig.model_fields}


def _tell_plan(output: Output, plan: StreamPlan) -> None:
    for text in plan.warnings:
        output.warn(text)
    tell_problems(output, plan.problems, listed="--json")
    output.say(f"Plan for {plan.source} -> {plan.output}. Nothing was written.", style="bold")
    output.facts(plan.facts())
    output.result(plan.to_json())


def _tell_stream(output: Output, summary: StreamSummary) -> None:
    for text in summary.warnings:
        output.warn(text)
    tell_problems(output, summary.problems)
    output.say(summary.headline, style="bold")
    output.facts(
        [
            ("time", ", ".join(filter(None, [duration(summary.seconds), pace(summary.images_per_second)]))),
            ("records", f"{summary.records} (manifest and run file: keep them private)"),
        ]
    )
    output.result(summary.to_json())


@options.takes_options(CodeBookConfig)
def code_book(bank: BankArgument, given: options.Given, terminal: options.Terminal) -> None:
    """Make a bank of textures from class names alone. 'bitterant apply' puts it on pictures, without torch.

    The names must be those of the folders that the pictures lie in. Pictures never travel: only this file does.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug):
        from ..errors import ConfigError
        from ..imaging.perturb import Budget
        from ..protect.textures import TextureBank, TextureRecipe
        from ..records.secrets import key_of_run, new_secret

        config = CodeBookConfig.of(given)
        if bank.exists():
            raise ConfigError(f"{bank} exists already and is not replaced. Choose another name or move it away.")
        known = [*(read_names(config.classes) if config.classes is not None else ()), *config.names]
        if not known:
            raise ConfigError("Which classes? Give --classes FILE, one name a line, or --class NAME for each.")
        seed = config.seed or 0
        drawn = new_secret() if config.seed is None and config.key_file is None else None
        key = key_of_run(config.key_file, drawn, seed, purpose="texture")
        made = TextureBank.of_classes(
            known,
            key.secret,
            budget=Budget(config.bound("texture")),
            for_resolution=config.for_resolution,
            recipe=TextureRecipe(colour=config.colour),
            seed=seed,
        )
        made.save(bank, overwrite=False)
        if key.kind == "seed":
            output.warn(
                "The key is made of the seed: whoever guesses it can take the textures off. For pictures that you "
                "publish leave --seed out, or give a --key-file of random bytes."
            )
        output.say(f"A code book of {counted(len(known), 'class', 'classes')}: {bank}. Keep it private.", style="bold")
        output.say(f"Next, where the pictures are: bitterant apply PHOTOS OUT --bank {quoted(bank)}", whole=True)
        output.result({"bank": str(bank), "classes": len(known), "key": key.kind, **made.report["texture"]})
