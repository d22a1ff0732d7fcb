"""Random vectors out of a secret: nobody without it can compute the noise anew, and order decides nothing."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from ....errors import ConfigError

__all__ = ["read_secret", "row_seed"]


def row_seed(secret: bytes, name: str) -> int:
    """The seed of a picture or class: 63 bits of HMAC-SHA256 of its name, whatever stands beside it."""
    return int.from_bytes(hmac.new(secret, name.encode(), hashlib.sha256).digest()[:8], "big") & (2**63 - 1)


def read_secret(path: Path | None, seed: int) -> bytes:
    """The bytes of a key file; without one, a key that the seed gives away.

    Raises:
        ConfigError: the file is missing, unreadable, or too short to be a secret.
    """
    if path is None:
        return f"bitterant-t2ue-{seed}".encode()
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"The key file {path} cannot be read: {error.strerror or error}.") from error
    if len(secret) < 16:
        raise ConfigError(f"The key file {path} holds fewer than 16 bytes: that can be guessed.")
    return secret + b":%d" % seed
