"""Pictures and shards behind URLs: a real S3 server on this machine, and stores in memory."""

from __future__ import annotations

import errno
import functools
import http.server
import json
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bitterant.errors import BankError, ConfigError, FolderError, OutputError, ResumeError, SetupError
from bitterant.protect import TextureBank, protect_folder
from bitterant.protect.streams import apply_stream
from bitterant.protect.streams import sources as stream_sources
from bitterant.records import stores
from bitterant.records.stores import RemoteStore, is_url, masked, open_store

from .conftest import picture, read_tar, samples, write_tar

fsspec = pytest.importorskip("fsspec", reason="needs the extra remote")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server of this machine."""
    pytest.importorskip("s3fs", reason="needs the extra remote")
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    # Where this module's tests are not run in one go, an earlier server had another port.
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield f"http://{host}:{port}"
    running.stop()


class Bucket:
    """A fresh bucket."""

    def __init__(self) -> None:
        self.fs: Any = fsspec.filesystem("s3", use_listings_cache=False)
        self.name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.url = f"s3://{self.name}"
        self.fs.mkdir(self.name)

    def put(self, folder: Path, prefix: str) -> str:
        for path in folder.rglob("*"):
            if path.is_file():
                self.fs.pipe_file(f"{self.name}/{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"{self.url}/{prefix}"

    def tree(self, prefix: str) -> dict[str, bytes]:
        start = f"{self.name}/{prefix}/"
        return {path[len(start) :]: self.fs.cat_file(path) for path in self.fs.find(start)}


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return Bucket()


@pytest.fixture
def memory() -> Iterator[Any]:
    fs: Any = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


def test_s3_to_s3(bucket: Bucket, folder: Path, expected: dict[str, bytes], bank: Path, tmp_path: Path) -> None:
    (folder / "cat" / "0000.txt").write_text("a caption")
    (folder / "metadata.jsonl").write_text('{"file_name": "cat/0000.jpg", "text": "one"}\n')
    (folder / "cat" / "bad.jpg").write_bytes(picture(9)[:-300])
    (folder / "notes.pdf").write_bytes(b"%PDF")
    source = bucket.put(folder, "photos")
    before = bucket.tree("photos")
    summary = apply_stream(source, f"{bucket.url}/out", bank=bank)
    assert bucket.tree("photos") == before
    assert summary.counts == {"protected": 6, "copied": 2, "skipped": 0, "failed": 1}
    assert summary.exit_code == 1
    found = bucket.tree("out")
    assert {name.rpartition("/")[2][:4]: data for name, data in found.items() if name.endswith(".png")} == expected
    assert found["cat/0000.txt"] == b"a caption"
    assert json.loads(found["metadata.jsonl"])["file_name"] == "cat/0000.png"
    assert "cat/bad.png" not in found
    assert {problem.relative for problem in summary.problems} == {"cat/bad.jpg", "notes.pdf"}
    about = bucket.tree("out.bitterant")
    run = json.loads(about["run.json"])
    assert (run["finished"], run["counts"]["protected"], run["source"]) == (True, 6, source)
    assert b"testing-secret" not in b"".join(about.values())
    again = apply_stream(source, f"{bucket.url}/out", bank=bank)
    assert again.resumed == again.tasks
    # From the store to a folder, and the other way.
    assert apply_stream(source, tmp_path / "here", bank=bank).counts["protected"] == 6
    assert (tmp_path / "here/cat/0000.png").read_bytes() == expected["0000"]
    assert apply_stream(folder / "dog", f"{bucket.url}/dogs", bank=bank, class_name="dog").exit_code == 0
    assert bucket.tree("dogs")["0001.png"] == expected["0001"]


def test_shards_in_s3_and_a_kill_between_object_and_receipt(
    bucket: Bucket, book: TextureBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_tar(tmp_path / "shards" / f"p-{number}.tar", samples(2, 2 * number))
    source = bucket.put(tmp_path / "shards", "shards")
    apply_stream(tmp_path / "shards", tmp_path / "whole", bank=book)
    real = RemoteStore.replace

    def dying(self: RemoteStore, name: str, data: bytes) -> None:
        if name == "done/p-1.tar.json":
            raise KeyboardInterrupt
        real(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(RemoteStore, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            apply_stream(f"{source}/p-{{0..2}}.tar", f"{bucket.url}/out", bank=book)
    assert sorted(bucket.tree("out")) == ["p-0.tar", "p-1.tar"]
    uploads: list[str] = []
    upload = RemoteStore._upload
    monkeypatch.setattr(RemoteStore, "_upload", lambda self, a, b: (uploads.append(b), upload(self, a, b))[1])
    summary = apply_stream(f"{source}/p-{{0..2}}.tar", f"{bucket.url}/out", bank=book)
    assert summary.resumed == 1
    assert [path for path in uploads if "/out/" in path] == [f"{bucket.name}/out/p-2.tar"]
    assert bucket.tree("out") == {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}


def test_an_object_that_is_there_is_never_written_over(bucket: Bucket, folder: Path, book: TextureBank) -> None:
    source = bucket.put(folder, "photos")
    theirs = f"{bucket.name}/out/cat/0002.png"
    bucket.fs.pipe_file(theirs, b"somebody's")
    with pytest.raises(ResumeError, match=r"did not write, such as cat/0002\.png"):
        apply_stream(source, f"{bucket.url}/out", bank=book)
    bucket.fs.rm_file(theirs)
    apply_stream(f"{source}/**/0000.jpg", f"{bucket.url}/out", bank=book, class_name="cat")
    # One that appears while its own is being made: the server itself refuses.
    store = open_store(f"{bucket.url}/race")

    def race() -> None:
        with store.writing("a.png") as file:
            file.write(b"ours")
            bucket.fs.pipe_file(f"{bucket.name}/race/a.png", b"theirs")

    with pytest.raises(ResumeError, match="appeared while it was being written"):
        race()
    assert bucket.tree("race") == {"a.png": b"theirs"}


def test_places_that_overlap_or_are_whole_buckets(bucket: Bucket, folder: Path, book: TextureBank) -> None:
    source = bucket.put(folder, "photos")
    for out, what in ((source, "overlaps"), (f"{source}/out", "overlaps"), (bucket.url, "whole bucket")):
        with pytest.raises(ConfigError, match=what):
            apply_stream(source, out, bank=book)
    with pytest.raises(FolderError, match="There is nothing to protect"):
        apply_stream(f"{bucket.url}/nothing", f"{bucket.url}/out", bank=book)
    with pytest.raises(FolderError, match="There is nothing to protect"):
        apply_stream("s3://no-such-bucket-of-ours/x", f"{bucket.url}/out", bank=book)


def put_folder(fs: Any, folder: Path, root: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            fs.pipe_file(f"{root}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def test_what_is_new_is_done_and_what_changed_is_refused(memory: Any, folder: Path, book: TextureBank) -> None:
    put_folder(memory, folder, "/photos")
    apply_stream("memory://photos", "memory://out", bank=book)
    memory.pipe_file("/photos/cat/0100.jpg", picture(100))
    more = apply_stream("memory://photos", "memory://out", bank=book)
    assert (more.resumed, more.tasks, more.counts["protected"]) == (1, 2, 7)
    memory.pipe_file("/out/stranger.png", b"not ours")
    told = apply_stream("memory://photos", "memory://out", bank=book)
    assert any("stranger.png" in text for text in told.warnings)
    memory.pipe_file("/photos/cat/0000.jpg", picture(77))
    with pytest.raises(ResumeError, match=r"cat/0000\.jpg in memory://photos changed"):
        apply_stream("memory://photos", "memory://out", bank=book)


def test_what_could_not_be_read_is_tried_again(
    memory: Any, folder: Path, book: TextureBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_folder(memory, folder, "/photos")
    real = RemoteStore.read

    def failing(self: RemoteStore, name: str, most: int) -> bytes:
        if name == "cat/0002.jpg":
            raise OSError(errno.EIO, "the network said no")
        return real(self, name, most)

    with monkeypatch.context() as patch:
        patch.setattr(RemoteStore, "read", failing)
        summary = apply_stream("memory://photos", "memory://out", bank=book)
    assert summary.counts["failed"] == 1
    assert summary.problems[0].reason == "cannot be read: the network said no"
    assert "/out/cat/0002.png" not in memory.store
    assert apply_stream("memory://photos", "memory://out", bank=book).exit_code == 0
    assert "/out/cat/0002.png" in memory.store


def test_a_store_that_is_gone_ends_the_run(
    memory: Any, folder: Path, book: TextureBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_folder(memory, folder, "/photos")

    def gone(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no route")

    exists = type(memory).exists
    monkeypatch.setattr(type(memory), "cat_file", gone)
    monkeypatch.setattr(type(memory), "exists", lambda self, path: gone() if path == "/photos" else exists(self, path))
    with pytest.raises(OutputError, match="can no longer be reached"):
        apply_stream("memory://photos", "memory://out", bank=book)


def test_a_lying_store_is_found_out(
    memory: Any, folder: Path, book: TextureBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_folder(memory, folder, "/photos")
    real = type(memory).put_file

    def lying(self: Any, source: str, path: str, **options: Any) -> None:
        real(self, source, path, **options)
        if path.endswith(".png"):
            self.store[path].seek(40)
            self.store[path].write(b"\0\1\2\3")

    monkeypatch.setattr(type(memory), "put_file", lying)
    with pytest.raises(OutputError, match="is not what was written there, and was removed"):
        apply_stream("memory://photos", "memory://out", bank=book, workers=1)
    assert not [name for name in memory.store if name.endswith(".png")]


def test_a_store_that_writes_bit_by_bit_gets_a_temporary_name(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an object grows under its name while it is uploaded, as over SFTP."""
    monkeypatch.setattr(stores, "_WHOLE", frozenset())
    names: list[str] = []
    real = type(memory).put_file

    def watched(self: Any, source: str, path: str, **options: Any) -> None:
        names.append(path)
        real(self, source, path, **options)
        if len(names) == 2:
            raise OSError(errno.EPIPE, "the line broke")

    monkeypatch.setattr(type(memory), "put_file", watched)
    store = open_store("memory://out")
    store.put("a/one.png", b"1")
    assert ".bitterant-tmp-" in names[0]
    with pytest.raises(OutputError, match="the line broke"):
        store.put("a/two.png", b"2")
    assert list(memory.store) == ["/out/a/one.png"]


