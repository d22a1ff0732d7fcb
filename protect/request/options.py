"""The options of a run over a folder, the labels and captions a method needs, and how everything wrong is collected.

Collecting what is wrong with a request, so that a user is told everything at once.

The options of a run over a folder: what the method is told, and how pictures are written.

Captions for methods that make noise out of text.

Which method fits a folder, and whether the folder has the labels that a method needs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ...errors import BitterantError, ConfigError, FolderError, LabelError, SetupError, UnknownNameError
from ...imaging.captions import CaptionOptions, read_captions
from ...imaging.codec import MAX_PIXELS
from ...imaging.encoding import FormatPolicy
from ...imaging.metadata import MARKS, Mark
from ...imaging.scan import FolderScan

if TYPE_CHECKING:
    from ..methods import Method


class Problems:
    """Collects what is wrong, to raise it together."""

    def __init__(self) -> None:
        self.found: list[BitterantError] = []

    def add(self, error: BitterantError | None) -> None:
        """Note an error; ``None`` is no error."""
        if error is not None:
            self.found.append(error)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Note a configuration or environment error of the block instead of raising it."""
        try:
            yield
        except (ConfigError, SetupError) as error:
            self.found.append(error)

    def raise_all(self) -> None:
        """Raise what was found: one error as it is, several as one ConfigError with a line each.

        Raises:
            ConfigError: something is wrong with what was asked for.
            SetupError: only the machine is to blame.
        """
        if not self.found:
            return
        if len(self.found) == 1:
            raise self.found[0]
        lines = [f"{len(self.found)} things are wrong:", *(f"  - {error}" for error in self.found)]
        only_setup = all(isinstance(error, SetupError) for error in self.found)
        together = (SetupError if only_setup else ConfigError)("\n".join(lines))
        together.lines = tuple(lines)
        raise together


def check_choice(kind: str, value: str, known: Sequence[str]) -> UnknownNameError | None:
    """An error if ``value`` is none of the known names."""
    return None if value in known else UnknownNameError(kind, value, known)


MetadataPolicy = Literal["keep", "private", "strip"]
_FORMATS = get_args(FormatPolicy)
_METADATA = get_args(MetadataPolicy)


