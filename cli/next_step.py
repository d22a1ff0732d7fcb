"""The command that comes next, as it can be typed: suggested only where it would start."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection
from pathlib import Path

__all__ = ["after_protect", "free_name", "quoted"]


def quoted(path: Path | str) -> str:
    """A path as a shell takes it for one argument, and not for an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def free_name(stem: str, suffix: str) -> str:
    """``stem + suffix``, or with a number between them where a file of that name is there already."""
    number, name = 2, f"{stem}{suffix}"
    while Path(name).exists():
        name, number = f"{stem}-{number}{suffix}", number + 1
    return name


def after_protect(source: Path, output: Path, without: Collection[str]) -> str:
    """What to do with protected copies: verify them where there are enough pictures, else look at them. Nothing where
    SRC is a single picture, which no command compares with a folder.

    Args:
        source: SRC.
        output: OUT.
        without: paths below SRC of which there is no copy.
    """
    if not source.is_dir():
        return ""
    from ..attacks.enough import enough_to_hold_out, fewest_for_groups
    from ..imaging import scan_source

    # Only counted, so that links may lead anywhere.
    entries = scan_source(source, follow_links=True).entries
    counts = Counter(entry.class_name for entry in entries if entry.relative not in without)
    enough = enough_to_hold_out(list(counts.values())) if len(counts) > 1 else counts.total() >= fewest_for_groups()
    return f"bitterant {'verify' if enough else 'inspect'} {quoted(source)} {quoted(output)}"