def test_hostile_names_of_objects(memory: Any, book: TextureBank, tmp_path: Path) -> None:
    memory.pipe_file("/photos/cat/1.jpg", picture(1))
    memory.pipe_file("/photos/cat\\2.jpg", picture(2))
    memory.store["/photos/../../etc/3.jpg"] = memory.store["/photos/cat/1.jpg"]
    summary = apply_stream("memory://photos", tmp_path / "out", bank=book)
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["1.png"]
    assert summary.problem_count == 2


def test_a_name_that_the_disk_refuses_is_one_failure(memory: Any, book: TextureBank, tmp_path: Path) -> None:
    memory.pipe_file("/photos/cat/1.jpg", picture(1))
    memory.pipe_file(f"/photos/cat/{'n' * 300}/2.jpg", picture(2))
    summary = apply_stream("memory://photos", tmp_path / "out", bank=book)
    assert (summary.counts["protected"], summary.counts["failed"]) == (1, 1)
    assert summary.problems[0].reason.endswith("rename it")


def test_parts_of_the_shards_share_one_place(memory: Any, book: TextureBank, tmp_path: Path) -> None:
    for number in range(4):
        data = write_tar(tmp_path / f"{number}.tar", samples(1, number)).read_bytes()
        memory.pipe_file(f"/shards/p-{number}.tar", data)
    assert apply_stream("memory://shards/p-{0..1}.tar", "memory://out", bank=book).tasks == 2
    both = apply_stream("memory://shards/p-{2..3}.tar", "memory://out", bank=book)
    assert (both.tasks, both.resumed, both.counts["protected"], both.warnings) == (4, 2, 4, [])


