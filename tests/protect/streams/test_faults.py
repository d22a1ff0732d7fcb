"""What goes wrong with one picture, one shard, or the machine: each is told apart, and blamed on what it is."""

from __future__ import annotations

import errno
import io
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitterant.errors import ConfigError, FolderError, OutputError, ResumeError
from bitterant.imaging.formats import MAX_FILE_BYTES, TOO_LARGE
from bitterant.protect import TextureBank, apply_folder
from bitterant.protect.folder.writing import PictureWriter
from bitterant.protect.streams import apply_stream
from bitterant.protect.streams import sources as stream_sources
from bitterant.protect.streams import work as stream_work
from bitterant.records import stores, threads
from bitterant.records.stores import LocalStore

from .conftest import picture, read_tar, samples, write_tar


def test_a_picture_too_large_for_the_memory_is_one_failure(
    folder: Path, book: TextureBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tar(tmp_path / "shards/a.tar", samples(3))
    real = PictureWriter.make

    def make(self: PictureWriter, data: bytes, name: str, *rest: Any) -> Any:
        if name.endswith("0001.jpg"):
            raise MemoryError
        return real(self, data, name, *rest)

    monkeypatch.setattr(PictureWriter, "make", make)
    for source, out, sound in ((folder, tmp_path / "out", 5), (tmp_path / "shards", tmp_path / "tars", 2)):
        summary = apply_stream(source, out, bank=book)
        assert (summary.counts["protected"], summary.counts["failed"]) == (sound, 1)
        assert summary.problems[0].reason == TOO_LARGE
    assert len(read_tar(tmp_path / "tars/a.tar")) == 8


def test_no_object_is_larger_than_a_file_may_be(
    folder: Path, book: TextureBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = stream_work.Worker.make
    monkeypatch.setattr(
        stream_work.Worker, "make", lambda self, item, *rest: (asked.append(self.most), real(self, item, *rest))[1]
    )
    apply_stream(folder, tmp_path / "out", bank=book, max_pixels=1_000_000_000)
    assert set(asked) == {MAX_FILE_BYTES}


def test_shares_are_refused_with_what_to_do_instead(folder: Path, book: TextureBank, tmp_path: Path) -> None:
    write_tar(tmp_path / "shards/a.tar", samples(1))
    with pytest.raises(ConfigError, match="part of the objects by a pattern"):
        apply_stream(tmp_path / "shards", tmp_path / "out", bank=book, shard="1/2")
    assert not (tmp_path / "out").exists()
    plan = apply_stream(folder, tmp_path / "out", bank=book, shard="1/2", dry_run=True)
    assert plan.warnings == ["These are the figures of the whole, not of share 1/2 alone."]


def test_a_picture_that_takes_too_long_is_one_failure(
    folder: Path, book: TextureBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tar(tmp_path / "shards/a.tar", samples(3))
    hang, real = threading.Event(), PictureWriter.make

    def make(self: PictureWriter, data: bytes, name: str, *rest: Any) -> Any:
        if name.endswith("0001.jpg"):
            hang.wait(20)
        return real(self, data, name, *rest)

    monkeypatch.setattr(threads, "TOLD_AFTER", 0.2)
    told: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(PictureWriter, "make", make)
        for source, out, sound in ((folder, tmp_path / "out", 5), (tmp_path / "shards", tmp_path / "tars", 2)):
            summary = apply_stream(
                source,
                out,
                bank=book,
                workers=1,
                max_seconds_per_file=1,
                progress=lambda stage, done, total, text="", /: told.append(text) if stage == "slow" else None,
            )
            assert (summary.counts["protected"], summary.counts["failed"]) == (sound, 1)
            assert summary.problems[0].reason.startswith("took longer than 1 seconds")
        hang.set()
    assert [text.partition(" takes long")[0] for text in told] == ["dog/0001.jpg", "a.tar/0001"]
    assert len(read_tar(tmp_path / "tars/a.tar")) == 8
    again = apply_stream(folder, tmp_path / "out", bank=book)
    assert (again.counts["protected"], again.exit_code) == (6, 0), "it is tried again"


def test_a_picture_without_a_class_does_not_stop_those_that_have_one(
    folder: Path, book: TextureBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_sources, "PICTURES_AT_ONCE", 2)
    for number in range(2):
        (folder / "bird").mkdir(exist_ok=True)
        (folder / "bird" / f"{number}.jpg").write_bytes(picture(90 + number))
    summary = apply_stream(folder, tmp_path / "out", bank=book)
    assert (summary.counts["protected"], summary.counts["skipped"]) == (6, 2)


class Failing:
    """A file on a disk that fails behind some bytes."""

    def __init__(self, file: Any, after: int) -> None:
        self._file, self._after, self._armed = file, after, False
        self.tell, self.close = file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        if self._armed and self._file.tell() >= self._after:
            raise OSError(errno.EIO, "Input/output error")
        return self._file.read(size)

    def seek(self, *place: int) -> int:
        self._armed = True  # hashed first, and then gone through
        return self._file.seek(*place)

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("ending", ["tar", "parquet"])
def test_a_shard_on_a_failing_disk_is_not_called_damaged(
    ending: str, book: TextureBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shards").mkdir()
    if ending == "tar":
        write_tar(tmp_path / "shards/a.tar", samples(3))
    else:
        arrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
        table = arrow.table({"image": [picture(n) for n in range(3)], "label": ["cat", "dog", "cat"]})
        pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "shards/a.parquet")
    real = LocalStore.fetch
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "fetch", lambda self, name: Failing(real(self, name), 1024 if ending == "tar" else 0))
        summary = apply_stream(tmp_path / "shards", tmp_path / "out", bank=book)
    assert summary.counts["failed"] == 1
    assert summary.problems[0].reason == "cannot be read: Input/output error"
    again = apply_stream(tmp_path / "shards", tmp_path / "out", bank=book)
    assert (again.counts["protected"], again.exit_code) == (3, 0)


def finished(out: Path) -> bool:
    return bool(json.loads((out.with_name(f"{out.name}.bitterant") / "run.json").read_bytes())["finished"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_temporary_folder_ends_the_run(
    number: int, book: TextureBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs: Any = pytest.importorskip("fsspec", reason="needs the extra remote").filesystem("memory")
    fs.store.clear()
    data = write_tar(tmp_path / "shards/a.tar", samples(2)).read_bytes()
    fs.pipe_file("/shards/a.tar", data)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:  # while an object of SRC is fetched
        patch.setattr(type(fs), "get_file", full)
        with pytest.raises(OutputError, match="needs room in the temporary folder") as caught:
            apply_stream("memory://shards", tmp_path / "out", bank=book)
    assert (caught.value.exit_code, finished(tmp_path / "out")) == (3, False)
    with monkeypatch.context() as patch:  # while a copy for OUT is made, behind the first record
        write = stores.HashingFile.write
        patch.setattr(stores.HashingFile, "write", lambda self, data: write(self, data) if data[:1] == b"{" else full())
        with pytest.raises(OutputError, match=r"memory://out/a\.tar needs room in the temporary folder"):
            apply_stream(tmp_path / "shards", "memory://out", bank=book)
    assert json.loads(fs.cat_file("/out.bitterant/run.json"))["finished"] is False
    with monkeypatch.context() as patch:  # for the very first record
        patch.setattr(stores.HashingFile, "write", full)
        with pytest.raises(OutputError, match=r"run\.json needs room"):
            apply_stream(tmp_path / "shards", "memory://other", bank=book)
    assert apply_stream("memory://shards", tmp_path / "out", bank=book).exit_code == 0
    assert apply_stream(tmp_path / "shards", "memory://out", bank=book).exit_code == 0
    fs.store.clear()


def test_a_full_disk_under_a_copy_ends_the_run(
    folder: Path, book: TextureBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tar(tmp_path / "shards/a.tar", samples(2))
    write = stores.HashingFile.write

    def full(self: stores.HashingFile, data: bytes) -> int:
        if data[:1] == b"{":
            return write(self, data)
        raise OSError(errno.ENOSPC, "No space left on device")

    for source in (folder, tmp_path / "shards"):
        out = tmp_path / f"{source.name}-out"
        with monkeypatch.context() as patch:
            patch.setattr(stores.HashingFile, "write", full)
            with pytest.raises(OutputError, match="No space left on device"):
                apply_stream(source, out, bank=book)
        assert not finished(out)
        assert apply_stream(source, out, bank=book).exit_code == 0


def test_a_copy_that_is_there_needs_no_room_to_be_compared(
    book: TextureBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tar(tmp_path / "shards/a.tar", samples(2))
    apply_stream(tmp_path / "shards", tmp_path / "out", bank=book)
    (tmp_path / "out.bitterant/done/a.tar.json").unlink()

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    assert apply_stream(tmp_path / "shards", tmp_path / "out", bank=book).counts["protected"] == 2


def test_a_folder_in_the_place_of_a_copy_is_one_failure(folder: Path, book: TextureBank, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tar(tmp_path / f"shards/{name}.tar", samples(2))
    for source, way, sound in ((folder, "cat/0000.png", 5), (tmp_path / "shards", "a.tar", 2)):
        out = tmp_path / f"{source.name}-out"
        (out / way).mkdir(parents=True)
        summary = apply_stream(source, out, bank=book)
        assert (summary.counts["protected"], summary.counts["failed"]) == (sound, 1)
        assert "cannot be written" in summary.problems[0].reason
        again = apply_stream(source, out, bank=book)
        assert "Nothing to do" not in again.headline
        (out / way).rmdir()
        assert apply_stream(source, out, bank=book).exit_code == 0


def test_a_link_in_the_place_of_a_copy_is_in_the_way(folder: Path, book: TextureBank, tmp_path: Path) -> None:
    (tmp_path / "out/cat").mkdir(parents=True)
    (tmp_path / "out/cat/0000.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ResumeError, match=r"0000\.png is in the way"):
        apply_stream(folder, tmp_path / "out", bank=book)


def test_failures_are_not_called_finished(folder: Path, book: TextureBank, tmp_path: Path) -> None:
    (folder / "cat" / "bad.jpg").write_bytes(picture(9)[:-300])
    first = apply_stream(folder, tmp_path / "out", bank=book)
    again = apply_stream(folder, tmp_path / "out", bank=book)
    assert first.counts == again.counts
    assert first.problems == again.problems != []
    assert (again.resumed, again.exit_code) == (again.tasks, 1)
    assert "Nothing to do" not in again.headline


def test_a_damaged_shard_is_done_once_it_is_mended(book: TextureBank, tmp_path: Path) -> None:
    source, out = tmp_path / "shards", tmp_path / "out"
    write_tar(source / "a.tar", samples(2))
    whole = write_tar(source / "b.tar", samples(2, 2)).read_bytes()
    (source / "b.tar").write_bytes(whole[:1500])
    assert apply_stream(source, out, bank=book).exit_code == 1
    (source / "b.tar").write_bytes(whole)
    mended = apply_stream(source, out, bank=book)
    assert (mended.exit_code, mended.counts["protected"], mended.counts["failed"]) == (0, 4, 0)
    assert len(read_tar(out / "b.tar")) == 8
    assert "Nothing to do" in apply_stream(source, out, bank=book).headline
    write_tar(source / "b.tar", samples(2, 4))  # of which something is in OUT
    with pytest.raises(ResumeError, match=r"b\.tar .*changed since it was done"):
        apply_stream(source, out, bank=book)


def test_a_picture_that_comes_later_takes_no_name_from_a_copy(folder: Path, book: TextureBank, tmp_path: Path) -> None:
    source, out = folder.as_uri(), tmp_path / "out"
    apply_stream(source, out, bank=book)
    before = (out / "cat/0000.png").read_bytes()
    (folder / "cat/0000.png").write_bytes(picture(9, format="PNG"))
    table = [{"file_name": f"cat/0000.{end}", "text": end} for end in ("jpg", "png")]
    (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in table))
    later = apply_stream(source, out, bank=book)
    assert (later.exit_code, later.counts["protected"], later.counts["copied"]) == (0, 7, 1)
    assert (out / "cat/0000.png").read_bytes() == before
    names = [json.loads(line)["file_name"] for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert names == ["cat/0000.png", "cat/0000-2.png"]
    assert (out / names[1]).exists()
    assert "Nothing to do" in apply_stream(source, out, bank=book).headline


def test_a_folder_that_cannot_be_listed_is_a_failure(
    folder: Path, book: TextureBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tar(tmp_path / "shards/cat/a.tar", samples(1))
    write_tar(tmp_path / "shards/dog/b.tar", samples(1, 1))
    real, closed = os.scandir, ["dog"]

    def scandir(path: Any = ".") -> Any:
        if Path(path).name in closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for source, out in ((tmp_path / "shards", tmp_path / "tars"), (folder.as_uri(), tmp_path / "out")):
        closed[:] = ["dog"]
        summary = apply_stream(source, out, bank=book)
        told = [(problem.relative, problem.reason) for problem in summary.problems]
        assert (summary.exit_code, told) == (1, [("dog", "the folder cannot be read: Permission denied")])
        closed.clear()
        assert apply_stream(source, out, bank=book).exit_code == 0
    closed[:] = ["cat", "dog"]
    with pytest.raises(FolderError, match="cat: the folder cannot be read: Permission denied"):
        apply_stream(tmp_path / "shards", tmp_path / "none", bank=book)


def label_map(seed: int) -> bytes:
    """A flat picture of two numbers."""
    values = np.zeros((36, 40), np.uint8)
    values[8:20, 8 : 20 + seed] = 1
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def test_label_maps_beside_pictures_change_no_class(folder: Path, book: TextureBank, tmp_path: Path) -> None:
    """Loose maps of pictures in folders, and maps in a folder beside a wrapper of the class folders."""
    root = tmp_path / "data"
    root.mkdir()
    folder.rename(root / "images")
    (root / "masks").mkdir()
    for number in range(6):
        (root / "masks" / f"{number:04d}.png").write_bytes(label_map(number))
    summary = apply_stream(root, tmp_path / "out", bank=book)
    assert (summary.counts["protected"], summary.counts["copied"], summary.counts["skipped"]) == (6, 6, 0)
    assert (tmp_path / "out/masks/0003.png").read_bytes() == label_map(3)
    assert summary.warnings[0].startswith("6 label maps, such as masks/0000.png, with numbers instead of a picture")


def test_a_class_that_is_called_like_label_maps_holds_pictures(tmp_path: Path) -> None:
    book = TextureBank.of_classes(["masks", "cat"], b"a key of at least sixteen bytes")
    for name, data in (("masks/1.png", label_map(1)), ("masks/2.jpg", picture(2)), ("cat/3.jpg", picture(3))):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(data)
    summary = apply_stream(tmp_path / "photos", tmp_path / "out", bank=book)
    assert (summary.counts["protected"], summary.counts["copied"]) == (3, 0)
    assert summary.warnings == []


def test_copies_that_bear_no_mark_are_told_as_in_a_folder(folder: Path, book: TextureBank, tmp_path: Path) -> None:
    for number in range(2):
        (folder / "cat" / f"b{number}.bmp").write_bytes(picture(20 + number, format="BMP"))
    summary = apply_stream(folder, tmp_path / "out", bank=book, mark="no-ai")
    as_folder = apply_folder(folder, tmp_path / "as-folder", bank=book, mark="no-ai")
    told = [text for text in summary.warnings if "no mark" in text]
    assert told == [text for text in as_folder.warnings if "no mark" in text]
    assert told[0].startswith("2 copies bear no mark, since BMP files hold none: cat/b0.bmp")
