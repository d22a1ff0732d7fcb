"""From a folder to a request: captions, opaque ids, and the private map.

Names and numbers can be taken out of captions before they leave the machine (:func:`anonymise`). The rules are simple
and miss some names: the preview of the request shows what is left. Where there are no captions, an image-to-text model
from a folder on this machine can make them, through transformers.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from ...errors import CaptionError, ConfigError, FolderError, ImageError, SetupError
from ...imaging.captions import Captioner, CaptionOptions, ImageCaption, read_captions
from ...imaging.codec import decode, read_header
from ...imaging.loading import FileProblem
from ...imaging.scan import Entry, FolderScan
from ...records.config import Problems
from ...records.files import check_free, write_atomic
from ...records.places import lies_in, sha256_file
from ...records.progress import ProgressCallback, StopRequest, silent
from ...records.secrets import opaque_id, seed_of
from ...records.text import counted, some
from ...records.threads import ordered_map
from ..request import check_source
from ..request.config import default_workers
from .request import MappedPicture, NoiseRequest, RequestLimits, RequestMap, RequestRow

#: Frequent given names: at the start of a sentence a capital tells nothing. Names that are words as well (Rose, Mark)
#: are left out.
GIVEN_NAMES: Final = frozenset(
    """
    aaron adam ahmed aisha alan albert alex alexander ali alice amanda amy ana andrea andrew angela anita anna anne
    anthony antonio arthur barbara benjamin betty brian carlos carol caroline catherine charles charlotte chen chris
    christina christopher daniel david deborah diana donald dorothy edward elena elizabeth emily emma eric ethan eva
    fatima fiona francesca frank gary george giulia hannah hans harry hassan helen henry hiroshi ibrahim isabella ivan
    jacob james jan jane jason jean jennifer jessica joan john jonathan jose joseph joshua juan julia julie karen kate
    kevin kim kimberly larry laura lauren leo liam lina linda lisa louis lucas lucy luis luke margaret maria marie mario
    martin mary matthew megan mei michael michelle mohamed mohammed muhammad nancy natalie nicholas nicole nina noah
    nora oliver olivia omar oscar pamela patricia paul pedro peter philip pierre priya rachel raj ralph raymond rebecca
    richard robert ronald ruth ryan samantha samuel sandra sara sarah scott sean sharon simon sofia sophia sophie
    stephanie stephen steven susan thomas timothy tom victoria wei william yuki yusuf zoe
    """.split()  # noqa: SIM905 - a hundred quoted names read worse
)

_ADDRESS: Final = re.compile(r"(?:https?://|www\.)\S+|(?<!\S)\S+@\S+|[@#]\w+", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\b\w*\d[\w.,:/-]*\b")
_WORD: Final = re.compile(r"[^\W\d_][\w'’-]*")


def anonymise(caption: str, *, deny: Collection[str] = (), keep_capitals: bool = False) -> str:
    """The caption without proper names, numbers, addresses and handles.

    A word with a capital is taken for a name unless it begins a sentence; there it is one if it is a frequent given
    name, or if the next word has a capital too. Nouns of languages that write all nouns with a capital go with them.

    Args:
        caption: one line.
        deny: further words to take out, whatever their case.
        keep_capitals: leave words with a capital alone, for names of classes.

    Returns:
        What is left, possibly empty.
    """
    names = GIVEN_NAMES | {word.casefold() for word in deny}
    text = _NUMBER.sub(" ", _ADDRESS.sub(" ", caption))
    words = list(_WORD.finditer(text))
    kept: list[str] = []
    end = 0
    for index, match in enumerate(words):
        between = text[end : match.start()]
        kept.append(between)
        starts = not match.start() or _ends_sentence(between)
        end = match.end()
        word = match.group()
        stem = re.split(r"['’]", word)[0].casefold()
        after = words[index + 1].group() if index + 1 < len(words) else ""
        single = len(word) == 1  # "A", "I"
        name_by_case = (
            not keep_capitals and word[0].isupper() and not single and (not starts or after[:1].isupper())
        )  # fmt: skip
        if not (stem in names or word.casefold() in names or name_by_case):
            kept.append(word)
    kept.append(text[end:])
    left = re.sub(r"\s+([.,;:!?])", r"\1", " ".join("".join(kept).split()))
    left = re.sub(r"[,;:]+(?=[.,;:!?])", "", left)  # of a list whose members went
    return left.strip(" ,;:-") if re.search(r"\w", left) else ""


def _ends_sentence(between: str) -> bool:
    """Whether what stands between two words ends a sentence, or opens one in quotes or brackets."""
    last = between.rstrip()
    if last.endswith(('"', "“", "(")):
        last = last[:-1].rstrip()
    return last.endswith((".", "!", "?", ":", ";"))


_TOKENS = 40


def load_captioner(folder: Path | str, *, device: str = "cpu") -> Captioner:
    """Load a captioner such as BLIP or GIT. Nothing is fetched; the pictures go nowhere.

    Args:
        folder: model and processor as transformers' ``save_pretrained`` writes them.
        device: where it runs.

    Raises:
        ConfigError: there is no such folder.
        SetupError: transformers is not installed, or the folder holds no image-to-text model.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {folder}. A captioner is a local folder with an image-to-text model.")
    try:
        transformers: Any = importlib.import_module("transformers")
        processors, models = transformers.AutoProcessor, transformers.AutoModelForImageTextToText
    except (ImportError, AttributeError) as error:
        raise SetupError(
            f"A captioner needs transformers, which is not installed or too old ({error}). "
            "Run: pip install 'transformers>=4.50'"
        ) from error
    try:
        # Never a program that lies in the folder, and no question whether to run it either.
        trusting = {"local_files_only": True, "trust_remote_code": False}
        processor = processors.from_pretrained(folder, **trusting)
        model = models.from_pretrained(folder, **trusting).to(device).eval()
    except Exception as error:  # whatever transformers raises on a folder that is not what it should be
        raise SetupError(f"{folder} holds no image-to-text model that transformers can load: {error}") from error

    def describe(path: Path) -> str:
        image = Image.fromarray(decode(path).rgb8())
        inputs = processor(images=image, return_tensors="pt").to(device)
        tokens = model.generate(**inputs, max_new_tokens=_TOKENS)
        return str(processor.batch_decode(tokens, skip_special_tokens=True)[0])

    return describe


