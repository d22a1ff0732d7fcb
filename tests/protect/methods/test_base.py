"""What the base class does with a method's work: refuse nonsense, keep the budget, name the rows, spare the memory."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from bitterant.errors import BankError, ConfigError, FitError
from bitterant.imaging import Budget, ImageSet
from bitterant.protect import create_method
from bitterant.protect.methods.base import FitContext, Method


class Given(Method):
    """A method that returns what it is told to."""

    name: ClassVar[str] = "given"
    needs = "nothing"
    granularities = ("class", "sample")
    delta: Tensor
    seen: ImageSet

    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        self.seen = dataset
        return self.delta


def images(count: int, side: int = 4) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def three_classes() -> ImageSet:
    """Of three classes the middle one has no images: its files could not be read."""
    return ImageSet.from_tensors(images(4), torch.tensor([0, 2, 2, 0]), classes=["a", "b", "c"])


def test_a_class_without_images_gets_no_row() -> None:
    method = Given(device="cpu")
    method.delta = torch.stack([torch.full((3, 4, 4), value / 255) for value in (1.0, 2.0, 3.0)])
    bank = method.fit(three_classes())
    assert bank.keys == ("a", "c")
    assert [int(row.unique()) for row in bank.levels] == [1, 3]
    assert bank.key_for("b/some-digest") is None
    with pytest.raises(BankError, match="no perturbation for the class 'b'"):
        bank.levels_for("b")


@pytest.mark.parametrize("name", ["emn", "noise"])
def test_so_it_is_for_the_real_methods(name: str) -> None:
    quick: dict[str, Any] = {"rounds": 1, "surrogate_steps": 1, "attempts": 0} if name == "emn" else {}
    data = ImageSet.from_tensors(images(6, 16), torch.tensor([0, 2, 2, 0, 2, 0]), classes=["a", "b", "c"])
    bank = create_method(name, granularity="class", device="cpu", **quick).fit(data)
    assert bank.keys == ("a", "c")
    assert all(int(row.abs().max()) > 0 for row in bank.levels)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_an_error_and_not_zeros(value: float) -> None:
    method = Given(device="cpu", granularity="sample")
    method.delta = torch.zeros(4, 3, 4, 4)
    method.delta[3, 2, 1, 0] = value
    with pytest.raises(FitError, match="not finite") as caught:
        method.fit(three_classes())
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_blocks_of_rows_are_quantised_as_the_whole(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr("bitterant.protect.methods.base._BLOCK", 100)
    method = Given(device="cpu", granularity="sample", budget=Budget(0.03))
    method.delta = torch.randn(50, 3, 4, 4, generator=torch.Generator().manual_seed(1)).mul(0.05).to(dtype)
    data = ImageSet.from_tensors(images(50))
    whole = method.budget.quantise(method.budget.project(method.delta.float()))
    assert torch.equal(method.fit(data).levels, whole)


def test_a_set_in_the_order_of_its_keys_is_not_copied() -> None:
    method = Given(device="cpu", granularity="sample")
    method.delta = torch.ones(3, 3, 4, 4)
    for keys, same in ((("a", "b", "c"), True), (("a", "c", "b"), False)):
        data = ImageSet(images(3), None, (), keys)
        method.fit(data)
        assert (method.seen is data) == same
        assert method.seen.keys == ("a", "b", "c")
    method.delta = torch.ones(2, 3, 4, 4)
    method.fit(ImageSet(images(3)[[0, 1, 1]], None, (), ("a", "b", "b")))
    assert method.seen.keys == ("a", "b")


def test_the_identity_of_a_fit_is_that_of_its_pixels() -> None:
    method = Given(device="cpu")
    one, other = (ImageSet(images(3), None, (), ("a", "b", "c")) for _ in range(2))
    assert method._identity(one) == method._identity(other)
    other.images[2, 2, 3, 3] ^= 1
    assert method._identity(one) != method._identity(other)
    turned = ImageSet(one.images.transpose(2, 3).contiguous().transpose(2, 3), None, (), one.keys)
    assert method._identity(one) == method._identity(turned)
    assert len(method._identity(one)) == len(hashlib.sha256().hexdigest())


def test_a_surrogate_for_a_method_without_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="noise uses no surrogate"):
        create_method("noise", surrogate="resnet18")
    with pytest.raises(ConfigError, match="given uses no surrogate"):
        Given(surrogate="small-cnn")


def test_a_budget_that_is_none_is_said_to_be_so() -> None:
    with pytest.raises(ConfigError, match=r"budget is a Budget, such as Budget\.from_levels\(8\).*, not 8\."):
        create_method("noise", budget=8)
    with pytest.raises(ConfigError, match=r"clean_bank of beo is of type ImageSet, not 'x'\."):
        create_method("beo", clean_bank="x")


def test_what_users_of_torch_have_at_hand_is_taken_or_explained(tmp_path: Path) -> None:
    method = create_method("emn", device=torch.device("cpu"), preset="fast", rounds=1, surrogate_steps=1, attempts=0)
    assert method.device == torch.device("cpu")
    data = ImageSet.from_tensors(images(4, side=8), [0, 1, 0, 1])
    assert method.fit(data, checkpoint=str(tmp_path / "state")) == method.fit(data)
    for other in ((images(4), [0, 1, 0, 1]), images(4), None):
        with pytest.raises(ConfigError, match=r"fitted to an ImageSet, not to (tuple|Tensor|NoneType): make one"):
            method.fit(other)  # type: ignore[arg-type]


def test_different_images_with_one_key_are_refused_and_copies_are_not() -> None:
    with pytest.raises(ConfigError, match=r"Two different images have the key 'a'"):
        create_method("noise").fit(ImageSet.from_tensors(images(3), keys=["a", "b", "a"]))
    copies = images(3)
    copies[2] = copies[0]
    assert create_method("noise").fit(ImageSet.from_tensors(copies, keys=["a", "b", "a"])).keys == ("a", "b")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident memory from /proc")
def test_a_fit_of_noise_takes_the_memory_that_is_estimated_and_no_more() -> None:
    """Float32 noise, a copy in the order of the keys and the int16 bank: 7 bytes a value, and room for the blocks."""
    code = """
import torch
from bitterant.imaging import ImageSet
from bitterant.protect import create_method
def kilobytes(name):  # not getrusage: its peak is that of the process that started this one, too
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])
def fit(count):
    images = torch.ones(count, 3, 64, 64, dtype=torch.uint8)
    keys = tuple(f"{i * 7919 % count:05}" for i in range(count))
    data = ImageSet(images, None, (), keys)
    now = kilobytes("VmRSS")
    create_method("noise", device="cpu").fit(data)
    return (kilobytes("VmHWM") - now) * 1024 / images.numel()
fit(2)
print(fit(2000))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert 5 < float(done.stdout) < 9
