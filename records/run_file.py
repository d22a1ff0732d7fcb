"""The run file: what was done to a folder, with which settings and versions, and how it came out."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .._version import __version__
from ..errors import ResumeError
from .places import read_regular
from .text import parse_json

RUN_FILE_NAME = "bitterant-run.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Quantiles(_Part):
    """Five points of a distribution over the protected pictures."""

    minimum: float
    p05: float
    median: float
    p95: float
    maximum: float


class Stealth(_Part):
    """How visible the change is, as read back from disk.

    Attributes:
        linf_levels: largest change a picture, in 1/255 units; ``None`` where nothing was protected.
        psnr: dB, over the pictures that changed.
        ssim: 1 is identical.
        ciede, ciede_p95, ciede_patches, flip: as in :class:`Visibility`; the larger, the more visible.
        flip_files: pictures on which FLIP was measured, a sample.
        flip_reason: why on none; ``None`` where it was.
        unchanged: pictures that came out identical (infinite PSNR), for example fully transparent ones.
    """

    linf_levels: Quantiles | None = None
    psnr: Quantiles | None = None
    ssim: Quantiles | None = None
    ciede: Quantiles | None = None
    ciede_p95: Quantiles | None = None
    ciede_patches: Quantiles | None = None
    flip: Quantiles | None = None
    flip_files: int = 0
    flip_reason: str | None = None
    unchanged: int = 0


class Timing(_Part):
    """Seconds. After a resume, ``total`` and ``write`` are those of the last part of the run.

    Attributes:
        total: from the first check to the run file.
        fit: the optimisation; of one that was interrupted, its last part.
        write: adding, encoding, reading back.
        images_per_second: pictures protected in the last part of the run over ``total``.
        resumed_rows: rows that an earlier, interrupted part of the run had finished.
    """

    total: float
    fit: float = 0.0
    write: float = 0.0
    images_per_second: float = 0.0
    resumed_rows: int = 0


class Shard(_Part):
    """A share of a run: the inputs whose content hashes fall to it, whatever they are called.

    Attributes:
        number: which share, from 1.
        of: how many there are.
        noise: digest of the noise, which all shares have in common; empty until it is known.
    """

    number: int = Field(ge=1)
    of: int = Field(ge=1)
    noise: str = ""

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A share written ``2/8``.

        Raises:
            ValueError: it is none.
        """
        number, of = (int(part) for part in text.split("/"))
        if not 1 <= number <= of:
            raise ValueError(f"there is no share {number} of {of}")
        return cls(number=number, of=of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def holds(self, sha256: str | None) -> bool:
        """Whether an input of this content falls to it; what could not be read is in the first."""
        return (0 if sha256 is None else int(sha256[:16], 16) % self.of) == self.number - 1


class RunFile(_Part):
    """The content of ``bitterant-run.json``.

    Attributes:
        schema_version: of this file.
        command: what made it.
        repeat: the command line that asks for the same, with SRC and OUT for the folders and the names of other files;
            ``None`` in files of earlier versions, and where noise came from a bundle.
        plan: sha256 over settings and inputs but skipped ones; on a CPU, two runs with one plan and the same versions
            give the same pictures.
        settings: everything that decides about the result, resolved.
        seed: the one seed.
        versions: of Python and the packages that matter.
        surrogate: name and sha256 of the protector's model, empty where the method has none.
        inputs_sha256: sha256 over the (relative path, sha256) of all inputs.
        counts: protected, copied, skipped, failed; their sum is the number of inputs.
        over_budget: pictures whose change on disk is larger than epsilon (only ever with ``--format same``).
        stealth: how visible the change is.
        fit: the method's own report: stop rule, what the self-check reached.
        warnings: what the user should know.
        timing: seconds.
        bank_sha256: of the bank where it was kept; the bank itself never lies in the output folder.
        shard: which share of the run this is; ``None`` for the whole of it.
    """

    schema_version: Literal[1] = 1
    command: Literal["protect", "apply"]
    repeat: str | None = None
    plan: str
    settings: dict[str, Any]
    seed: int
    versions: dict[str, str]
    surrogate: dict[str, str] = Field(default_factory=dict)
    counts: dict[str, int]
    over_budget: int
    stealth: Stealth
    fit: dict[str, Any] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    timing: Timing
    bank_sha256: str | None = None
    shard: Shard | None = None

    @property
    def resumed_by(self) -> dict[str, Any]:
        """The settings with which a command goes on with it."""
        return self.settings if self.shard is None else {**self.settings, "shard": str(self.shard)}

    def to_bytes(self) -> bytes:
        """As indented JSON."""
        return json.dumps(json_safe(self.model_dump(mode="python")), indent=2, allow_nan=False).encode("ascii") + b"\n"


def read_run_file(path: Path) -> RunFile | None:
    """Read and validate a run file; ``None`` where there is none.

    Raises:
        ResumeError: it is damaged or of another version.
    """
    try:
        data = read_regular(path)
        parse_json(data)  # what no JSON of ours holds ends here
        return RunFile.model_validate_json(data)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # a ValidationError is one, too
        raise ResumeError(
            f"{path} is damaged or of another version of bitterant. "
            "Start again with --no-resume (in Python: resume=False)."
        ) from error


def versions() -> dict[str, str]:
    """Versions of everything that can change a byte of the result. torch is looked up, not imported."""
    found = {"bitterant": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "pillow", "scikit-learn"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def json_safe(value: Any) -> Any:
    """The value as strict JSON can hold it: NaN and infinity as text, undecodable file names escaped, the rest as text.

    Args:
        value: any nesting of mappings, sequences and scalars.
    """
    if isinstance(value, Mapping):
        return {json_safe(str(name)): json_safe(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [json_safe(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
