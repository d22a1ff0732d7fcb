"""Key files: one format and one reader for all commands, and one way to draw from them."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitterant.errors import ConfigError, OutputError
from bitterant.records.secrets import (
    derive,
    opaque_id,
    read_or_create_secret,
    read_secret,
    save_secret,
    secret_of_run,
    seed_of,
)

SECRET = bytes(range(100, 132))


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "my.key"
    secret = read_or_create_secret(path)
    assert len(secret) == 32
    assert path.read_text() == f"{secret.hex()}\n"
    assert read_or_create_secret(path) == secret
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ConfigError):
        save_secret(path, secret)
    assert read_secret(tmp_path / "none") is None


@pytest.mark.parametrize(
    "data",
    [
        SECRET.hex().encode(),
        SECRET.hex().upper().encode() + b"\r\n",
        b"\xef\xbb\xbf" + SECRET.hex().encode() + b"\n",
        b" " + SECRET[:16].hex().encode() + b"\n" + SECRET[16:].hex(" ").encode(),
        bytes(byte + 100 for byte in range(32)),
        SECRET + b"\n",
    ],
    ids=["one line", "upper case, Windows", "byte order mark", "spaced", "raw", "raw, a newline after"],
)
def test_the_same_bytes_are_the_same_key_however_they_are_written(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "key").write_bytes(data)
    assert read_secret(tmp_path / "key") == SECRET


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "fewer than 16 bytes"),
        (b"abc", "fewer than 16 bytes"),
        (b"ab" * 15, "fewer than 16 bytes"),
        (b"\xff" * 15, "fewer than 16 bytes"),
        (b"zz" * 32, "not hexadecimal"),
        (b"0x" + b"ab" * 32, "not hexadecimal"),
        (b"ab" * 32 + b"c", "not hexadecimal"),
        (b"my dog is called Emma\n", "not hexadecimal"),
        (b"\xff" * (2**20 + 1), "larger than"),
    ],
)
def test_what_is_no_key_is_left_alone(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "k"
    path.write_bytes(data)
    for read in (read_secret, read_or_create_secret, lambda path: secret_of_run(path, 0, purpose="texture")):
        with pytest.raises(ConfigError, match=f"k is no key file: .*{message}"):
            read(path)
    assert path.read_bytes() == data


def test_a_run_needs_the_file_it_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent cannot be read: there is no such file.*makes one"):
        secret_of_run(tmp_path / "absent", 0, purpose="texture")
    assert not (tmp_path / "absent").exists()
    with pytest.raises(OutputError, match="cannot be read"):
        secret_of_run(tmp_path, 0, purpose="texture")


def test_a_run_draws_from_file_purpose_and_seed(tmp_path: Path) -> None:
    save_secret(tmp_path / "a", SECRET)
    save_secret(tmp_path / "b", SECRET[::-1])
    runs = [(tmp_path / name, seed, purpose) for name in "ab" for seed in (0, 1) for purpose in ("texture", "t2ue")]
    found = [secret_of_run(path, seed, purpose=purpose) for path, seed, purpose in runs]
    assert len(set(found)) == len(runs)
    assert found[1] == hmac.new(SECRET, b"t2ue:0", hashlib.sha256).digest()
    assert secret_of_run(None, 3, purpose="texture") == b"bitterant-texture-3"  # banks of this key are published


def test_what_is_drawn_is_what_the_file_formats_say() -> None:
    digest = hmac.new(SECRET, b"class:7", hashlib.sha256).digest()
    assert derive(SECRET, "class:7") == digest
    assert seed_of(SECRET, "class:7") == int.from_bytes(digest[:8], "big") % 2**63
    assert opaque_id(SECRET, "a/b.png") == hmac.new(SECRET, b"a/b.png", hashlib.sha256).hexdigest()[:16]
    assert len(opaque_id(SECRET, os.fsdecode(b"\xff.png"))) == 16  # a name that is no text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_ids_and_seeds_have_their_form(name: str) -> None:
    assert bytes.fromhex(opaque_id(SECRET, name)).hex() == opaque_id(SECRET, name)
    assert len(opaque_id(SECRET, name)) == 16
    assert 0 <= seed_of(SECRET, name) < 2**63
