"""Methods that draw from a key: one file, whatever its form, and nothing of it in the records."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any, cast

import pytest

from bitterant.errors import ConfigError
from bitterant.protect import create_method
from bitterant.records.secrets import derive, save_secret

SECRET = bytes(range(200, 232))
KEYED = ("texture", "t2ue")


@pytest.mark.parametrize("name", KEYED)
def test_the_form_of_a_key_file_does_not_matter(name: str, tmp_path: Path) -> None:
    save_secret(tmp_path / "made", SECRET)
    (tmp_path / "raw").write_bytes(SECRET)
    made, raw = (cast(Any, create_method(name, seed=5, key_file=str(tmp_path / form))) for form in ("made", "raw"))
    assert made.key.secret == raw.key.secret == derive(SECRET, f"{name}:5")
    assert made.settings() == raw.settings()
    assert made.settings()["key"] == "file"
    assert SECRET.hex() not in json.dumps(made.settings())
    assert made.key.secret.hex() not in json.dumps(made.settings()) + repr(made.key)


@pytest.mark.parametrize("name", KEYED)
def test_without_a_key_file_the_seed_is_the_key(name: str, tmp_path: Path) -> None:
    method = cast(Any, create_method(name, seed=5))
    assert method.settings()["key"] == "seed"
    assert method.key.secret == f"bitterant-{name}-5".encode()
    with pytest.raises(ConfigError, match="no such file"):
        create_method(name, key_file=str(tmp_path / "absent"))


def test_other_methods_have_no_key() -> None:
    for name in ("noise", "emn", "uc", "beo"):
        method = create_method(name)
        assert method.key is None
        assert not method.keyed


@pytest.mark.parametrize("name", KEYED)
def test_a_key_may_be_given_as_it_is(name: str, tmp_path: Path) -> None:
    save_secret(tmp_path / "file", SECRET)
    given = cast(Any, create_method(name, seed=3, secret=SECRET))
    read = cast(Any, create_method(name, seed=3, key_file=str(tmp_path / "file")))
    assert given.key.secret == read.key.secret
    assert (given.settings()["key"], given.settings()["key_id"]) == ("random", None)
    with pytest.raises(ConfigError, match="leave the other out"):
        create_method(name, secret=SECRET, key_file=str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="5 bytes can be guessed"):
        create_method(name, secret=b"short")


@pytest.mark.parametrize("name", KEYED)
def test_a_secret_of_another_kind_is_refused_and_not_told(name: str) -> None:
    text = SECRET.hex()
    with pytest.raises(ConfigError, match="is bytes") as caught:
        create_method(name, secret=text)
    told = "".join(traceback.format_exception(caught.value))
    assert text not in told.replace("create_method(name, secret=text)", "")
