"""A trainer's trick of your own, tried against a protection: ``python samples/own_adversary.py``.

In a package of its own an entry point makes it known to ``bitterant verify --adversary posterise:3``::

    [project.entry-points."bitterant.adversaries"]
    posterise = "my_package.my_module:Posterise"
"""

from __future__ import annotations

import numpy as np
from tiny_pictures import draw

from bitterant import Adversary, ImageSet, Texture, register_adversary, verify_sets
from bitterant.attacks.adversaries.base import whole_number
from bitterant.attacks.terms import Pixels
from bitterant.surrogates import Recipe


@register_adversary
class Posterise(Adversary):
    """Keeps the highest bits of every value, four where none are named."""

    prefix = "posterise"
    tier = "transforms"
    source = "samples/own_adversary.py"
    description = "keeps the highest bits (posterise:3 sets how many, 4 if left out)"
    bits = whole_number(default=4, least=1, most=7)
    doing = "keeps {self.bits} bits of each colour"

    def transform(self, images: Pixels) -> Pixels:
        return images & np.uint8(256 - 2 ** (8 - self.bits))


def main() -> None:
    data, test = (ImageSet.from_tensors(*draw(count, side=16, seed=seed)) for count, seed in ((60, 0), (40, 1)))
    bank = Texture(seed=0).fit(data)
    protected = ImageSet.from_tensors(bank.apply_set(data.images, data.keys), data.labels)
    # So short a training says nothing but that it runs: leave the recipe out, and take preset="quick" for a grade.
    report = verify_sets(
        data,
        protected,
        test,
        preset="smoke",
        adversaries=["posterise:3"],
        recipe=Recipe(steps=20),
        device="cpu",
        workers=1,
    )
    print(report.verdict.headline)
    print("tried:", ", ".join(dict.fromkeys(cell.adversary for cell in report.cells)))


if __name__ == "__main__":
    main()
