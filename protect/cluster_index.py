"""Which pattern of a bank belongs to which picture, where patterns belong to clusters of pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..errors import BankError

__all__ = ["ClusterIndex"]


@dataclass(frozen=True)
class ClusterIndex:
    """Centres of clusters, and the pictures whose cluster is known.

    Attributes:
        centres: float32 ``[p, D]`` in the surrogate's feature space; row ``k`` belongs to the bank's row ``k``.
        view: side in px of the squares whose features the centres lie among; 0 for the working resolution.
        members: digest of a picture's key to the number of its cluster. A key's class folder does not count.
    """

    centres: Tensor
    view: int = 0
    members: Mapping[bytes, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.centres.ndim != 2 or not torch.isfinite(self.centres).all():
            raise BankError(f"Cluster centres must be finite [p, D], not of shape {tuple(self.centres.shape)}.")
        if not 0 <= self.view <= 4096:
            raise BankError(f"The bank's clusters cannot have been found on pictures of {self.view} px.")
        if any(not 0 <= cluster < len(self.centres) for cluster in self.members.values()):
            raise BankError("The bank sends a picture to a cluster that it does not hold.")

    def find(self, image_key: str) -> int | None:
        """The cluster of a picture, ``None`` where it was never assigned."""
        return self.members.get(_digest(image_key))

    def knowing(self, keys: Sequence[str], clusters: Tensor) -> ClusterIndex:
        """The same centres, with more pictures assigned.

        Args:
            keys: of the pictures, ``N``.
            clusters: int64 ``[N]``.
        """
        more = {_digest(key): int(cluster) for key, cluster in zip(keys, clusters.tolist(), strict=True)}
        return replace(self, members={**self.members, **more})

    def to_tensors(self) -> dict[str, Tensor]:
        """For the bank file; the same index gives the same tensors."""
        ordered = sorted(self.members.items())
        digests = np.frombuffer(b"".join(digest for digest, _ in ordered), dtype=np.uint8).reshape(-1, 32)
        return {
            "centres": self.centres.float().contiguous(),
            "view": torch.tensor([self.view], dtype=torch.int32),
            "member_digests": torch.from_numpy(digests.copy()),
            "member_clusters": torch.tensor([cluster for _, cluster in ordered], dtype=torch.int32),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> ClusterIndex:
        """Back from :meth:`to_tensors`.

        Raises:
            KeyError: a tensor is missing.
            BankError: they do not fit together.
        """
        digests, clusters = tensors["member_digests"], tensors["member_clusters"]
        view = tensors["view"]
        if view.shape != (1,) or view.dtype != torch.int32:
            raise BankError("The bank does not say at which side its pictures were looked at.")
        if digests.shape != (len(clusters), 32) or digests.dtype != torch.uint8:
            raise BankError("The bank's list of pictures is damaged.")
        pairs = zip(digests.numpy(), clusters.tolist(), strict=True)
        members = {digest.tobytes(): int(cluster) for digest, cluster in pairs}
        return cls(tensors["centres"], int(view), members)


def _digest(image_key: str) -> bytes:
    """sha256 of the key without its class folder."""
    return hashlib.sha256(image_key.rpartition("/")[2].encode("utf-8", "surrogateescape")).digest()
