"""One object and one sample at a time: which class it has, its protected bytes, and what the manifest says of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ...errors import ConfigError, ImageError, UnknownNameError
from ...imaging.encoding import output_name
from ...imaging.formats import HEAD_BYTES, TOO_LARGE, describe_unknown, sniff_format
from ...imaging.label_maps import is_label_map
from ...imaging.shards import Held, ParquetShard, Replaced, Sample, Shard, TarShard
from ...records.config import FormatPolicy
from ...records.manifest import ManifestRow, image_key
from ...records.threads import Attempt
from ..folder.writing import NOTHING_FOR_IT, PictureWriter

PATH: Final = "path"
#: What the manifest says of a label map.
LABEL_MAP: Final = "a label map, copied as it is"
#: Columns that hold classes where nothing says which does.
_USUAL: Final = ("label", "class", "category")


class ClassUnknown(Exception):
    """A picture's class cannot be told, or the bank has none of its name; the message is a reason for the manifest."""


@dataclass(frozen=True)
class Classes:
    """Which class of the bank a sample has.

    Attributes:
        known: classes of the bank; empty where it does not go by classes.
        fixed: the class of all pictures; ``None`` where each has its own.
        field: where it stands; ``None``: found by itself.
        names: what numbers stand for.
    """

    known: frozenset[str]
    fixed: str | None
    field: str | None
    names: tuple[str, ...]

    @classmethod
    def of(cls, known: Sequence[str], *, asked: str | None, field: str | None, names: Sequence[str]) -> Classes:
        """Checked.

        Args:
            known: classes of the bank.
            asked: the class of all pictures, if one was given.
            field: where the class stands, if that was given.
            names: what numbers stand for.

        Raises:
            ConfigError: both were given, or the bank does not go by classes.
            UnknownNameError: the bank has no such class.
        """
        if asked is not None and field is not None:
            raise ConfigError("--class gives all pictures one class, and --class-from each its own. Give one of them.")
        if asked is not None and not known:
            raise ConfigError(f"The bank holds nothing by class, so --class {asked} says nothing. Leave it out.")
        if asked is not None and asked not in known:
            raise UnknownNameError("class of the bank", asked, known)
        only = known[0] if len(known) == 1 and field is None else None
        return cls(frozenset(known), asked or only, field, tuple(names))

    def in_folder(self, folder: str | None, name: str) -> str | None:
        """Of a picture that lies by itself.

        Args:
            folder: its class folder.
            name: its path.

        Raises:
            ClassUnknown: it has none that the bank knows.
        """
        if self.fixed is not None or not self.known:
            return self.fixed or folder
        if folder is None:
            raise ClassUnknown(f"it lies in no class folder ({name}); --class gives all pictures one class")
        return self._named(folder)

    def of_sample(self, shard: Shard, sample: Sample) -> str | None:
        """Of a sample.

        Raises:
            ClassUnknown: it has none that the bank knows.
        """
        if self.fixed is not None:
            return self.fixed
        field = self.field or self._usual(shard, sample)
        value = _folder_of(sample, self.known) if field == PATH else shard.value(sample, field) if field else None
        if value is None or isinstance(value, dict | list | bytes | float):
            if not self.known:
                return None
            told = (
                f"its {field} tells none" if self.field else "nothing tells it; --class-from NAME says where it stands"
            )
            raise ClassUnknown(f"no class: {told}")
        return self._named(value) if self.known else str(value)

    def _usual(self, shard: Shard, sample: Sample) -> str | None:
        if isinstance(shard, TarShard):
            return "cls" if shard.value(sample, "cls") is not None else PATH
        if isinstance(shard, ParquetShard):
            told = shard.columns_of_classes()
            if len(told) > 1 and "label" not in told:
                raise ConfigError(
                    f"The tables have several columns of classes: {', '.join(told)}. Say which with --class-from NAME."
                )
            if told:
                return "label" if len(told) > 1 else told[0]
            return next((name for name in _USUAL if name in shard.schema.names), None)
        return None

    def _named(self, value: Any) -> str:
        text = str(value).strip()
        if text in self.known:
            return text
        if text.isdecimal() and self.names:
            if int(text) < len(self.names) and self.names[int(text)] in self.known:
                return self.names[int(text)]
            raise ClassUnknown(f"the bank has nothing for class number {text:.20} of the list of classes")
        hint = "; --classes FILE says what the numbers stand for" if text.isdecimal() else ""
        raise ClassUnknown(f"the bank has nothing for the class {text[:60]!r}{hint}")


def _folder_of(sample: Sample, known: frozenset[str]) -> str | None:
    """The first folder on the way to a sample that is a class of the bank; the one it lies in where none is."""
    folders = sample.key.split("/")[:-1]
    return next((name for name in folders if name in known), folders[-1] if folders else None)


