"""Which method fits a folder, and whether the folder has the labels that a method needs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ...errors import FolderError, LabelError, UnknownNameError
from ...imaging.scan import FolderScan

if TYPE_CHECKING:
    from ..methods import Method

__all__ = ["check_class_names", "check_labels", "choose_method", "single_picture_warning"]


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
