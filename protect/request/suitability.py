"""Whether a folder has what a method needs, labels, captions and enough pictures, and which method fits a folder."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ConfigError, FolderError, LabelError
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
        told += (f"{len(found.problems)} caption files or lines of them could not be used.",)  # more than three
    if set(found.sources) == {"class"}:
        return None, (*told, *found.warnings)
    return {relative: caption.first for relative, caption in found.captions.items()}, (*told, *found.warnings)


def captions_digest(captions: Mapping[str, str]) -> str:
    """sha256 of all captions with the paths of their pictures."""
    return hashlib.sha256(json.dumps(sorted(captions.items())).encode()).hexdigest()


def choose_method(name: str, scan: FolderScan | None, *, on_network: bool = False) -> str:
    """The method of a name; ``auto`` is the default for folders of this kind.

    Args:
        name: as given.
        scan: what lies in SRC; ``None`` where that was wrong.
        on_network: what else was asked for (a surrogate, one pattern a class, a paper's settings) means noise that is
            crafted on a network: ``auto`` is then another one for class folders.

    Raises:
        UnknownNameError: no such method.
        ConfigError: it is a plug-in that cannot be used.
    """
    from ..methods.registry import default_method, method_class

    if name != "auto":
        return method_class(name).name
    return default_method(labelled=scan is None or scan.labelled, on_network=on_network)


def check_labels(scan: FolderScan, method: Method) -> None:
    """Make sure that SRC has the labels that the method needs.

    Raises:
        LabelError: it has none, only one class, or too few pictures of one.
        FolderError: too few pictures.
    """
    from ..methods.registry import default_method, method_classes

    if len(scan.entries) < method.least_images:
        fewer = ", or ask for fewer clusters" if method.settings().get("clusters") else ""
        if len(scan.entries) == 1 and not scan.labelled:
            from_caption = next(name for name, cls in method_classes().items() if cls.needs == "captions")
            raise FolderError(
                f"{scan.entries[0].relative} is one picture alone, and the method {method.name} needs at least "
                f"{method.least_images} different ones. Add pictures; or protect it with a bank that was fitted on "
                f"others like it (bitterant apply), or from a caption (--method {from_caption})."
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
            f"Add a second folder of other pictures, or take --method {default_method(labelled=False)}, which needs no "
            "classes. If the "
            "classes are folders inside that one, give it as SRC."
        )
    sizes = Counter(entry.class_name for entry in scan.entries)
    small = [name for name in scan.classes if sizes[name] < method.least_images_a_class] if needed else []
    if small:
        raise LabelError(
            f"The method {method.name} needs at least {method.least_images_a_class} pictures of every class, and "
            f"{len(small)} of {len(scan.classes)} class folders "
            f"{'holds' if len(small) == 1 else 'hold'} fewer: {', '.join(small[:3])}"
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
        f"{len(single)} of {counted(len(scan.classes), 'class folder')} {'holds' if len(single) == 1 else 'hold'} a "
        f"single picture ({names}). "
        "A trainer learns little from one picture anyway, and nothing can be tested on it."
    )


def _no_labels(scan: FolderScan, what: str) -> LabelError:
    from ..methods.registry import default_method, method_classes

    quick = next(name for name, cls in method_classes().items() if cls.instant and cls.without_labels is not None)
    return LabelError(
        f"The {counted(len(scan.entries), 'picture')} in {scan.root} {'lies' if len(scan.entries) == 1 else 'lie'} in "
        f"no class folders, and {what} needs to know which pictures belong together. Put them in one folder for each "
        f"class, such as {scan.root.name}/cats and {scan.root.name}/dogs. --method {default_method(labelled=False)} "
        f"works without classes, and so does --method {quick}, which is quicker and hinders a trainer less."
    )
