"""WebDataset's tar shards in and out."""

from __future__ import annotations

import io
import json
import signal
import struct
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bitterant.errors import BankError, ConfigError, FolderError, Interrupted, ResumeError
from bitterant.protect import TextureBank
from bitterant.protect.streams import StreamPlan, apply_stream, is_stream
from bitterant.protect.streams.sources import expand_braces
from bitterant.records.progress import StopRequest

from .conftest import CLASSES, picture, pixels, read_tar, records, samples, write_tar


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards of two samples."""
    for number in range(3):
        write_tar(tmp_path / "shards" / f"p-{number:06d}.tar", samples(2, 2 * number))
    return tmp_path / "shards"


def test_a_picture_gets_the_same_bytes_as_in_a_folder_and_all_else_stays(
    shards: Path, book: TextureBank, expected: dict[str, bytes], tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in shards.iterdir()}
    summary = apply_stream(shards, tmp_path / "out", bank=book)
    assert summary.exit_code == 0
    assert summary.counts == {"protected": 6, "copied": 0, "skipped": 0, "failed": 0}
    assert {path.name: path.read_bytes() for path in shards.iterdir()} == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(before)
    for path in sorted(shards.iterdir()):
        for (old, data), (new, copy) in zip(read_tar(path), read_tar(tmp_path / "out" / path.name), strict=True):
            if old.endswith(".jpg"):
                assert new == old.replace(".jpg", ".png")
                assert copy == expected[old[:4]]
                assert 0 < np.abs(pixels(copy) - pixels(data)).max() <= book.budget.whole_levels
            else:
                assert (new, copy) == (old, data)
    rows = records(tmp_path / "out")
    assert rows[0]["source"] == "p-000000.tar/0000.jpg"
    assert rows[0]["output"] == "p-000000.tar/0000.png"
    assert {row["status"] for row in rows} == {"protected"}


def test_webdataset_reads_the_copies(shards: Path, book: TextureBank, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    apply_stream(shards, tmp_path / "out", bank=book)
    pattern = f"{tmp_path / 'out'}/p-{{000000..000002}}.tar"
    data = webdataset.WebDataset(pattern, shardshuffle=False).decode("rgb8", only=["png", "json"])
    found = list(data.to_tuple("png", "cls", "txt", "json"))
    assert [row[1] for row in found] == [b"cat", b"dog"] * 3
    assert [row[3]["number"] for row in found] == list(range(6))
    assert found[3][0].shape == (36, 40, 3)


def test_a_finished_run_does_nothing_and_new_shards_are_done(shards: Path, book: TextureBank, tmp_path: Path) -> None:
    apply_stream(shards, tmp_path / "out", bank=book)
    done = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "out").iterdir()}
    again = apply_stream(shards, tmp_path / "out", bank=book)
    assert again.resumed == again.tasks == 3
    assert again.headline.startswith("Nothing to do")
    write_tar(shards / "p-000003.tar", samples(2, 6))
    more = apply_stream(shards, tmp_path / "out", bank=book)
    assert (more.resumed, more.tasks, more.counts["protected"]) == (3, 4, 8)
    assert (
        done.items()
        <= {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "out").iterdir()}.items()
    )


def test_a_stop_leaves_whole_shards_and_the_same_call_goes_on(shards: Path, book: TextureBank, tmp_path: Path) -> None:
    apply_stream(shards, tmp_path / "whole", bank=book)
    stop = StopRequest()

    def watch(stage: str, done: float, total: float, message: str = "", /) -> None:
        if message == "p-000001.tar, sample 1":
            stop.request()

    with pytest.raises(Interrupted, match="1 task finished, 2 pictures protected"):
        apply_stream(shards, tmp_path / "out", bank=book, progress=watch, stop=stop, workers=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["p-000000.tar"]
    assert apply_stream(shards, tmp_path / "out", bank=book).resumed == 1
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from bitterant.protect.streams import apply_stream
    from bitterant.protect.streams.run import StreamRunner
    from bitterant.records import stores

    source, output, bank, where = sys.argv[1:]
    if where == "within":  # half of a shard is in the temporary file
        def watch(stage, done, total, message="", /):
            if message == "p-000001.tar, sample 1":
                os.kill(os.getpid(), signal.SIGKILL)
    else:  # the shard is in place, its receipt is not
        watch = None
        real = StreamRunner._note
        def note(self, task, result):
            if task.name == "p-000001.tar":
                os.kill(os.getpid(), signal.SIGKILL)
            real(self, task, result)
        StreamRunner._note = note
    apply_stream(source, output, bank=bank, progress=watch, workers=1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that no process can catch")
@pytest.mark.parametrize("where", ["within", "before its receipt"])
def test_a_killed_run_goes_on_with_the_same_bytes(
    where: str, shards: Path, bank: Path, book: TextureBank, tmp_path: Path
) -> None:
    apply_stream(shards, tmp_path / "whole", bank=book)
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), shards, out, bank, where], timeout=120)
    assert done.returncode == -signal.SIGKILL
    there = {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}
    assert len(there) == (1 if where == "within" else 2)
    times = {name: (out / name).stat().st_mtime_ns for name in there}
    summary = apply_stream(shards, out, bank=bank)
    assert summary.resumed == 1
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()
    }
    assert {name: (out / name).stat().st_mtime_ns for name in there} == times, "a whole shard was written again"


def test_what_is_in_out_is_never_written_over(shards: Path, book: TextureBank, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "p-000001.tar").write_bytes(b"somebody's")
    with pytest.raises(ResumeError, match=r"did not write, such as p-000001\.tar"):
        apply_stream(shards, out, bank=book)
    (out / "p-000001.tar").unlink()
    apply_stream(f"{shards}/p-000000.tar", out, bank=book)
    (out / "p-000001.tar").write_bytes(b"somebody's")  # it comes between two runs
    with pytest.raises(ResumeError, match="is in the way"):
        apply_stream(shards, out, bank=book)
    assert (out / "p-000001.tar").read_bytes() == b"somebody's"


def test_what_was_done_has_to_be_as_it_was(shards: Path, book: TextureBank, tmp_path: Path) -> None:
    out = tmp_path / "out"
    apply_stream(shards, out, bank=book)
    whole = (out / "p-000001.tar").read_bytes()
    (out / "p-000001.tar").write_bytes(whole[:-1] + b"x")
    with pytest.raises(ResumeError, match=r"missing or changed: p-000001\.tar"):
        apply_stream(shards, out, bank=book)
    (out / "p-000001.tar").write_bytes(whole)
    other = TextureBank.of_classes(CLASSES, b"another key of sixteen bytes")
    with pytest.raises(ResumeError, match="other settings: bank_sha256"):
        apply_stream(shards, out, bank=other)
    with pytest.raises(ResumeError, match="begun by an earlier run"):
        apply_stream(shards, out, bank=book, resume=False)
    write_tar(shards / "p-000002.tar", samples(1, 9))
    with pytest.raises(ResumeError, match=r"p-000002\.tar in .* changed since"):
        apply_stream(shards, out, bank=book)


def hostile() -> list[tuple[str | tarfile.TarInfo, bytes]]:
    def info(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
        made = tarfile.TarInfo(name)
        made.type, made.linkname = kind, link
        return made

    return [
        *samples(1),
        ("../../escape.jpg", picture(50)),
        ("/etc/absolute.jpg", picture(51)),
        ("a\\..\\..\\windows.jpg", picture(52)),
        ("C:drive.jpg", picture(53)),
        ("a//b/./c.jpg", picture(54)),
        (info("link.jpg", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (info("hard.jpg", tarfile.LNKTYPE, "0000.jpg"), b""),
        (info("device.jpg", tarfile.CHRTYPE), b""),
        (info("pipe.jpg", tarfile.FIFOTYPE), b""),
        *samples(1, 1),
    ]


def test_hostile_members_are_left_out_and_told(book: TextureBank, tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "in" / "bad.tar", hostile())
    summary = apply_stream(shard, tmp_path / "out" / "deep", bank=book)
    assert summary.exit_code == 1
    assert (summary.counts["protected"], summary.counts["failed"], summary.left_out) == (2, 9, 9)
    names = [name for name, _ in read_tar(tmp_path / "out/deep/bad.tar")]
    assert names == [f"{n:04d}.{end}" for n in (0, 1) for end in ("png", "cls", "txt", "json")]
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    reasons = {row["source"]: row["reason"] for row in records(tmp_path / "out/deep") if row["status"] == "failed"}
    assert reasons["bad.tar/link.jpg"] == "a link, which is not followed"
    assert reasons["bad.tar/device.jpg"] == "no regular file"
    assert all(why for why in reasons.values())


def test_an_archive_of_a_folder_as_tar_packs_it(book: TextureBank, tmp_path: Path) -> None:
    plain = [(str(name), data) for name, data in samples(2)]
    write_tar(tmp_path / "plain" / "p.tar", plain)
    write_tar(tmp_path / "dotted" / "p.tar", [(f"./{name}", data) for name, data in plain])
    for source in ("plain", "dotted"):
        assert apply_stream(tmp_path / source, tmp_path / f"{source}-out", bank=book).counts["protected"] == 2
    assert read_tar(tmp_path / "dotted-out" / "p.tar") == read_tar(tmp_path / "plain-out" / "p.tar")


def raw_header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A member's header with a size field of any kind."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108], block[108:116], block[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    block[124:136], block[136:148], block[156:157] = size.ljust(12, b"\0"), b"00000000000\0", kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


BASE_256 = b"\xff" * 4 + struct.pack(">q", -512)


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(b"no header at all, five hundred and twelve bytes".ljust(1024, b"x"), id="garbage"),
        pytest.param(raw_header(b"big.jpg", b"77777777777\0"), id="a size beyond the end"),
        pytest.param(raw_header(b"minus.jpg", BASE_256) + bytes(2048), id="a negative size"),
        pytest.param(raw_header(b"long", b"77777777777\0", b"L"), id="a name of gigabytes"),
        pytest.param(raw_header(b"pax", b"77777777777\0", b"x"), id="a header of gigabytes"),
        pytest.param(raw_header(b"cut.jpg", b"00000002000\0") + bytes(100), id="cut off"),
    ],
)
def test_a_damaged_shard_fails_alone_and_whole(tail: bytes, book: TextureBank, tmp_path: Path) -> None:
    good = write_tar(tmp_path / "in" / "a.tar", samples(2))
    start = b"".join(
        raw_header(name.encode(), b"%011o\0" % len(data)) + data + bytes(-len(data) % 512) for name, data in samples(2)
    )
    (tmp_path / "in" / "b.tar").write_bytes(start + tail)
    summary = apply_stream(good.parent, tmp_path / "out", bank=book)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.tar"]
    assert summary.counts == {"protected": 2, "copied": 0, "skipped": 0, "failed": 1}
    (row,) = [row for row in records(tmp_path / "out") if row["status"] == "failed"]
    assert row["source"] == "b.tar"
    assert row["reason"].startswith("the whole shard: ")


def test_an_archive_without_an_end_is_read_and_told(book: TextureBank, tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "in" / "a.tar", samples(2))
    data = shard.read_bytes().rstrip(b"\0")
    shard.write_bytes(data + bytes(-len(data) % 512))
    summary = apply_stream(shard, tmp_path / "out", bank=book)
    assert summary.counts["protected"] == 2
    assert any("was it cut off?" in warning for warning in summary.warnings)


def test_a_sample_is_left_out_whole_where_its_picture_fails(book: TextureBank, tmp_path: Path) -> None:
    members = [
        *samples(1),
        ("bad.jpg", picture(3)[:-300]),
        ("bad.cls", b"cat"),
        ("bad.txt", b"its caption"),
        ("two.jpg", picture(4)),
        ("two.other.png", b"\x89PNG\r\n\x1a\nnothing"),
        ("two.cls", b"cat"),
        ("gif.gif", b"GIF89a..."),
        ("gif.cls", b"dog"),
        ("twice.jpg", picture(5)),
        ("twice.jpg", picture(6)),
        ("twice.cls", b"dog"),
        ("bird.jpg", picture(7)),
        ("bird.cls", b"bird"),
        ("hidden.data", picture(8)),
        ("hidden.cls", b"dog"),
        ("text.txt", b"no picture at all"),
    ]
    summary = apply_stream(write_tar(tmp_path / "in" / "a.tar", members), tmp_path / "out", bank=book)
    copies = dict(read_tar(tmp_path / "out" / "a.tar"))
    assert [name for name in copies if not name.startswith("0000")] == ["hidden.data.png", "hidden.cls", "text.txt"]
    assert np.abs(pixels(copies["hidden.data.png"]) - pixels(picture(8))).max() > 0, "a picture under another ending"
    rows = {row["source"]: (row["status"], row["reason"]) for row in records(tmp_path / "out")}
    assert rows["a.tar/bad.jpg"][0] == "failed"
    assert rows["a.tar/two.jpg"] == ("skipped", "its sample is left out, since another picture of it failed")
    assert "GIF" in rows["a.tar/gif.gif"][1]
    assert rows["a.tar/twice"] == ("failed", "twice.jpg stands in it twice")
    assert rows["a.tar/bird.jpg"] == ("skipped", "the bank has nothing for the class 'bird'; not copied")
    assert summary.left_out == 5


def test_label_maps_and_names_that_are_taken(book: TextureBank, tmp_path: Path) -> None:
    labels = io.BytesIO()
    from PIL import Image

    Image.fromarray(np.repeat(np.arange(4, dtype=np.uint8), 400).reshape(40, 40)).save(labels, "PNG")
    members = [
        ("x/1.jpg", picture(1)),
        ("x/1.png", picture(2, format="PNG")),
        ("x/1.seg.png", labels.getvalue()),
        ("x/1.cls", b"cat"),
    ]
    summary = apply_stream(write_tar(tmp_path / "a.tar", members), tmp_path / "out", bank=book)
    assert [name for name, _ in read_tar(tmp_path / "out/a.tar")] == [
        "x/1.jpg.png",
        "x/1.png",
        "x/1.seg.png",
        "x/1.cls",
    ]
    assert dict(read_tar(tmp_path / "out/a.tar"))["x/1.seg.png"] == labels.getvalue()
    assert summary.counts == {"protected": 2, "copied": 1, "skipped": 0, "failed": 0}
    apply_stream(tmp_path / "a.tar", tmp_path / "only", bank=book, columns="png")
    assert dict(read_tar(tmp_path / "only/a.tar"))["x/1.jpg"] == picture(1)


def test_where_the_class_stands(book: TextureBank, expected: dict[str, bytes], tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    numbers = [(name, b"0" if data == b"cat" else b"1" if data == b"dog" else data) for name, data in samples(2)]
    in_folders = [(f"{CLASSES[int(name[3]) % 2]}/{name}", data) for name, data in samples(2) if ".cls" not in name]
    words = [(name, data) for name, data in samples(2) if ".cls" not in name]
    ways: list[tuple[str, list[tuple[str, bytes]], dict[str, Any]]] = [
        ("numbers", numbers, {"classes": names}),
        ("folders", in_folders, {}),
        ("field", words, {"class_from": "label", "classes": names}),
    ]
    for place, members, options in ways:
        shard = write_tar(tmp_path / place / "a.tar", members)
        apply_stream(shard, tmp_path / f"{place}-out", bank=book, **options)
        found = [data for name, data in read_tar(tmp_path / f"{place}-out" / "a.tar") if name.endswith(".png")]
        assert found == [expected["0000"], expected["0001"]], place
    one = write_tar(tmp_path / "one" / "a.tar", words)
    apply_stream(one, tmp_path / "one-out", bank=book, class_name="dog")
    assert dict(read_tar(tmp_path / "one-out/a.tar"))["0001.png"] == expected["0001"]


def test_a_class_that_cannot_be_told_ends_the_run_before_it_writes(book: TextureBank, tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "in/a.tar", [(name, data) for name, data in samples(2) if ".cls" not in name])
    with pytest.raises(BankError, match=r"--class-from NAME says where it stands.*The bank knows cat, dog"):
        apply_stream(shard, tmp_path / "out", bank=book)
    assert not list((tmp_path / "out").iterdir())
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    # What was asked for wrongly may be asked for anew.
    assert apply_stream(shard, tmp_path / "out", bank=book, class_from="label", classes=names).exit_code == 0
    with pytest.raises(ConfigError, match="Give one of them"):
        apply_stream(shard, tmp_path / "other", bank=book, class_from="label", class_name="cat")


def test_a_dry_run_writes_nothing(shards: Path, book: TextureBank, tmp_path: Path) -> None:
    plan = apply_stream(shards, tmp_path / "out", bank=book, dry_run=True)
    assert isinstance(plan, StreamPlan)
    assert (plan.tasks, plan.sampled, plan.classes) == (3, 2, {"cat": 1, "dog": 1})
    assert plan.bytes_out > plan.bytes_in > 0
    assert not list(tmp_path.glob("out*"))


def test_patterns(shards: Path, book: TextureBank, tmp_path: Path) -> None:
    assert list(expand_braces("a-{08..11}.{x,y}")) == [f"a-{n}.{end}" for n in ("08", "09", "10", "11") for end in "xy"]
    assert list(expand_braces("{a,b{0..1}}")) == ["a", "b0", "b1"]
    for pattern, tasks in (("p-{000000..000001}.tar", 2), ("*.tar", 3), ("p-00000[12].tar", 2), ("**/*2.tar", 1)):
        plan = apply_stream(f"{shards}/{pattern}", tmp_path / "out", bank=book, dry_run=True)
        assert plan.tasks == tasks, pattern  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"2 are not there: p-000003\.tar, p-000004\.tar"):
        apply_stream(f"{shards}/p-{{000000..000004}}.tar", tmp_path / "out", bank=book)
    with pytest.raises(FolderError, match="lies inside the source folder"):
        apply_stream(shards, shards / "out", bank=book)
    with pytest.raises(FolderError, match="holds the originals"):
        apply_stream(f"{shards}/*.tar", shards, bank=book)
    # Chosen files may have OUT beside them.
    assert apply_stream(f"{shards}/*.tar", shards / "out", bank=book).exit_code == 0


def test_links_to_shards_are_taken_where_that_is_asked_for(shards: Path, book: TextureBank, tmp_path: Path) -> None:
    """A cache of downloads holds links to files that are named by their hash."""
    (tmp_path / "snapshot").mkdir()
    try:
        (tmp_path / "snapshot" / "a.tar").symlink_to(shards / "p-000000.tar")
        (tmp_path / "snapshot" / "loop").symlink_to(tmp_path / "snapshot")
    except OSError:
        pytest.skip("this disk, or this user, makes no links")
    with pytest.raises(FolderError, match="is a symbolic link, not followed; --follow-links"):
        apply_stream(tmp_path / "snapshot", tmp_path / "out", bank=book)
    summary = apply_stream(tmp_path / "snapshot", tmp_path / "out", bank=book, follow_links=True)
    assert (summary.tasks, summary.counts["protected"]) == (1, 2)
    assert [problem.relative for problem in summary.problems] == ["loop"]
    assert not (tmp_path / "out" / "a.tar").is_symlink()


def test_a_bank_of_clusters_is_refused(shards: Path, tmp_path: Path) -> None:
    clustered: Any = SimpleNamespace(clusters=object())
    with pytest.raises(BankError, match="goes by clusters"):
        apply_stream(shards, tmp_path / "out", bank=clustered)


def test_what_is_no_folder_of_pictures(folder: Path, shards: Path, tmp_path: Path) -> None:
    assert not is_stream(folder, tmp_path / "out")
    assert not is_stream(folder / "cat" / "0000.jpg", tmp_path / "out")
    assert not is_stream(tmp_path / "nowhere", tmp_path / "out")
    assert is_stream(folder, "s3://bucket/out")
    assert is_stream(shards, tmp_path / "out")
    assert is_stream(f"{shards}/*.tar", tmp_path / "out")


def test_kinds_are_not_mixed_and_packed_archives_are_told(book: TextureBank, folder: Path, tmp_path: Path) -> None:
    write_tar(folder / "a.tar", samples(1))
    with pytest.raises(ConfigError, match=r"6 pictures and 1 tar shard.*pattern"):
        apply_stream(folder, tmp_path / "out", bank=book)
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "a.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(FolderError, match=r"a\.tar\.gz is packed: unpack it"):
        apply_stream(tmp_path / "packed", tmp_path / "out", bank=book)


def test_a_bank_of_pictures_knows_them_in_a_shard(
    shards: Path, folder: Path, expected: dict[str, bytes], kit: Any, tmp_path: Path
) -> None:
    from bitterant.protect import fit_folder

    fit_folder(folder, tmp_path / "noise.bank", method="noise", granularity="sample", device="cpu", resolution=16)
    summary = apply_stream(shards, tmp_path / "out", bank=tmp_path / "noise.bank")
    assert summary.counts["protected"] == 6
    rows = records(tmp_path / "out")
    assert json.loads(json.dumps(rows[0]["key"])).startswith("cat/")


def test_the_run_file_says_how_to_repeat_it(shards: Path, bank: Path, tmp_path: Path) -> None:
    apply_stream(shards, tmp_path / "out", bank=bank, class_from="cls", workers=2, metadata="private")
    run = json.loads((tmp_path / "out.bitterant" / "run.json").read_bytes())
    assert run["repeat"] == "bitterant apply SRC OUT --metadata private --class-from cls --bank book.safetensors"
