"""Methods that draw from a key: one file, whatever its form, and nothing of it in the records."""

from __future__ import annotations

import json
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
    assert made.secret == raw.secret == derive(SECRET, f"{name}:5")
    assert made.settings() == raw.settings()
    assert not made.key_is_seed
    assert SECRET.hex() not in json.dumps(made.settings())
    assert made.secret.hex() not in json.dumps(made.settings())


@pytest.mark.parametrize("name", KEYED)
def test_without_a_key_file_the_seed_is_the_key(name: str, tmp_path: Path) -> None:
    method = cast(Any, create_method(name, seed=5))
    assert method.key_is_seed
    assert method.secret == f"bitterant-{name}-5".encode()
    with pytest.raises(ConfigError, match="no such file"):
        create_method(name, key_file=str(tmp_path / "absent"))


def test_other_methods_have_no_key() -> None:
    assert not any(create_method(name).key_is_seed for name in ("noise", "emn", "uc", "beo"))
