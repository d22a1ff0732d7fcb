"""The secret key file, and what is derived from it."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from ...errors import OutputError, RequestError

__all__ = ["LEAST_SECRET", "opaque_id", "read_or_create_secret", "seed_of"]

#: Bytes below which a secret could be guessed.
LEAST_SECRET: Final = 16
_NEW_SECRET: Final = 32


def read_or_create_secret(path: Path) -> bytes:
    """The secret in a key file. A missing file is made, readable by its owner only; an existing one is never changed.

    Raises:
        RequestError: the file is no key: empty, short, or not hexadecimal digits.
        OutputError: it cannot be made or read.
    """
    try:
        if not os.path.lexists(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(_NEW_SECRET) + "\n")
                file.flush()
                os.fsync(file.fileno())
        data = path.read_bytes()
    except OSError as error:
        raise OutputError(f"The key file {path} cannot be used: {error.strerror or error}.") from error
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


def opaque_id(secret: bytes, relative: str) -> str:
    """What a picture is called towards others: 16 hexadecimal digits that tell nothing to whom lacks the secret."""
    return hmac.new(secret, os.fsencode(relative), hashlib.sha256).hexdigest()[:16]


def seed_of(secret: bytes, what: str) -> int:
    """The seed for ``what`` (an id, a class), in 0..2**63 - 1. It depends on nothing else, so on no order."""
    digest = hmac.new(secret, what.encode("utf-8"), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") & (2**63 - 1)