def test_folders_that_the_bank_does_not_know(memory: Any, book: TextureBank) -> None:
    memory.pipe_file("/photos/bird/1.jpg", picture(1))
    with pytest.raises(BankError, match=r"they lie in bird, and it knows cat, dog"):
        apply_stream("memory://photos", "memory://out", bank=book)
    assert [name for name in memory.store if name.startswith("/out")] == []


def test_secrets_in_urls_are_masked(memory: Any, book: TextureBank, monkeypatch: pytest.MonkeyPatch) -> None:
    assert masked("sftp://me:pa55@host/x") == "sftp://***@host/x"
    assert masked("cannot open https://h/a.tar?X-Amz-Signature=abc&b=c now") == "cannot open https://h/a.tar?*** now"
    assert masked("what? nothing") == "what? nothing"
    assert masked("abfs://box@account.net/x") == "abfs://box@account.net/x", "a container is no user"
    real = type(memory).find

    def find(self: Any, path: str, **options: Any) -> Any:
        raise PermissionError(f"403 for https://key:pa55@host{path}?token=pa55")

    monkeypatch.setattr(type(memory), "find", find)
    with pytest.raises(SetupError) as caught:
        apply_stream("memory://me:pa55@photos", "memory://out", bank=book)
    assert "pa55" not in str(caught.value)
    assert "***@host" in str(caught.value)
    monkeypatch.setattr(type(memory), "find", real)
    memory.pipe_file("/me:pa55@photos/cat/1.jpg", picture(1))
    summary = apply_stream("memory://me:pa55@photos", "memory://out", bank=book)
    assert "pa55" not in json.dumps(summary.to_json())
    records = [data.getvalue() for name, data in memory.store.items() if name.startswith("/out.bitterant/")]
    assert records
    assert not any(b"pa55" in data for data in records)


