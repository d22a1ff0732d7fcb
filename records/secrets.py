"""Key files, and everything that is drawn from a key: without it nobody can compute the noise anew.

A key file is one line of hexadecimal digits that only its owner can read; :func:`save_secret` writes it. The same file
serves every method and both sides of zero contact. Files of raw random bytes, which some methods once asked for, are
read as the bytes that they are. Other text is refused: a mistyped key would pass for another one.

Everything else is one keyed digest, :func:`derive`, of what it is for.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from ..errors import ConfigError, OutputError
from .files import write_atomic
from .places import open_regular

#: Bytes below which a key could be guessed.
LEAST_SECRET: Final = 16
_NEW_SECRET: Final = 32
_LARGEST_FILE: Final = 2**20


def new_secret() -> bytes:
    """A fresh random key, 32 bytes."""
    return secrets.token_bytes(_NEW_SECRET)


def read_secret(path: Path) -> bytes | None:
    """The key in a key file; ``None`` where there is no such file.

    Raises:
        ConfigError: the file is no key: too short, too large, or other text than hexadecimal digits.
        OutputError: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            data = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"The key file {path} cannot be read: {error.strerror or error}.") from error
    if len(data) > _LARGEST_FILE:
        raise _no_key(path, "it is larger than a mebibyte")
    secret = _digits(data)
    if secret is None and len(data.strip()) >= LEAST_SECRET and data.isascii() and b"\0" not in data:
        raise _no_key(
            path,
            "it holds text that is not hexadecimal digits (to keep using it as the key that it was, write its bytes as "
            "such: `xxd -p -c 0`)",
        )
    secret = data.strip() if secret is None else secret
    if len(secret) < LEAST_SECRET:
        raise _no_key(path, f"it holds fewer than {LEAST_SECRET} bytes, which can be guessed")
    return secret


def _digits(data: bytes) -> bytes | None:
    """The bytes that hexadecimal digits stand for, white space between them or not; ``None``: it is no such text."""
    try:
        return bytes.fromhex(data.decode("utf-8-sig"))
    except ValueError:  # UnicodeDecodeError too
        return None


def _no_key(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{path} is no key file: {why}. A key file is one line of at least {2 * LEAST_SECRET} hexadecimal digits; "
        "`openssl rand -hex 32` prints one."
    )


def save_secret(path: Path, secret: bytes) -> None:
    """Make a key file that only its owner can read. An existing file is never changed.

    Raises:
        ConfigError: it exists.
        OutputError: it cannot be made.
    """
    write_atomic(path, f"{secret.hex()}\n".encode("ascii"), overwrite=False, private=True)


def read_or_create_secret(path: Path) -> bytes:
    """The key in a key file; a missing file is made. See :func:`read_secret` and :func:`save_secret`."""
    secret = read_secret(path)
    if secret is None:
        secret = new_secret()
        save_secret(path, secret)
    return secret


#: Where a run has its key from: a key file, chance (nobody can make it a second time), or the seed (anybody can).
KeyKind = Literal["file", "random", "seed"]


@dataclass(frozen=True)
class RunKey:
    """The bytes that a run draws its noise from, and where they come from."""

    secret: bytes = field(repr=False)
    kind: KeyKind

    @property
    def about(self) -> dict[str, str | None]:
        """What may be published of it, JSON-safe: ``key`` its kind, ``key_id`` what tells it from another one.

        A random key has no id there: a run that goes on takes its noise from the bank, and draws another key in vain.
        """
        return {"key": self.kind, "key_id": None if self.kind == "random" else derive(self.secret, "id").hex()[:16]}


def key_of_run(key_file: Path | None, secret: bytes | None, seed: int, *, purpose: str) -> RunKey:
    """The key of a run: that of a key file, else one that was drawn (:func:`new_secret`), else one made of the seed.

    Args:
        key_file: see :func:`read_secret`.
        secret: a key that is in no file. Without it and a file, anybody who guesses the seed has the bytes.
        seed: of the run; the same file serves several seeds.
        purpose: name of the method; the same file serves several methods.

    Raises:
        ConfigError: the file is missing, or no key; or both were given.
        OutputError: it cannot be read.
    """
    if secret is None:
        return RunKey(secret_of_run(key_file, seed, purpose=purpose), "seed" if key_file is None else "file")
    if key_file is not None:
        raise ConfigError("A key file and a secret were given. One of them is the key: leave the other out.")
    if len(secret) < LEAST_SECRET:
        raise ConfigError(f"A secret of {len(secret)} bytes can be guessed: {LEAST_SECRET} are the least.")
    return RunKey(derive(secret, f"{purpose}:{seed}"), "random")


def secret_of_run(key_file: Path | None, seed: int, *, purpose: str) -> bytes:
    """The bytes that a run draws its noise from; see :func:`key_of_run`."""
    if key_file is None:
        return f"bitterant-{purpose}-{seed}".encode()
    secret = read_secret(key_file)
    if secret is None:
        raise ConfigError(
            f"The key file {key_file} cannot be read: there is no such file. `openssl rand -hex 32 > {key_file}` makes "
            "one; keep it to yourself."
        )
    return derive(secret, f"{purpose}:{seed}")


def derive(secret: bytes, what: str) -> bytes:
    """32 bytes for ``what`` (an id, a class, a path, a purpose): HMAC-SHA256. They depend on nothing else, so on no
    order."""
    return hmac.new(secret, what.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()


def seed_of(secret: bytes, what: str) -> int:
    """The seed for ``what``, in 0..2**63 - 1."""
    return int.from_bytes(derive(secret, what)[:8], "big") & (2**63 - 1)


def opaque_id(secret: bytes, relative: str) -> str:
    """What a picture is called towards others: 16 hexadecimal digits that tell nothing to those who lack the secret."""
    return derive(secret, relative).hex()[:16]
