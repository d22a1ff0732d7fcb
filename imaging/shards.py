"""Many pictures in one file: tar archives as WebDataset has them, and Parquet tables as Hugging Face has them.

A shard is read sample by sample and written again in the same order, with other bytes for its pictures and everything
else as it was. Shards come from outside, so their members' names, sizes and kinds are not believed.

The archives are read with the standard library's ``tarfile`` instead of the package ``webdataset``: that one reads any
member of any size, drops what it does not know, and writes samples without the order, names and times of their members.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final, Protocol

from ..errors import ImageError
from ..records.stores import HashingFile, why_unsafe
from ..records.text import parse_json
from .formats import EXTENSIONS, HEAD_BYTES, is_picture_name, sniff_format
from .tables import import_pyarrow

#: A member that tarfile itself has to read to know what follows: long names and the like.
_LARGEST_HEADER: Final = 1 << 20
_BLOCK: Final = 512
#: Members of one sample.
_MOST_MEMBERS: Final = 1000
#: What is read at once of a Parquet file, and how large a row group is that is written.
_ROWS: Final = 16
_GROUP_BYTES: Final = 1 << 28
#: A row group of more is refused: reading a column of it may take as much memory.
_LARGEST_GROUP: Final = 1 << 34
#: First bytes that no text begins with, unlike those of BMP and PPM.
_TELLING: Final = frozenset({"PNG", "JPEG", "WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000"})


@dataclass(frozen=True, slots=True)
class Held:
    """A picture in a sample.

    Attributes:
        name: of its member or column, unique in the sample.
        label: what the manifest calls it, below the name of the shard.
        kind: a path that says what it is, for those that are label maps.
        path: what it is called as a file, for its copy's name; empty where it has no name.
        data: the bytes of its file; ``None`` where it has none in it.
    """

    name: str
    label: str
    kind: str
    path: str
    data: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sample:
    """Some pictures and what belongs to them.

    Attributes:
        key: of the sample in its shard: a path without ending, or the number of a row.
        pictures: in their order.
        problem: why it cannot be used as a whole; ``None`` where it can.
        handle: for the writer of the same shard.
    """

    key: str
    pictures: tuple[Held, ...]
    problem: str | None = None
    handle: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Replaced:
    """A protected picture: what it is called as a file, and its bytes."""

    path: str
    data: bytes


class ShardWriter(Protocol):
    """Writes samples of one shard to another."""

    def add(self, sample: Sample, replaced: Mapping[str, Replaced]) -> None:
        """Append a sample, its pictures by name replaced. Those that are not named stay as they are."""
        ...

    def close(self) -> None:
        """Write what ends the file, which stays open."""
        ...


class Shard(Protocol):
    """An open shard.

    Attributes:
        notes: what people should know of it; complete once it was read to its end.
        share: how much of it was read so far, 0 to 1.
    """

    notes: list[str]
    share: float

    def samples(self) -> Iterator[Sample]:
        """Every sample, in order.

        Raises:
            ImageError: the shard is damaged, from here on.
        """
        ...

    def value(self, sample: Sample, name: str) -> Any:
        """A field of a sample: a text, a number, or ``None`` where it has none of that name."""
        ...

    def names(self, sample: Sample) -> set[str]:
        """Names of files in a sample, which those of its copies may not take."""
        ...

    def writer(self, file: HashingFile) -> ShardWriter:
        """A shard of the same kind, to be written."""
        ...


def is_tar_name(name: str) -> bool:
    """Whether an object of this name is an archive of samples."""
    return name.lower().endswith(".tar")


def is_parquet_name(name: str) -> bool:
    """Whether an object of this name is a table of samples; ``metadata.parquet`` is one of captions."""
    last = name.rpartition("/")[2].lower()
    return last.endswith(".parquet") and last != "metadata.parquet"


def is_packed_name(name: str) -> bool:
    """Whether an object of this name is an archive that has to be unpacked first."""
    return name.lower().endswith((".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2", ".zip"))


def open_shard(file: BinaryIO, name: str, *, columns: tuple[str, ...] = (), most: int) -> Shard:
    """Open a shard.

    Args:
        file: seekable.
        name: what messages call it; its ending says what it is.
        columns: the only columns or endings (``jpg``) that are pictures; all that are, if empty.
        most: bytes of a member or a value; what is larger is not read.

    Raises:
        ImageError: it is damaged.
        SetupError: it is a table and pyarrow is not installed.
    """
    return TarShard(file, name, columns, most) if is_tar_name(name) else ParquetShard(file, name, columns, most)


# ------------------------------------------------------------------------------------------------------------- tar
class _Guarded:
    """A file of which tarfile, that believes what headers claim, reads no more at once than a header may have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return self._file.read(size)


@dataclass(frozen=True, slots=True)
class _Member:
    info: tarfile.TarInfo
    data: bytes


