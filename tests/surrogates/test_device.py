"""Names of devices: those that were tried, and that are there."""

from __future__ import annotations

import pytest
import torch

from bitterant.errors import ConfigError, SetupError
from bitterant.surrogates import resolve_device


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(
    "name",
    ["toaster", "meta", "xpu", "cpu:0", "cpu:7", "mps:1", "cuda:", "cuda:-1", "cuda:x", "cuda:01", "CPU", "", "cuda "],
)
def test_other_names_are_refused(two_gpus: None, name: str) -> None:
    with pytest.raises(ConfigError, match="is not a device"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:1"])
def test_devices_that_are_there(two_gpus: None, name: str) -> None:
    assert resolve_device(name) == torch.device(name)
    assert resolve_device(torch.device(name)) == torch.device(name)


@pytest.mark.parametrize("name", ["cuda:2", "cuda:99"])
def test_a_gpu_that_is_not_there(two_gpus: None, name: str) -> None:
    with pytest.raises(SetupError, match=rf"no device {name}. This machine has cuda:0, cuda:1"):
        resolve_device(name)


def test_a_machine_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SetupError, match="--device cpu"):
        resolve_device("cuda:0")
