"""Random vectors out of a secret: nobody without it can compute the noise anew, and order decides nothing."""

from __future__ import annotations

import hashlib
import hmac

__all__ = ["row_seed"]


def row_seed(secret: bytes, name: str) -> int:
    """The seed of a picture or class: 63 bits of HMAC-SHA256 of its name, whatever stands beside it."""
    return int.from_bytes(hmac.new(secret, name.encode(), hashlib.sha256).digest()[:8], "big") & (2**63 - 1)