class TarShard:
    """An archive in which the files of a sample stand together: ``key.jpg``, ``key.cls``, ``key.json``."""

    def __init__(self, file: BinaryIO, name: str, columns: tuple[str, ...], most: int) -> None:
        self._file, self._name, self._columns, self._most = file, name, columns, most
        self._size = max(1, file.seek(0, io.SEEK_END))
        self.notes: list[str] = []
        self.share = 0.0

    def samples(self) -> Iterator[Sample]:
        """See :class:`Shard`."""
        key, members, problem = "", [], None
        for info in self._members():
            unsafe = self._why_not(info)
            found = "" if unsafe else _split(info.name)[0]
            if unsafe or (members and found != key):
                if members or problem:
                    yield self._sample(key, members, problem)
                key, members, problem = found, [], None
            if unsafe:
                yield Sample(info.name, (), unsafe)
                continue
            key = found
            if info.size > self._most or len(members) == _MOST_MEMBERS:
                problem = f"{info.name} has {info.size / 2**20:.0f} MiB; no picture within the limits is so large"
                if len(members) == _MOST_MEMBERS:
                    problem = f"more than {_MOST_MEMBERS} members"
                    continue
                members.append(_Member(info, b""))
                continue
            if any(member.info.name == info.name for member in members):
                problem = f"{info.name} stands in it twice"
            self._file.seek(info.offset_data)
            data = self._file.read(info.size)
            if len(data) < info.size:
                raise ImageError(self._name, f"cut off: the archive ends within {info.name}")
            members.append(_Member(info, data))
        if members or problem:
            yield self._sample(key, members, problem)

    def _members(self) -> Iterator[tarfile.TarInfo]:
        self._file.seek(0)
        end = 0
        try:
            archive = tarfile.TarFile(fileobj=_Guarded(self._file), mode="r")  # type: ignore[arg-type]
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
                if info.size < 0 or archive.offset <= end:
                    raise tarfile.ReadError(f"the header of {info.name!r:.60} claims a size that cannot be")
                end = archive.offset
                self.share = min(1.0, end / self._size)
                if not info.isdir():
                    info.name = info.name.removeprefix("./")  # as `tar -C FOLDER .` writes names
                    yield info
            end = archive.offset
        except (tarfile.TarError, OSError, ValueError, EOFError, RecursionError, MemoryError) as error:
            raise ImageError(self._name, f"damaged: {error or type(error).__name__}") from error
        # tarfile takes whatever is no header for the end.
        self._file.seek(end)
        block = self._file.read(_BLOCK)
        if block.strip(b"\0") or 0 < len(block) < _BLOCK:
            raise ImageError(self._name, f"damaged: what follows byte {end} is no member of an archive")
        if not block:
            self.notes.append(f"{self._name} ends without the mark of an archive's end; was it cut off?")

    def _why_not(self, info: tarfile.TarInfo) -> str | None:
        why = why_unsafe(info.name)
        if why is not None:
            return why
        if info.issym() or info.islnk():
            return "a link, which is not followed"
        if info.issparse() or not info.isfile():
            return "no regular file"
        return None

    def _sample(self, key: str, members: list[_Member], problem: str | None) -> Sample:
        pictures = []
        for member in members:
            name, field_name = member.info.name, _split(member.info.name)[1]
            if self._columns:
                held = field_name in self._columns
            else:
                held = is_picture_name(name) or sniff_format(member.data[:HEAD_BYTES]) in _TELLING
            if held:
                pictures.append(Held(name, name, name, name, member.data))
        return Sample(key, tuple(pictures), problem, members)

    def value(self, sample: Sample, name: str) -> Any:
        """See :class:`Shard`: the text of the member of that ending, or the field of the sample's ``.json``."""
        members: list[_Member] = sample.handle or []
        told = {_split(member.info.name)[1]: member.data for member in members}
        if name in told:
            try:
                return told[name].decode("utf-8-sig").strip()
            except UnicodeDecodeError:
                return None
        try:
            table = parse_json(told["json"], repeats=True, finite=False) if "json" in told else None
        except ValueError:
            return None
        return table.get(name) if isinstance(table, dict) else None

    def names(self, sample: Sample) -> set[str]:
        """See :class:`Shard`."""
        return {member.info.name for member in sample.handle or ()}

    def writer(self, file: HashingFile) -> ShardWriter:
        """See :class:`Shard`."""
        return _TarWriter(file)


class _TarWriter:
    def __init__(self, file: HashingFile) -> None:
        self._archive = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # type: ignore[arg-type]

    def add(self, sample: Sample, replaced: Mapping[str, Replaced]) -> None:
        for member in sample.handle:
            old = member.info
            new = replaced.get(old.name)
            # What else the old header says, such as a second name, is not carried over.
            info = tarfile.TarInfo(old.name if new is None else new.path)
            data = member.data if new is None else new.data
            info.size, info.mode, info.mtime = len(data), old.mode & 0o777, int(old.mtime)
            self._archive.addfile(info, _Readable(data))  # type: ignore[arg-type]
            self._archive.members.clear()  # type: ignore[attr-defined]

    def close(self) -> None:
        self._archive.close()


