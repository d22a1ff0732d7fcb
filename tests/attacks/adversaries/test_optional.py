"""Adversaries whose package is missing are left out by name, or refused where they were asked for by name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from bitterant.attacks.adversaries import create_adversary
from bitterant.attacks.verify import _stage
from bitterant.errors import SetupError


@pytest.fixture
def _no_kornia(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitterant.attacks.adversaries.base.find_spec", lambda name: None)


@pytest.mark.usefixtures("_no_kornia")
@pytest.mark.parametrize("name", ["ueraser", "ueraser:max", "simclr:0.1"])
def test_what_needs_kornia_says_so(name: str) -> None:
    with pytest.raises(SetupError, match=rf"{name} .*not installed.*bitterant\[augment\]"):
        create_adversary(name).check(32)


@pytest.mark.usefixtures("_no_kornia")
@pytest.mark.parametrize("named", [False, True])
def test_a_preset_goes_on_without_it(named: bool) -> None:
    adversaries = {name: create_adversary(name) for name in ("none", "grayscale", "ueraser", "simclr")}
    request = cast(Any, SimpleNamespace(adversaries=adversaries, named=named))
    store = cast(Any, SimpleNamespace(labelling=lambda name: name, resolution=32))
    if named:
        with pytest.raises(SetupError, match="ueraser"):
            _stage(request, store)
        return
    labellings, skipped = _stage(request, store)
    assert set(skipped) == {"ueraser", "simclr"}
    assert all("kornia" in reason for reason in skipped.values())
    assert set(labellings) == set(adversaries)
