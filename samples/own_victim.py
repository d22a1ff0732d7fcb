"""A network of your own, trained on a protection: ``python samples/own_victim.py``.

In a package of its own an entry point makes it known to ``bitterant verify --victim two-layers``::

    [project.entry-points."bitterant.victims"]
    two-layers = "my_package.my_module:two_layers"
"""

from __future__ import annotations

from tiny_pictures import draw
from torch import nn

from bitterant import ImageSet, Texture, register_victim, verify_sets
from bitterant.surrogates import Recipe


@register_victim("two-layers", recipe=Recipe(steps=100, lr=0.02), family="mlp")
def two_layers(num_classes: int, resolution: int) -> nn.Module:
    """Random weights; it gets normalised pictures [N, 3, R, R], and gives logits [N, K]."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * resolution**2, 64), nn.ReLU(), nn.Linear(64, num_classes))


def main() -> None:
    data, test = (ImageSet.from_tensors(*draw(count, seed=seed)) for count, seed in ((60, 0), (40, 1)))
    bank = Texture(seed=0).fit(data)
    protected = ImageSet.from_tensors(bank.apply_set(data.images, data.keys), data.labels)
    # workers=1: what is written in the script itself cannot be sent to other processes.
    report = verify_sets(
        data, protected, test, preset="smoke", victims=["two-layers"], adversaries=[], device="cpu", workers=1
    )
    print(report.verdict.headline)
    print("trained:", ", ".join(dict.fromkeys(cell.victim for cell in report.cells)))


if __name__ == "__main__":
    main()
