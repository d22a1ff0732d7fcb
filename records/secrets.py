"""The secret key file, and what is derived from it.

The secret bytes that keyed noise is drawn from: those of a file, or without one, bytes that the seed gives away.

The secret key file, and what is derived from it.

Random vectors out of a secret: nobody without it can compute the noise anew, and order decides nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from ..errors import ConfigError, OutputError, RequestError
from .files import write_atomic
from .places import read_regular

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


#: Bytes below which a secret could be guessed.
LEAST_SECRET: Final = 16
_NEW_SECRET: Final = 32


def new_secret() -> bytes:
    """A fresh random secret."""
    return secrets.token_bytes(_NEW_SECRET)


def read_secret(path: Path) -> bytes | None:
    """The secret in a key file; ``None`` where there is no such file.

    Raises:
        RequestError: the file is no key: empty, short, or not hexadecimal digits.
        OutputError: it cannot be read.
    """
    try:
        data = read_regular(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"The key file {path} cannot be read: {error.strerror or error}.") from error
    try:
        secret = bytes.fromhex(data.decode("ascii"))
    except (UnicodeDecodeError, ValueError):
        secret = b""
    if len(secret) < LEAST_SECRET:
        raise RequestError(
            f"{path} is no key file: it must hold at least {2 * LEAST_SECRET} hexadecimal digits. "
            "Name a file that does not exist yet, and one is made."
        )
    return secret


def save_secret(path: Path, secret: bytes) -> None:
    """Make a key file that only its owner can read. An existing file is never changed.

    Raises:
        OutputError: it exists or cannot be made.
    """
    write_atomic(path, f"{secret.hex()}\n".encode("ascii"), overwrite=False, private=True)


def read_or_create_secret(path: Path) -> bytes:
    """The secret in a key file; a missing file is made. See :func:`read_secret` and :func:`save_secret`."""
    secret = read_secret(path)
    if secret is None:
        secret = new_secret()
        save_secret(path, secret)
    return secret


def opaque_id(secret: bytes, relative: str) -> str:
    """What a picture is called towards others: 16 hexadecimal digits that tell nothing to whom lacks the secret."""
    return hmac.new(secret, os.fsencode(relative), hashlib.sha256).hexdigest()[:16]


def seed_of(secret: bytes, what: str) -> int:
    """The seed for ``what`` (an id, a class), in 0..2**63 - 1. It depends on nothing else, so on no order."""
    digest = hmac.new(secret, what.encode("utf-8"), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") & (2**63 - 1)


def row_seed(secret: bytes, name: str) -> int:
    """The seed of a picture or class: 63 bits of HMAC-SHA256 of its name, whatever stands beside it."""
    return int.from_bytes(hmac.new(secret, name.encode(), hashlib.sha256).digest()[:8], "big") & (2**63 - 1)