_LISTED: Final = 5


@dataclass(frozen=True)
class Asked:
    """A request, ready to be written.

    Attributes:
        request: what leaves the machine.
        map: what stays.
        sources: how many captions came from where.
        problems: pictures left out since they cannot be read, and caption files with faults.
        warnings: what the user should know.
        left_out: how many pictures were left out.
    """

    request: NoiseRequest
    map: RequestMap
    sources: dict[str, int]
    problems: tuple[FileProblem, ...]
    warnings: tuple[str, ...]
    left_out: int

    @property
    def exit_code(self) -> int:
        """0, or 1 where pictures were left out."""
        return int(self.left_out > 0)


def ask_for_folder(
    source: Path | str,
    *,
    secret: bytes,
    captions: CaptionOptions | None = None,
    generic: bool = False,
    deny: Collection[str] = (),
    send_size: bool = False,
    send_seed: bool = False,
    follow_links: bool = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
) -> Asked:
    """Make the request for a folder. Nothing is written.

    Args:
        source: the pictures.
        secret: the owner's, from :func:`read_or_create_secret`. The same secret gives the same ids.
        captions: where they come from.
        generic: take proper names, numbers and addresses out of captions; of class names only numbers and ``deny``.
        deny: further words to take out, with ``generic``.
        send_size: say the size of each picture, so that its noise is made to measure.
        send_seed: choose the seeds here, so that the noise for a prompt depends on the owner's secret.
        follow_links: read what symbolic links lead to; they are left aside otherwise.
        progress: told how many pictures were looked at.
        stop: a flag to stop at the next picture.

    Raises:
        CaptionError: pictures without a caption.
        FolderError: no folder, no picture in it, or none that can be read.
        Interrupted: ``stop`` was set.
    """
    problems = Problems()
    scan = check_source(Path(source), problems, follow_links=follow_links)
    problems.raise_all()
    if scan is None:  # a problem was noted then
        raise FolderError(f"{source} could not be read.")
    found = read_captions(scan, captions)
    seen, unreadable = _look_at(scan, progress or silent, stop or StopRequest())
    limit = RequestLimits().prompt
    rows: list[RequestRow] = []
    pictures: dict[str, MappedPicture] = {}
    emptied: list[str] = []
    cut = 0
    for entry, sha256, size in seen:
        caption = found.captions[entry.relative]
        prompt = _prompt(caption, generic=generic, deny=deny)
        if not prompt:
            emptied.append(entry.relative)
            continue
        cut += len(prompt) > limit
        name = opaque_id(secret, entry.relative)
        rows.append(
            RequestRow(
                name,
                prompt[:limit].strip(),
                # A number that comes from the folder's name is sent only where the name itself is: in the prompt.
                entry.label if caption.source == "class" else None,
                seed_of(secret, f"z:{name}") if send_seed else None,
                size if send_size else None,
            )
        )
        pictures[name] = MappedPicture(entry.relative, sha256, *size, caption.source)
    if emptied:
        raise CaptionError(
            f"Without names and numbers nothing is left of {counted(len(emptied), 'caption')}: "
            f"{some(emptied, _LISTED)}. Reword them."
        )
    if not rows:
        raise FolderError(f"None of the pictures in {source} can be read: {unreadable[0].reason}.")
    warnings = [*scan.notes, *found.warnings]
    if cut:
        warnings.append(f"{counted(cut, 'caption was', 'captions were')} cut to {limit} characters.")
    request = NoiseRequest(tuple(rows))
    return Asked(
        request,
        RequestMap(pictures, request.prompts_sha256),
        found.sources,
        (*unreadable, *found.problems),
        tuple(warnings),
        len(unreadable),
    )


