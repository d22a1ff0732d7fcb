"""Telling label maps (masks, index pictures) from pictures: they lie beside them in data sets for segmentation.

A label map holds numbers, not a picture. Noise would destroy it, and it shows nothing that needs protection. A name
alone proves nothing (*masks* may be a class of photos), so what lies in a folder of such a name is looked at; without a
name only what cannot be a picture counts: flat areas of a few numbers that would look black, or VOC's colours.
"""

from __future__ import annotations

import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..records.text import counted, spread

if TYPE_CHECKING:
    from PIL import Image

_Item = TypeVar("_Item")

_FOLDERS: Final = re.compile(
    r"(?:(?:gt|ground[-_ ]?truths?|train|training|val|validation|test|instance|semantic|panoptic|object|pixel)[-_ ]?)?"
    r"(?:masks?|labels?(?:[-_ ]?maps?)?|annotations?|annots?|seg[-_ ]?(?:maps?|masks?)|segs|trimaps?|mattes?"
    r"|segmentations?|segmentation(?:class|object|part)(?:aug|raw)?|gt|ground[-_ ]?truths?|gtfine|gtcoarse)"
    r"(?:[-_ ]?(?:png|images?|imgs?|train|training|val|validation|test|\d{4}))?"
)
_STEMS: Final = re.compile(
    r"(?P<picture>.+?)[-_. ](?:masks?|labels?|gt|ground[-_ ]?truth|seg|segmentation|annotation|trimap|matte"
    r"|(?:gtfine[-_])?(?:labelids|labeltrainids|instanceids|color))(?:[-_ ]?\d+)?"
)
_SAMPLE: Final = 8
_ODD_SAMPLE: Final = 3
_MOST_PIXELS: Final = 60_000_000
#: Formats that label maps come in.
_READ: Final = ("PNG", "BMP", "TIFF", "JPEG")

#: Distinct values of a label map: objects are numbered, and colour codes have a few hundred colours at most.
_MOST_VALUES: Final = 64
_MOST_COLOURS: Final = 256
#: In a folder that no name tells of: a picture of such values would look black.
_DARKEST: Final = 40
#: Share of neighbours that are equal. Of a photo, even a dark one, most are not.
_FLAT: Final = 0.9
_VOC: Final = ((0, 0, 0), (128, 0, 0), (0, 128, 0))


class LabelMaps:
    """What :func:`find_label_maps` found.

    Attributes:
        names: relative paths of the label maps.
        notes: what the user should know of them.
    """

    def __init__(self, names: Iterable[str] = (), notes: Iterable[str] = ()) -> None:
        self.names = frozenset(names)
        self.notes = tuple(notes)


def find_label_maps(files: Mapping[str, Path]) -> LabelMaps:
    """Label maps among the pictures of a folder.

    Args:
        files: relative path (with ``/``) and place of every picture.
    """
    named: dict[str, list[str]] = defaultdict(list)
    marked: list[tuple[str, str]] = []
    for name in files:
        folder = _label_folder(name)
        if folder is not None:
            named[folder].append(name)
        elif (picture := _picture_of(name)) is not None:
            marked.append((name, picture.casefold()))
    # Only what some name asks for is looked for: most folders hold no label maps, and many pictures.
    partners = {picture for _, picture in marked}
    partners = {stem for name in files if partners and (stem := _stem(name)) in partners}
    beside: dict[str, list[str]] = defaultdict(list)
    for name, picture in marked:
        if picture in partners:
            beside[name.rpartition("/")[0]].append(name)
    aside = {name for names in (*named.values(), *beside.values()) for name in names}
    wanted = {partner_stem(name) for names in named.values() for name in names}
    known = {stem for name in files if wanted and name not in aside and (stem := partner_stem(name)) in wanted}
    found: list[str] = []
    notes: list[str] = []
    for folder, names in named.items():
        if _are_label_maps(names, files, known):
            found += names
            notes.append(_say(names, f"in {folder}/"))
    for folder, names in beside.items():
        maps = [name for name in names if _few_values(files[name])]
        if maps:
            found += maps
            notes.append(_say(maps, f"beside the pictures{f' in {folder}/' if folder else ''}"))
    odd = _odd_folders(aside, files)
    for folder, names in odd.items():
        found += names
        notes.append(_say(names, f"in {folder}/"))
    return LabelMaps(found, notes)


def may_be_label_map(name: str) -> bool:
    """Whether a picture has the name of a label map, or lies in a folder, or a column, of such a name."""
    return _label_folder(name) is not None or _picture_of(name) is not None


def is_label_map(name: str, data: bytes, *, alone: bool = False) -> bool:
    """Whether one picture is a label map, by its name and its pixels.

    Args:
        name: its path, with ``/``.
        data: the bytes of its file.
        alone: no picture is beside it that it could belong to, so that the name of its folder alone counts.
    """
    named = _label_folder(name) is not None if alone else may_be_label_map(name)
    return named and _judge(data, _has_few_values)


def _say(names: Sequence[str], where: str) -> str:
    return (
        f"{counted(len(names), 'label map')} {where} (such as {names[0]}) with numbers instead of a picture: copied "
        "without any change, so not protected. Pictures of yours need another name, and another name of their folder."
    )


