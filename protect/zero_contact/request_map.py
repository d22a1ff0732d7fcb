"""The private half of a request: which id is which picture. It never leaves the machine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ...errors import RequestError
from ...imaging.structured import read_json
from .request import ID_PATTERN

__all__ = ["MappedPicture", "RequestMap"]

_FORMAT: Final = "bitterant-request-map"
_VERSION: Final = 1
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class MappedPicture:
    """One picture as it was when noise was asked for.

    Attributes:
        path: below the folder, with forward slashes.
        sha256: of the file.
        width, height: upright, in px.
        caption_source: where its caption came from.
    """

    path: str
    sha256: str
    width: int
    height: int
    caption_source: str = ""


@dataclass(frozen=True)
class RequestMap:
    """From id to picture.

    Attributes:
        pictures: by id.
        prompts_sha256: of the request, by which a bundle is known to be made for it.
    """

    pictures: Mapping[str, MappedPicture]
    prompts_sha256: str

    def to_bytes(self) -> bytes:
        """As JSON, in ASCII: a file name may hold bytes that are no text."""
        pictures = {name: asdict(picture) for name, picture in sorted(self.pictures.items())}
        head = {"format": _FORMAT, "version": _VERSION, "prompts_sha256": self.prompts_sha256}
        return json.dumps({**head, "pictures": pictures}, indent=1).encode("ascii") + b"\n"

    @classmethod
    def read(cls, path: Path) -> RequestMap:
        """Read ``request.map.json``.

        Raises:
            RequestError: there is none, it is damaged, or of another version.
        """
        try:
            data = read_json(Path(path))
        except FileNotFoundError:
            raise RequestError(
                f"There is no map {path}. `bitterant t2ue captions` writes it beside the request; without it nobody "
                "knows which noise belongs to which picture."
            ) from None
        except OSError as error:
            raise RequestError(f"The map {path} cannot be read: {error.strerror or error}.") from error
        except ValueError as error:
            raise RequestError(f"The map {path} is damaged: {error}. Make the request again.") from error
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise RequestError(f"{path} is not the map of a request. Give the request.map.json of `t2ue captions`.")
        if data.get("version") != _VERSION:
            raise RequestError(f"{path} has map format {data.get('version')}; this bitterant reads {_VERSION}.")
        try:
            pictures = {name: _picture(name, value) for name, value in data["pictures"].items()}
            digest = data["prompts_sha256"]
            if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or not pictures:
                raise ValueError("prompts_sha256 or pictures")
            if len({picture.path for picture in pictures.values()}) != len(pictures):
                raise ValueError("a path twice")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RequestError(f"The map {path} is damaged ({error}). Make the request again.") from error
        return cls(pictures, digest)


def _picture(name: str, value: Any) -> MappedPicture:
    picture = MappedPicture(**value)
    texts = (picture.path, picture.sha256, picture.caption_source)
    sides = (picture.width, picture.height)
    if not (
        ID_PATTERN.fullmatch(name)
        and all(isinstance(text, str) for text in texts)
        and _DIGEST.fullmatch(picture.sha256)
        and all(isinstance(side, int) and side > 0 for side in sides)
    ):
        raise ValueError(f"picture {name!r:.40}")
    return picture
