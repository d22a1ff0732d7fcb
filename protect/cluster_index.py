"""Which cluster a picture belongs to, where a bank protects clusters of pictures. Without torch: known pictures need
no network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from ..errors import BankError


@dataclass(frozen=True)
class ClusterIndex:
    """Centres of clusters, and the pictures whose cluster is known.

    Attributes:
        centres: float32 ``[p, D]`` in the surrogate's feature space; row ``k`` is cluster ``k`` of the bank.
        feature_size: side in px of the squares whose features the centres lie among; 0 for the working resolution.
        members: digest of a picture's key to the number of its cluster. A key's class folder does not count.
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ("centres", "view", "member_digests", "member_clusters")
    """Names of the arrays that hold it in a bank file."""

    centres: np.ndarray
    feature_size: int = 0
    members: Mapping[bytes, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.centres.ndim != 2 or self.centres.dtype != np.float32 or not np.isfinite(self.centres).all():
            raise BankError(
                f"Cluster centres must be finite float32 [p, D], not {self.centres.dtype} {self.centres.shape}."
            )
        if not 0 <= self.feature_size <= 4096:
            raise BankError(f"The bank's clusters cannot have been found on pictures of {self.feature_size} px.")
        if any(not 0 <= cluster < len(self.centres) for cluster in self.members.values()):
            raise BankError("The bank sends a picture to a cluster that it does not hold.")

    def find(self, image_key: str) -> int | None:
        """The cluster of a picture, ``None`` where it was never assigned."""
        return self.members.get(_digest(image_key))

    def knowing(self, keys: Sequence[str], clusters: Sequence[int]) -> ClusterIndex:
        """The same centres, with more pictures assigned.

        Args:
            keys: of the pictures, ``N``.
            clusters: of each, ``N``.
        """
        more = {_digest(key): int(cluster) for key, cluster in zip(keys, clusters, strict=True)}
        return replace(self, members={**self.members, **more})

    def to_arrays(self) -> dict[str, np.ndarray]:
        """For the bank file; the same index gives the same arrays."""
        ordered = sorted(self.members.items())
        digests = np.frombuffer(b"".join(digest for digest, _ in ordered), dtype=np.uint8).reshape(-1, 32)
        return {
            "centres": np.ascontiguousarray(self.centres),
            "view": np.array([self.feature_size], dtype=np.int32),
            "member_digests": digests.copy(),
            "member_clusters": np.array([cluster for _, cluster in ordered], dtype=np.int32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ClusterIndex:
        """Back from :meth:`to_arrays`.

        Raises:
            KeyError: one is missing.
            BankError: they do not fit together.
        """
        digests, clusters = arrays["member_digests"], arrays["member_clusters"]
        view = arrays["view"]
        if view.shape != (1,) or view.dtype != np.int32:
            raise BankError("The bank does not say at which side its pictures were looked at.")
        if clusters.ndim != 1 or digests.shape != (len(clusters), 32) or digests.dtype != np.uint8:
            raise BankError("The bank's list of pictures is damaged.")
        pairs = zip(digests, clusters.tolist(), strict=True)
        members = {digest.tobytes(): int(cluster) for digest, cluster in pairs}
        return cls(arrays["centres"], int(view[0]), members)


def unassigned(key: str) -> str:
    """Why a bank of clusters has nothing for an image."""
    return (
        f"This bank's patterns belong to clusters, and it was never assigned which of them the image {key!r} is in. "
        "apply_folder finds that out for new pictures; or fit the bank on this one, too."
    )


def _digest(image_key: str) -> bytes:
    """sha256 of the key without its class folder."""
    return hashlib.sha256(image_key.rpartition("/")[2].encode("utf-8", "surrogateescape")).digest()
