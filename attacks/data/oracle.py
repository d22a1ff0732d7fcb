"""The public tool as an oracle: what it makes of other pictures shows what it did to the published ones.

``attacks`` does not import ``protect``; a trainer has no more than the command, and neither has this module.
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError
from ...imaging import Picture, decode, encode
from ..facts import Protection

logger = logging.getLogger(__name__)

_LONGEST = 3600.0
_WORD = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_GRANULARITIES = ("sample", "class")
_SEED = 900_000


def other_seed(seed: int, protection: Protection) -> int:
    """A seed that depends on that of the verification, and is not the one the pictures were protected with."""
    chosen = _SEED + seed
    return chosen + 1 if chosen == protection.seed else chosen


def run_tool(
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    protection: Protection | None,
    *,
    seed: int,
    device: str,
) -> tuple[NDArray[np.uint8] | None, str]:
    """Protect pictures with ``bitterant protect`` as their run file says, with another seed.

    Method, granularity and epsilon are those of the run file; all else is the tool's own, as a trainer would leave it.
    What the run file says is not trusted: words of a known form become the values of options, and nothing else.

    Args:
        pictures: uint8 ``[P, 3, R, R]``.
        labels: int64 ``[P]``.
        classes: names of the classes, which are those of folders.
        protection: what the run file says, or ``None``.
        seed: of the verification.
        device: where to run.

    Returns:
        uint8 ``[P, 3, R, R]`` or ``None``; and how it was made, or why it was not, for people.
    """
    if protection is None or protection.method is None or protection.epsilon is None:
        return None, "no run file says how the pictures were protected"
    if not _WORD.fullmatch(protection.method):
        return None, "the run file names no method of this tool"
    chosen = other_seed(seed, protection)
    words = [f"--method={protection.method}", f"--epsilon={protection.epsilon * 255:g}", f"--seed={chosen}"]
    if protection.granularity in _GRANULARITIES:
        words.append(f"--granularity={protection.granularity}")
    logger.info("protecting %d pictures of the trainer with the tool itself: %s", len(pictures), " ".join(words))
    try:
        with tempfile.TemporaryDirectory(prefix="bitterant-pairs-", ignore_cleanup_errors=True) as place:
            made = _protect(Path(place), pictures, labels, classes, words, device)
    except (OSError, subprocess.TimeoutExpired, ImageError, ValueError) as error:
        logger.warning("the tool could not be run on pictures of the trainer: %s", error)
        return None, f"the tool could not be run ({str(error).partition(chr(10))[0][:200].rstrip('.')})"
    kind = " ".join(word for word in (protection.method, protection.granularity) if word is not None)
    return made, f"made by the tool itself ({kind}, seed {chosen})"


def _protect(
    place: Path,
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    words: Sequence[str],
    device: str,
) -> NDArray[np.uint8]:
    source, output = place / "clean", place / "protected"
    names = [Path(classes[int(label)]) / f"{row:06d}.png" for row, label in enumerate(labels.tolist())]
    for name, picture in zip(names, pictures, strict=True):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(encode(Picture(np.ascontiguousarray(picture.transpose(1, 2, 0))), format="PNG"))
    side = pictures.shape[-1]
    command = [sys.executable, "-m", "bitterant", "protect", str(source), str(output), *words,
               f"--resolution={side}", f"--device={device}", "--format=lossless", "--quiet"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_LONGEST, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise ValueError(lines[0] if lines else f"it ended with code {done.returncode}")
    result = np.empty_like(pictures)
    for row, name in enumerate(names):
        result[row] = decode((output / name).read_bytes(), name=name.as_posix()).rgb8().transpose(2, 0, 1)
    return result