@dataclass(frozen=True)
class Outcome:
    """What became of one object or sample.

    Attributes:
        rows: of the manifest.
        replaced: protected pictures by the name they had; ``None``: nothing is written.
        classless: whether it is left out for its class alone.
    """

    rows: list[ManifestRow]
    replaced: dict[str, Replaced] | None
    classless: bool = False


def plain_row(source: str, status: Any, reason: str | None, sha256: str | None = None) -> ManifestRow:
    """A row of what was not protected."""
    return ManifestRow(source, None, sha256, None, status, reason)


def protect_one(
    writer: PictureWriter,
    data: bytes,
    row: ManifestRow,
    class_name: str | None,
    encoder: str,
    attempt: Attempt | None = None,
) -> tuple[bytes, ManifestRow]:
    """A picture's protected bytes, proved, with their row; no bytes where the bank holds nothing for it.

    ``attempt``, at that picture, may be given up meanwhile.

    Raises:
        ImageError: it cannot be read or protected.
    """
    try:
        with writer.decoders.at_work(attempt) as decode:
            made = writer.make(data, row.source, image_key(class_name, row.sha256_in or ""), encoder, decode)
            if made is None:
                return b"", replace(row, status="skipped", reason=NOTHING_FOR_IT, output=None)
            digest = hashlib.sha256(made.data).hexdigest()
            return made.data, writer.proved(made, made.data, replace(row, sha256_out=digest))
    except MemoryError:  # of this picture: what is smaller still fits
        raise ImageError(row.source, TOO_LARGE) from None


def encoder_for(name: str, data: bytes, planned: tuple[str, str], policy: FormatPolicy) -> str:
    """The file format of a copy whose name was planned by the original's name alone, now that its bytes are known."""
    found = sniff_format(data[:HEAD_BYTES])
    if found is None:
        raise ImageError(name, describe_unknown(data[:HEAD_BYTES]) if data else "the file is empty (0 bytes)")
    wanted, encoder = output_name(name, found, policy)
    return encoder if wanted == planned[0] else planned[1]


def protect_sample(
    writer: PictureWriter,
    shard: Shard,
    sample: Sample,
    where: str,
    classes: Classes,
    policy: FormatPolicy,
    attempt: Attempt | None = None,
) -> Outcome:
    """Protect the pictures of a sample. Where one of them fails the whole sample is left out: nothing may be taken for
    protected that is not, and a sample without its picture stops whoever reads it.

    Args:
        writer: puts the noise on.
        shard: where the sample comes from.
        sample: which.
        where: what its rows are called: the shard, and a slash.
        classes: tell its class.
        policy: of file formats.
        attempt: at that sample, which may be given up meanwhile.
    """
    if sample.problem is not None:
        return Outcome([plain_row(f"{where}{sample.key}", "failed", sample.problem)], None)
    rows: list[ManifestRow] = []
    replaced: dict[str, Replaced] = {}
    try:
        class_name = classes.of_sample(shard, sample) if sample.pictures else None
    except ClassUnknown as error:
        rows = [plain_row(f"{where}{held.label}", "skipped", f"{error}; not copied") for held in sample.pictures]
        return Outcome(rows, None, classless=True)
    taken = shard.names(sample)
    for held in sample.pictures:
        name = f"{where}{held.label}"
        row = plain_row(name, "failed", None)
        try:
            data = held.data
            if data is None:
                raise ImageError(name, f"its bytes are not in the table, only a path: {held.path[:80]}")
            row = replace(row, sha256_in=hashlib.sha256(data).hexdigest())
            if is_label_map(held.kind, data, alone=len(sample.pictures) == 1):
                rows.append(replace(row, status="copied", reason=LABEL_MAP))
                continue
            path, encoder = _copy_name(held, data, name, policy)
            if path != held.path and path in taken:
                path = f"{held.path}.{encoder.lower()}"
            taken.add(path)
            row = replace(row, output=f"{where}{path}" if held.label == held.path else name)
            copy, row = protect_one(writer, data, row, class_name, encoder, attempt)
            rows.append(row)
            if row.status != "protected":
                return Outcome([*map(_left_out, rows[:-1]), row], None)
            replaced[held.name] = Replaced(path, copy)
        except ImageError as error:
            failed = replace(row, status="failed", reason=error.reason, output=None, sha256_out=None)
            return Outcome([*map(_left_out, rows), failed], None)
    return Outcome(rows, replaced)


def _left_out(row: ManifestRow) -> ManifestRow:
    """The row of a picture whose sample is left out for another of its pictures."""
    return plain_row(row.source, "skipped", "its sample is left out, since another picture of it failed", row.sha256_in)


def _copy_name(held: Held, data: bytes, name: str, policy: FormatPolicy) -> tuple[str, str]:
    """What a copy is called as a file, nothing where its original has no name, and its file format."""
    found = sniff_format(data[:HEAD_BYTES])
    if found is None:
        raise ImageError(name, describe_unknown(data[:HEAD_BYTES]) if data else "the file is empty (0 bytes)")
    path, encoder = output_name(held.path or "x", found, policy)
    return (path if held.path else ""), encoder
