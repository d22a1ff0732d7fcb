"""What all bank files share: safetensors bytes that are the same for the same content."""

from __future__ import annotations

import json

__all__ = ["in_stable_order"]


def in_stable_order(data: bytes) -> bytes:
    """The same safetensors file with the keys of its JSON header sorted: the library writes metadata in an order that
    changes from run to run. Layout: header length as 8 bytes little-endian, header padded with spaces, tensors."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return b"".join((len(header).to_bytes(8, "little"), header, memoryview(data)[8 + length :]))
