"""Names of the methods that come with bitterant, where listing them from the registry would take seconds: it loads
torch, and help and completion must not."""

from __future__ import annotations

from typing import Final

#: In the order in which they are told.
KNOWN_METHODS: Final = ("texture", "emn", "uc", "beo", "t2ue", "noise")
