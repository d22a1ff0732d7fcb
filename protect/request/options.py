"""Whether a folder has what a method needs, labels, captions and enough pictures, and which method fits a folder."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...errors import ConfigError, FolderError, LabelError, UnknownNameError
from ...imaging.captions import CaptionOptions, read_captions
from ...imaging.scan import FolderScan
from ...records.text import counted

if TYPE_CHECKING:
    from ..methods import Method


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


def choose_method(name: str, scan: FolderScan | None, *, crafted: bool = False) -> str:
    """The method of a name; ``auto`` is what is chosen for class folders, or for flat ones.

    That is what has the lowest worst case over a trainer's cheap steps, and changes less that the eye sees:
    docs/methods/texture.md.

    Args:
        name: as given.
        scan: what lies in SRC; ``None`` where that was wrong.
        crafted: what else was asked for (a surrogate, one pattern a class, a paper's settings) means noise that is
            crafted on a network.

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
        return _chosen_for("without classes")
    return _chosen_for("crafted" if crafted else "classes")


def _chosen_for(folder: Literal["classes", "without classes", "crafted"]) -> str:
    from ..methods import method_class, method_names

    return next(name for name in method_names() if method_class(name).chosen_for == folder)


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
                f"others like it (bitterant apply){_alone()}."
            )
        raise FolderError(
            f"{scan.root} holds {counted(len(scan.entries), 'picture')}, but the method {method.name} needs at least "
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
            f"Add a second folder of other pictures, or take --method {_chosen_for('without classes')}, which needs no "
            "classes. If the "
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
    from ..methods import method_class, method_names

    first = _chosen_for("without classes")
    remarks = {name: method_class(name).without_classes for name in sorted(method_names(), key=first.__ne__)}
    others = "; ".join(f"--method {name} {remark}" for name, remark in remarks.items() if remark)
    return LabelError(
        f"The pictures in {scan.root} ({len(scan.entries)}) lie in no class folders, and {what} needs to "
        f"know which pictures belong together. Put them in one folder for each class, such as {scan.root.name}/cats "
        f"and {scan.root.name}/dogs. {others[:1].upper()}{others[1:]}."
    )


def _alone() -> str:
    """How methods protect one picture, as the end of a sentence."""
    from ..methods import method_class, method_names

    ways = {name: method_class(name).alone for name in method_names()}
    return "".join(f", or {way} (--method {name})" for name, way in ways.items() if way)