def _label_folder(name: str) -> str | None:
    """The outermost folder on the way to a file that is named like one of label maps."""
    parts = name.split("/")[:-1]
    for depth, part in enumerate(parts, start=1):
        if _FOLDERS.fullmatch(part.casefold()):
            return "/".join(parts[:depth])
    return None


def _picture_of(name: str) -> str | None:
    """``a/1`` for ``a/1_mask.png``; ``None`` where the name says nothing of the kind."""
    folder, slash, last = name.rpartition("/")
    found = _STEMS.fullmatch(PurePosixPath(last).stem.casefold())
    return None if found is None else f"{folder}{slash}{PurePosixPath(last).stem[: found.end('picture')]}"


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")).casefold()


def partner_of(name: str) -> str:
    """What a picture and the label map, or text, beside it share: ``a/1`` of ``a/1.jpg``, ``a/1_mask.png``."""
    return _picture_of(name) or str(PurePosixPath(name).with_suffix(""))


def partner_stem(name: str) -> str:
    """What a picture and its label map, or label file, in another folder share: the name, without ending and marks."""
    return partner_of(name).rpartition("/")[2].casefold()


def _are_label_maps(names: Sequence[str], files: Mapping[str, Path], pictures: set[str]) -> bool:
    """Whether a folder of that name holds label maps: by a few of its files, and by pictures of the same names."""
    sample = spread(names, _SAMPLE)
    if all(_few_values(files[name]) for name in sample):
        return True
    partners = sum(partner_stem(name) in pictures for name in names)
    return partners * 2 >= len(names) and all(_without_colour(files[name]) for name in sample)


def _odd_folders(aside: Collection[str], files: Mapping[str, Path]) -> dict[str, list[str]]:
    """Folders without a telling name in which nothing can be a picture; none where they are all there is.

    Args:
        aside: names that need no look any more.
        files: all of them.
    """
    sizes = Counter(name.rpartition("/")[0] for name in files if name not in aside)
    samples: dict[str, list[str]] = defaultdict(list)
    met: Counter[str] = Counter()
    for name in files:
        folder = name.rpartition("/")[0]
        if not folder or name in aside:
            continue
        if met[folder] in spread(range(sizes[folder]), _ODD_SAMPLE):
            samples[folder].append(name)
        met[folder] += 1
    odd = {folder for folder, names in samples.items() if _hold_numbers([files[name] for name in names])}
    if not odd or sum(sizes[folder] for folder in odd) == sizes.total():
        return {}
    inside: dict[str, list[str]] = {folder: [] for folder in samples if folder in odd}
    for name in files:
        if (folder := name.rpartition("/")[0]) in odd and name not in aside:
            inside[folder].append(name)
    return inside


def _hold_numbers(paths: Sequence[Path]) -> bool:
    """Whether none of these can be a picture. One that is empty, a single number throughout, proves nothing alone."""
    return all(_is_index(path) for path in paths) and any(_judge(path, _varies) for path in paths)


def _few_values(path: Path) -> bool:
    return _judge(path, _has_few_values)


def _without_colour(path: Path) -> bool:
    return _judge(path, _has_no_colour)


def _is_index(path: Path) -> bool:
    # Numbers survive in lossless files alone.
    lossless = path.suffix.lower() in (".png", ".bmp", ".tif", ".tiff")
    return lossless and _judge(path, _cannot_be_a_picture, modes=("L", "P", "I;16", "I"))


def _judge(source: Path | bytes, look: Callable[[Any], bool], modes: Sequence[str] = ()) -> bool:
    """What a look at the decoded file says; False for one that cannot be read, is too large, or has another mode."""
    from ..records.places import open_regular
    from .codec import open_image
    from .formats import claims_too_much

    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open_regular(source) as file:
            image, fmt = open_image(file, "")
            if fmt not in _READ or (modes and image.mode not in modes) or image.width * image.height > _MOST_PIXELS:
                return False
            size = len(source) if isinstance(source, bytes) else source.stat().st_size
            if claims_too_much(image, size, flat=True):
                return False
            image.load()
            return look(image)
    except Exception:  # a decoder raises anything on damaged bytes; the run itself will say what is wrong
        return False


def _has_few_values(image: Image.Image) -> bool:
    most = _MOST_VALUES if len(image.getbands()) == 1 else _MOST_COLOURS
    # Of a tiny picture any has few values.
    most = min(most, image.width * image.height // 16)
    most = max(2, most)
    if image.mode in ("L", "P", "1", "RGB", "RGBA"):
        return image.getcolors(most) is not None
    import numpy as np

    return len(np.unique(np.asarray(image))) <= most


def _has_no_colour(image: Image.Image) -> bool:
    if image.mode in ("1", "L", "P", "I;16", "I"):
        return True
    bands = image.convert("RGB").split()
    return all(bands[0].tobytes() == band.tobytes() for band in bands[1:])


def _cannot_be_a_picture(image: Image.Image) -> bool:
    import numpy as np

    values = np.asarray(image)
    if values.shape[1] > 1 and float((values[:, 1:] == values[:, :-1]).mean()) < _FLAT:
        return False
    if image.mode == "P":
        colours = image.getpalette() or []
        return tuple(zip(*[iter(colours[:9])] * 3, strict=False)) == _VOC and image.info.get("transparency") is None
    return int(values.max()) <= _DARKEST


def _varies(image: Image.Image) -> bool:
    low, high = image.getextrema()
    return low != high
