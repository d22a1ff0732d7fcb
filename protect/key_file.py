"""The secret bytes that keyed noise is drawn from: those of a file, or without one, bytes that the seed gives away."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError

__all__ = ["read_key"]

#: Bytes below which a key could be guessed.
LEAST_KEY = 16


def read_key(path: Path | None, seed: int, *, purpose: str) -> bytes:
    """The bytes of a key file; without one, a key that the seed gives away.

    Args:
        path: of the file, or ``None``.
        seed: of the run; the same file serves several seeds.
        purpose: name of the method, so that methods without a key file differ.

    Raises:
        ConfigError: the file is missing, unreadable, or too short to be a secret.
    """
    if path is None:
        return f"bitterant-{purpose}-{seed}".encode()
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"The key file {path} cannot be read: {error.strerror or error}.") from error
    if len(secret) < LEAST_KEY:
        raise ConfigError(f"The key file {path} holds fewer than {LEAST_KEY} bytes: that can be guessed.")
    return secret + b":%d" % seed