def default_workers() -> int:
    """Threads for reading and writing: the processors this process may use, eight at most (memory grows with it)."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        count = os.cpu_count() or 1
    return max(1, min(8, count))


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What ``fit`` is told; see :func:`bitterant.protect.protect_folder`."""

    method: str | Method = "auto"
    granularity: Literal["sample", "class", "cluster"] | None = None
    epsilon: float = 8 / 255
    surrogate: str | None = None
    resolution: int | Literal["auto"] = "auto"
    seed: int = 0
    device: str = "auto"
    preset: Literal["paper"] | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    weights: Path | None = None
    allow_download: bool = False
    coco: Path | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How pictures are written; see :func:`bitterant.protect.protect_folder`."""

    format: FormatPolicy = "lossless"
    metadata: MetadataPolicy = "keep"
    max_pixels: int = MAX_PIXELS
    workers: int | None = None
    mark: Mark | None = None

    def check(self, problems: Problems) -> int:
        """Note what is wrong; returns the number of threads."""
        problems.add(check_choice("format", self.format, _FORMATS))
        problems.add(check_choice("metadata policy", self.metadata, _METADATA))
        if self.mark is not None:
            problems.add(check_choice("mark", self.mark, MARKS))
        if self.max_pixels < 1:
            problems.add(ConfigError(f"max_pixels must be at least 1, not {self.max_pixels}."))
        if self.workers is not None and self.workers < 1:
            problems.add(
                ConfigError(f"workers must be at least 1, not {self.workers}. Leave it out to have it chosen.")
            )
        return self.workers or default_workers()

    def settings(self) -> dict[str, Any]:
        """Those that decide about the result, JSON-safe."""
        marked = {} if self.mark is None else {"mark": self.mark}
        return {"format": self.format, "metadata": self.metadata, "max_pixels": self.max_pixels, **marked}

    def warnings(self) -> list[str]:
        """What the user should know about them."""
        if self.format != "same":
            return []
        return [
            "JPEG files are written as JPEG again: that changes pixels by more than the budget and washes part of the "
            "protection out. Measure with `bitterant verify` what is left of it; --format webp keeps all of it, in "
            "files smaller than PNG."
        ]


def captions_for(scan: FolderScan, method: Method, coco: Path | None) -> tuple[dict[str, str] | None, tuple[str, ...]]:
    """The first caption of every picture by its path, and what the user should know about them.

    ``None`` where the method asks for no captions, makes one noise a class, or finds nothing but class names: those it
    puts into sentences itself.

    Args:
        scan: what lies in SRC.
        method: ready to fit.
        coco: a COCO captions file.

    Raises:
        CaptionError: pictures without a caption and without a class, or a file that cannot be used.
        ConfigError: a captions file for a method that reads none.
    """
    if method.needs != "captions" or method.granularity == "class":
        if coco is not None:
            kind = f"{method.name} per class" if method.needs == "captions" else f"The method {method.name}"
            raise ConfigError(f"{kind} reads no captions: leave {coco.name} out.")
        return None, ()
    found = read_captions(scan, CaptionOptions(coco=coco), suggest_fallback=False)
    told = tuple(f"{problem.relative}: {problem.reason}" for problem in found.problems[:3])
    if len(found.problems) > len(told):
        told += (f"{len(found.problems)} caption files or lines of them could not be used.",)
    if set(found.sources) == {"class"}:
        return None, (*told, *found.warnings)
    return {relative: caption.first for relative, caption in found.captions.items()}, (*told, *found.warnings)


def captions_digest(captions: Mapping[str, str]) -> str:
    """sha256 of all captions with the paths of their pictures."""
    return hashlib.sha256(json.dumps(sorted(captions.items())).encode()).hexdigest()


def choose_method(name: str, scan: FolderScan | None, *, with_surrogate: bool = False) -> str:
    """The method of a name; ``auto`` is ``texture`` for class folders and ``uc`` for flat ones.

    That is what has the lowest worst case over a trainer's cheap steps, and changes less that the eye sees:
    docs/methods/texture.md.

    Args:
        name: as given.
        scan: what lies in SRC; ``None`` where that was wrong.
        with_surrogate: what else was asked for (a surrogate, one pattern a class, a paper's settings) means noise
            that is crafted on a network: ``auto`` is then ``emn`` for class folders.

    Raises:
        UnknownNameError: no such method.
    """
    from ..methods import method_names

    known = method_names()
    if name != "auto":
        if name not in known:
            raise UnknownNameError("method", name, [*known, "auto"])
        return name
    if scan is not None and not scan.labelled:
        return "uc"
    return "emn" if with_surrogate else "texture"


def check_labels(scan: FolderScan, method: Method) -> None:
    """Make sure that SRC has the labels that the method needs.

    Raises:
        LabelError: it has none, only one class, or too few pictures of one.
        FolderError: too few pictures.
    """
    if len(scan.entries) < method.least_images:
        fewer = ", or ask for fewer clusters" if method.settings().get("clusters") else ""
        if len(scan.entries) == 1 and not scan.labelled:
            raise FolderError(
                f"{scan.entries[0].relative} is one picture alone, and the method {method.name} needs at least "
                f"{method.least_images} different ones. Add pictures; or protect it with a bank that was fitted on "
                "others like it (bitterant apply), or from a caption (--method t2ue)."
            )
        raise FolderError(
            f"{scan.root} holds {len(scan.entries)} pictures, but the method {method.name} needs at least "
            f"{method.least_images} different ones. Add pictures{fewer}."
        )
    needed = method.needs == "labels"
    if not scan.labelled and needed:
        raise _no_labels(scan, f"the method {method.name}")
    if not scan.labelled and method.granularity == "class":
        raise _no_labels(scan, "one pattern for each class (--granularity class)")
    if needed and len(scan.classes) < 2:
        raise LabelError(
            f"There is only one class folder with pictures in {scan.root}: {', '.join(scan.classes)}. The method "
            f"{method.name} needs two or more, since it works on what tells classes apart. "
            "Add a second folder of other pictures, or take --method uc, which needs no classes. If the "
            "classes are folders inside that one, give it as SRC."
        )
    sizes = Counter(entry.class_name for entry in scan.entries)
    small = [name for name in scan.classes if sizes[name] < method.least_images_a_class] if needed else []
    if small:
        raise LabelError(
            f"The method {method.name} needs at least {method.least_images_a_class} pictures of every class, and "
            f"{len(small)} of {len(scan.classes)} class folders hold fewer: {', '.join(small[:3])}"
            f"{', ...' if len(small) > 3 else ''}. Add pictures to them, or leave them out."
        )


def check_class_names(scan: FolderScan) -> None:
    """Make sure that class names are text: they become keys of the bank.

    Raises:
        FolderError: a name holds bytes that are no text.
    """
    for name in scan.classes:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            raise FolderError(
                f"The name of the class folder {name!r} in {scan.root} is not valid text. Rename that folder."
            ) from error


def single_picture_warning(scan: FolderScan) -> str | None:
    """What to say of classes with one picture; ``None`` where there are none."""
    sizes = Counter(entry.class_name for entry in scan.entries)
    single = [name for name in scan.classes if sizes[name] == 1]
    if not single:
        return None
    names = ", ".join(single[:3]) + (", ..." if len(single) > 3 else "")
    return (
        f"{len(single)} of {len(scan.classes)} class folders hold a single picture ({names}). "
        "A trainer learns little from one picture anyway, and nothing can be tested on it."
    )


def _no_labels(scan: FolderScan, what: str) -> LabelError:
    return LabelError(
        f"The {len(scan.entries)} pictures in {scan.root} lie in no class folders, and {what} needs to "
        f"know which pictures belong together. Put them in one folder for each class, such as {scan.root.name}/cats "
        f"and {scan.root.name}/dogs. --method uc works without classes, and so does "
        "--method texture, which is quicker and hinders a trainer less."
    )
