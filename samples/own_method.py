"""A method of your own: ``python samples/own_method.py``.

In a package of its own it needs no more than an entry point to be found by ``bitterant protect --method checks``::

    [project.entry-points."bitterant.methods"]
    checks = "my_package.my_module:Checks"
"""

from __future__ import annotations

import torch
from tiny_pictures import CLASSES, draw
from torch import Tensor

from bitterant import ImageSet, Method, register_method
from bitterant.protect import create_method
from bitterant.protect.methods import FitContext


@register_method
class Checks(Method):
    """A checkerboard a class, of squares whose side grows with the number of the class."""

    name = "checks"
    needs = "labels"
    granularities = ("class",)

    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        # One row a class, in units of the full range. Whatever is too strong is brought back into the budget.
        side = dataset.resolution
        rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        boards = [(rows // size + columns // size) % 2 for size in range(1, len(dataset.classes) + 1)]
        return (torch.stack(boards).float() * 2 - 1)[:, None].expand(-1, 3, -1, -1)


def main() -> None:
    images, labels = draw()
    data = ImageSet.from_tensors(images, labels, classes=CLASSES)
    bank = create_method("checks", device="cpu").fit(data)
    change = (bank.apply_set(images, data.keys).int() - images.int()).abs().max()
    print(f"{bank.method} made patterns for {', '.join(bank.keys)}; largest change: {change} levels.")


if __name__ == "__main__":
    main()