def _prompt(caption: ImageCaption, *, generic: bool, deny: Collection[str]) -> str:
    if not generic:
        return caption.first
    return anonymise(caption.first, deny=deny, keep_capitals=caption.source == "class")


def _look_at(
    scan: FolderScan, progress: ProgressCallback, stop: StopRequest
) -> tuple[list[tuple[Entry, str, tuple[int, int]]], list[FileProblem]]:
    """Digest and size of every picture that can be read."""

    def look(entry: Entry) -> tuple[Entry, str, tuple[int, int]] | FileProblem:
        try:
            header = read_header(entry.path, name=entry.relative)
            return entry, sha256_file(entry.path), (header.width, header.height)
        except ImageError as error:
            return FileProblem(entry.relative, error.reason)
        except OSError as error:
            return FileProblem(entry.relative, f"cannot be read: {error.strerror or error}")

    seen: list[tuple[Entry, str, tuple[int, int]]] = []
    unreadable: list[FileProblem] = []
    for done, result in enumerate(ordered_map(look, scan.entries, workers=default_workers(), stop=stop), start=1):
        if isinstance(result, FileProblem):
            unreadable.append(result)
        else:
            seen.append(result)
        progress("check", done, len(scan.entries), "looking at the pictures")
    if len(seen) + len(unreadable) < len(scan.entries):
        stop.check("Nothing was written.")
    return seen, unreadable


def check_private_places(source: Path, *paths: Path) -> None:
    """Make sure that new files do not come to lie among the originals, and that none is there already.

    Raises:
        FolderError: one would lie in the folder of pictures.
        ConfigError: one exists.
    """
    for path in paths:
        if lies_in(path, source):
            raise FolderError(f"{path} lies inside {source}. Originals are left as they are: choose a place outside.")
        check_free(path)


def write_asked(asked: Asked, request_path: Path, map_path: Path) -> None:
    """Write request and map, both or none.

    Raises:
        ConfigError: one exists already.
        OutputError: one cannot be written.
    """
    write_atomic(map_path, asked.map.to_bytes(), overwrite=False, private=True)
    try:
        write_atomic(request_path, asked.request.to_bytes(), overwrite=False)
    except BaseException:
        with suppress(OSError):
            map_path.unlink()
        raise