class _Readable:
    """Bytes as tarfile reads them, without a copy."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0

    def read(self, size: int) -> memoryview:
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece


def _split(name: str) -> tuple[str, str]:
    """Key and field of a member, as WebDataset has it: up to and from the first dot of the last part of its path."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return f"{folder}{slash}{stem}", ending


# --------------------------------------------------------------------------------------------------------- parquet
class ParquetShard:
    """A table with pictures in columns of ``{bytes, path}``, or of bytes."""

    def __init__(self, file: BinaryIO, name: str, columns: tuple[str, ...], most: int) -> None:
        self._arrow, self._parquet = import_pyarrow()
        self._name, self._most = name, most
        self.notes: list[str] = []
        self.share = 0.0
        try:
            self._table = self._parquet.ParquetFile(file, buffer_size=1 << 20)
            self.schema = self._table.schema_arrow
            features = self._features()
        except (self._arrow.ArrowException, OSError, ValueError) as error:
            raise ImageError(name, f"no Parquet table that can be read: {str(error).splitlines()[0]:.200}") from error
        self.features: Mapping[str, Any] = features
        self._struct = {column.name for column in self.schema if self._holds_files(column.type)}
        self._bytes = {column.name for column in self.schema if self._is_bytes(column.type)}
        if missing := [column for column in columns if column not in self._struct | self._bytes]:
            raise ImageError(name, f"it has no column of pictures named {missing[0]}; it has {self._named()}")
        self._only = frozenset(columns)
        for column in self.schema:
            if column.name not in self._struct and not columns and _mentions_pictures(column, features, self._arrow):
                raise ImageError(
                    name,
                    f"its column {column.name} holds lists of pictures, or pictures in something else, which are not "
                    "protected; take it out, or name those to be protected with --column",
                )

    def _named(self) -> str:
        return ", ".join([*self.schema.names][:20])

    def _features(self) -> Mapping[str, Any]:
        """What Hugging Face's metadata says of the columns; nothing where there is none."""
        try:
            told = parse_json((self.schema.metadata or {}).get(b"huggingface", b"{}"), repeats=True, finite=False)
        except ValueError:
            return {}
        found = told.get("info", {}) if isinstance(told, dict) else {}
        found = found.get("features", {}) if isinstance(found, dict) else {}
        return found if isinstance(found, dict) else {}

    def _is_bytes(self, kind: Any) -> bool:
        types = self._arrow.types
        return types.is_binary(kind) or types.is_large_binary(kind)

    def _holds_files(self, kind: Any) -> bool:
        if not self._arrow.types.is_struct(kind):
            return False
        fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        return set(fields) == {"bytes", "path"} and self._is_bytes(fields["bytes"])

    def names_of_classes(self, column: str) -> tuple[str, ...]:
        """What the numbers of a column stand for; empty where nothing says it."""
        told = self.features.get(column)
        names = told.get("names") if isinstance(told, dict) and told.get("_type") == "ClassLabel" else None
        return tuple(map(str, names)) if isinstance(names, list) else ()

    def columns_of_classes(self) -> list[str]:
        """Columns that are said to hold classes."""
        return [name for name in self.schema.names if self.names_of_classes(name)]

    def samples(self) -> Iterator[Sample]:
        """See :class:`Shard`."""
        row = 0
        try:
            for group in range(self._table.num_row_groups):
                size = self._table.metadata.row_group(group).total_byte_size
                if size > _LARGEST_GROUP:
                    raise ImageError(
                        self._name, f"its row group {group} has {size / 2**30:.0f} GiB; write it in smaller row groups"
                    )
                for batch in self._table.iter_batches(batch_size=_ROWS, row_groups=[group]):
                    for index in range(batch.num_rows):
                        pictures = tuple(self._pictures(batch, index, row))
                        large = [
                            held.name for held in pictures if held.data is not None and len(held.data) > self._most
                        ]
                        problem = f"{large[0]} is larger than any picture within the limits" if large else None
                        yield Sample(str(row), pictures, problem, (group, batch, index))
                        row += 1
                        self.share = min(1.0, row / max(1, self._table.metadata.num_rows))
        except (self._arrow.ArrowException, OSError, ValueError, MemoryError) as error:
            raise ImageError(self._name, f"damaged: {str(error).splitlines()[0]:.200}") from error

    def _pictures(self, batch: Any, index: int, row: int) -> Iterator[Held]:
        for name in self.schema.names:
            if self._only and name not in self._only:
                continue
            label, kind = f"{row}/{name}", f"{name}/x.png"
            if name in self._struct:
                value = batch.column(name)[index].as_py()
                if value is None or (value["bytes"] is None and not value["path"]):
                    continue  # nothing there, so nothing to protect
                yield Held(name, label, kind, value["path"] or "", value["bytes"])
            elif name in self._bytes:
                value = batch.column(name)[index].as_py()
                if value is not None and (self._only or sniff_format(value[:HEAD_BYTES]) in _TELLING):
                    yield Held(name, label, kind, "", value)

    def value(self, sample: Sample, name: str) -> Any:
        """See :class:`Shard`; a number whose meaning the table tells is told by its name."""
        if name not in self.schema.names:
            return None
        _, batch, index = sample.handle
        value = batch.column(name)[index].as_py()
        names = self.names_of_classes(name)
        if isinstance(value, int) and names:
            return names[value] if 0 <= value < len(names) else None
        return value

    def names(self, sample: Sample) -> set[str]:
        """See :class:`Shard`: a row holds no files."""
        return set()

    def writer(self, file: HashingFile) -> ShardWriter:
        """See :class:`Shard`."""
        return _ParquetWriter(self, file)

    def compression(self) -> str | dict[str, str]:
        """Of each column, as it is."""
        if not self._table.num_row_groups:
            return "snappy"
        group = self._table.metadata.row_group(0)
        columns = (group.column(i) for i in range(group.num_columns))
        known = {"SNAPPY", "GZIP", "BROTLI", "LZ4", "ZSTD"}
        return {c.path_in_schema: c.compression if c.compression in known else "NONE" for c in columns}


