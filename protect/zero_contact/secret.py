"""The secret key file, and what is derived from it."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from ...errors import OutputError, RequestError
from ...imaging.atomic import write_atomic
from ...imaging.places import read_regular

__all__ = ["LEAST_SECRET", "new_secret", "opaque_id", "read_or_create_secret", "read_secret", "save_secret", "seed_of"]

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