def test_what_is_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_url("s3://bucket/x")
    assert is_url(Path("s3://bucket/x")), "a Path keeps one of the slashes"
    assert not is_url("C:/photos")
    assert not is_url(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:").mkdir()
    (tmp_path / "odd:" / "photos").mkdir()
    assert not is_url(Path("odd:/photos"))
    assert open_store(f"file://{tmp_path}").shown == str(tmp_path)


def test_packages_that_are_missing_are_named(book: TextureBank, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "s3fs", None)
        patch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
        with pytest.raises(SetupError, match=r"s3:// needs a package.*bitterant\[remote\]"):
            open_store("s3://bucket/x")
    with pytest.raises(ConfigError, match="cannot be opened"):
        open_store("nosuch://x/y")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(SetupError, match=r"fsspec.*bitterant\[remote\]"):
        apply_stream("s3://bucket/x", "s3://bucket/y", bank=book)


def test_protect_says_which_two_commands_do_it(tmp_path: Path) -> None:
    write_tar(tmp_path / "shards/a.tar", samples(1))
    for source in ("s3://bucket/photos", tmp_path / "shards", tmp_path / "shards/a.tar"):
        with pytest.raises(FolderError, match=r"code-book BANK.*apply SRC OUT --bank BANK"):
            protect_folder(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_protect_writes_no_folder_that_is_called_like_a_url(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FolderError, match="output folder is s3://bucket/out"):
        protect_folder(folder, "s3://bucket/out", method="texture")
    assert not list(tmp_path.glob("s3*"))


def test_pictures_are_done_in_groups(
    memory: Any, folder: Path, book: TextureBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_folder(memory, folder, "/photos")
    monkeypatch.setattr(stream_sources, "PICTURES_AT_ONCE", 4)
    assert apply_stream("memory://photos", "memory://out", bank=book).tasks == 2


def test_a_shard_behind_a_signed_address(book: TextureBank, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="needs what fsspec opens http with")
    write_tar(tmp_path / "web" / "a.tar", samples(1))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{running.server_port}/a.tar?X-Amz-Signature=t0ps3cret"
            summary = apply_stream(address, tmp_path / "out", bank=book)
        finally:
            running.shutdown()
            thread.join()
    assert summary.counts["protected"] == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.tar"]
    assert not any(b"t0ps3cret" in path.read_bytes() for path in (tmp_path / "out.bitterant").rglob("*.*"))


def test_a_shard_by_its_own_url(memory: Any, book: TextureBank, tmp_path: Path) -> None:
    memory.pipe_file("/x/a.tar", write_tar(tmp_path / "a.tar", samples(1)).read_bytes())
    apply_stream("memory://x/a.tar", tmp_path / "out", bank=book)
    assert len(read_tar(tmp_path / "out/a.tar")) == 4