class _ParquetWriter:
    """Writes row groups as they were, or smaller ones where they grow too large."""

    def __init__(self, shard: ParquetShard, file: HashingFile) -> None:
        self._shard, self._arrow = shard, shard._arrow
        self._file = shard._parquet.ParquetWriter(file, shard.schema, compression=shard.compression())
        self._rows: list[tuple[Any, Mapping[str, Replaced]]] = []
        self._batches: list[Any] = []
        self._group, self._size = 0, 0

    def add(self, sample: Sample, replaced: Mapping[str, Replaced]) -> None:
        group, batch, _ = sample.handle
        if self._rows and self._rows[-1][0][1] is not batch:
            self._take()
        if group != self._group or self._size > _GROUP_BYTES:
            self._flush()
        self._group = group
        self._rows.append((sample.handle, replaced))

    def _take(self) -> None:
        """The rows of one batch that wait, as a batch of the copy."""
        if not self._rows:
            return
        batch = self._rows[0][0][1]
        kept = batch.take(self._arrow.array([handle[2] for handle, _ in self._rows], type=self._arrow.int64()))
        changed = {name for _, replaced in self._rows for name in replaced}
        columns = []
        for place, told in enumerate(self._shard.schema):
            column = kept.column(place)
            if told.name in changed:
                values = column.to_pylist()
                for row, (_, replaced) in enumerate(self._rows):
                    if (new := replaced.get(told.name)) is not None:
                        old = values[row]
                        values[row] = (
                            {"bytes": new.data, "path": new.path or old["path"]} if isinstance(old, dict) else new.data
                        )
                column = self._arrow.array(values, type=told.type)
            columns.append(column)
        made = self._arrow.RecordBatch.from_arrays(columns, schema=self._shard.schema)
        self._batches.append(made)
        self._size += made.nbytes
        self._rows = []

    def _flush(self) -> None:
        self._take()
        if self._batches:
            table = self._arrow.Table.from_batches(self._batches, schema=self._shard.schema)
            self._file.write_table(table, row_group_size=max(1, table.num_rows))
        self._batches, self._size = [], 0

    def close(self) -> None:
        self._flush()
        self._file.close()


def _mentions_pictures(column: Any, features: Mapping[str, Any], arrow: Any) -> bool:
    """Whether a column holds pictures deeper inside, by its type or by what is said of it."""
    told = features.get(column.name)
    if isinstance(told, dict) and told.get("_type") == "Image":
        return False  # bytes by themselves, which are looked at

    def said(value: Any) -> bool:
        if isinstance(value, dict):
            return value.get("_type") == "Image" or any(map(said, value.values()))
        return isinstance(value, list) and any(map(said, value))

    def inside(kind: Any) -> bool:
        if arrow.types.is_struct(kind):
            parts = [kind.field(i) for i in range(kind.num_fields)]
            return {part.name for part in parts} == {"bytes", "path"} or any(inside(part.type) for part in parts)
        types = arrow.types
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            return inside(kind.value_type)
        return False

    return said(told) or inside(column.type)


def format_named(path: str) -> str | None:
    """The format by a file's ending alone."""
    return EXTENSIONS.get(PurePosixPath(path).suffix.lower())
