"""Objects as they arrive at another process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitterant.imaging import ImageSet
from bitterant.protect.methods.ranks import Message
from bitterant.surrogates import FrozenSurrogate, create_surrogate


def arrived(value: Any, known: dict[str, Any] | None = None, theirs: dict[str, Any] | None = None) -> Any:
    """What the receiver has of it: nothing of the sender's but the bytes."""
    sent = [part.clone() for part in Message.of(value, known or {}).parts()]
    waiting = iter(sent)
    message = Message.received(lambda part: part.copy_(next(waiting)))
    assert next(waiting, None) is None, "everything was received"
    return message.open(theirs or {}, torch.device)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(3, 5).half(), torch.tensor(3.5), torch.empty(0, 4), torch.rand(4).bfloat16(),
        torch.tensor([True, False]), torch.arange(6).view(2, 3).T, torch.rand(2, 3, 4, 4)[:, 1:, ::2],
        torch.rand(1, 3, 1, 1).expand(2, 3, 4, 4), torch.arange(1000)[400:405],
        torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
    ],
)  # fmt: skip
def test_a_tensor_arrives_as_it_was(tensor: Tensor) -> None:
    found = arrived({"it": [tensor]})["it"][0]
    assert found.dtype == tensor.dtype
    assert torch.equal(found, tensor)
    if tensor.is_contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor.is_contiguous():
        assert found.stride() == tensor.stride()


def test_of_a_view_no_more_travels_than_is_seen() -> None:
    whole = torch.rand(1000, 3, 16, 16)
    parts = sum(part.numel() * part.element_size() for part in Message.of(whole[10:12], {}).parts())
    assert parts < 2 * 3 * 16 * 16 * 4 + 1000


def test_what_was_one_stays_one() -> None:
    weight = nn.Parameter(torch.rand(2, 2), requires_grad=False)
    first, second, again = arrived((weight, weight, weight.data))
    assert first is second
    assert isinstance(first, nn.Parameter)
    assert not first.requires_grad
    assert torch.equal(again, weight)


def test_what_the_receiver_has_goes_by_its_name() -> None:
    dataset = ImageSet.from_tensors(torch.rand(50, 3, 16, 16), [0, 1] * 25)
    theirs = ImageSet.from_tensors(torch.rand(2, 3, 16, 16), [0, 1])
    found = arrived((dataset.select, [dataset]), {"set": dataset}, {"set": theirs})
    assert found[0].__self__ is theirs
    assert found[1][0] is theirs


def test_devices_are_those_of_the_receiver() -> None:
    message = Message.of((torch.device("cuda:3"), torch.rand(2)), {})
    asked: list[str] = []

    def own(kind: str) -> torch.device:
        asked.append(kind)
        return torch.device("cpu")

    assert message.open({}, own)[0] == torch.device("cpu")
    assert sorted(asked) == ["cpu", "cuda"]


@pytest.mark.parametrize("name", ["small-cnn", "resnet18-plain", "timm:mobilenetv3_small_050"])
def test_a_frozen_surrogate_gives_the_same_gradient_to_the_bit(name: str) -> None:
    model = create_surrogate(name, num_classes=3, resolution=32, seed=0)
    model.train()(torch.rand(8, 3, 32, 32))
    frozen, images = FrozenSurrogate(model), torch.rand(5, 3, 32, 32)
    found = arrived(frozen)
    results = []
    for network in (frozen, found):
        leaf = images.clone().requires_grad_(True)
        network(leaf).logsumexp(1).sum().backward()
        results.append(leaf.grad)
    assert torch.equal(results[0], results[1])
