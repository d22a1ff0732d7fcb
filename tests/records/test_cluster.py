"""A connection to a Ray cluster says what is missing, and at once."""

from __future__ import annotations

import re
import sys

import pytest

from bitterant.errors import SetupError
from bitterant.records import cluster
from bitterant.records.cluster import RayConnection


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SetupError, match=r"pip install 'bitterant\[ray\]'"), RayConnection(None):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "ray://[::1]:1"])
def test_an_address_where_nothing_answers_is_told_at_once(address: str) -> None:
    with pytest.raises(SetupError, match=re.escape(f"Nothing answers at {address}: ")):
        cluster._check_reached(address)
