"""``bitterant code-book BANK``: a bank of textures from class names alone, to be handed to who has the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .boundary import guarded
from .output import Output

__all__ = ["code_book"]


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
        from ..protect.key_file import read_key
        from ..protect.textures import TextureBank

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
