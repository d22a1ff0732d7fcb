"""The methods that come with bitterant, a row each: the command lists their names before torch is loaded."""

from __future__ import annotations

from typing import Final

#: Module below this package, and class, by the name in the registry; in the order in which they are told.
METHODS: Final[dict[str, tuple[str, str]]] = {
    "texture": ("texture", "Texture"),
    "emn": ("emn", "ErrorMinimizing"),
    "uc": ("uc", "UnlearnableClusters"),
    "beo": ("beo", "BayesErrorAscent"),
    "t2ue": ("t2ue", "TextToUnlearnable"),
    "noise": ("noise", "RandomNoise"),
}
