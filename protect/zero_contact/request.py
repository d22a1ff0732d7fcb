"""The request for noise, which leaves the owner's machine, and its private half, which never does.

``request.jsonl`` is the one file that leaves: opaque ids and text, nothing else, one JSON object a line, sorted by id,
so that not even the order of the files shows. A server reads it from strangers, so reading is strict and bounded. The
map says which id is which picture.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ...errors import RequestError
from ...records.config import MAX_PIXELS
from ...records.places import open_regular
from ...records.text import parse_json, read_json

ID_PATTERN: Final = re.compile(r"[0-9a-f]{16}")
_KEYS: Final = {"id", "prompt", "class_id", "z_seed", "w", "h"}
_LARGEST_CLASS: Final = 2**31 - 1
_LARGEST_SEED: Final = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """How much a reader takes: lines, bytes of the file, characters of one prompt, pixels of one picture."""

    lines: int = 1_000_000
    bytes: int = 256 * 2**20
    prompt: int = 1000
    pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class RequestRow:
    """What is asked for one picture.

    Attributes:
        id: 16 hexadecimal digits that tell nothing without the owner's secret.
        prompt: what the picture shows, one line.
        class_id: number of its class, where it has one.
        z_seed: seed that its owner chose, 0..2**63 - 1; the generator's side draws one if left out.
        size: width and height in px, only where the noise is to be made to measure.
    """

    id: str
    prompt: str
    class_id: int | None = None
    z_seed: int | None = None
    size: tuple[int, int] | None = None

    def to_line(self) -> str:
        """One line of JSON, without its newline."""
        data: dict[str, Any] = {"id": self.id, "prompt": self.prompt}
        if self.class_id is not None:
            data["class_id"] = self.class_id
        if self.z_seed is not None:
            data["z_seed"] = self.z_seed
        if self.size is not None:
            data["w"], data["h"] = self.size
        return json.dumps(data, ensure_ascii=False)


@dataclass(frozen=True)
class NoiseRequest:
    """All rows of a request, sorted by id.

    Raises:
        RequestError: no row, or an id twice.
    """

    rows: tuple[RequestRow, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise RequestError("The request is empty: it asks for no noise.")
        object.__setattr__(self, "rows", tuple(sorted(self.rows, key=lambda row: row.id)))
        twice = [name for name, count in Counter(row.id for row in self.rows).items() if count > 1]
        if twice:
            raise RequestError(f"The id {twice[0]} stands in the request twice. Every picture needs an id of its own.")

    @property
    def sized(self) -> bool:
        """Whether every row says the size of its picture."""
        return all(row.size is not None for row in self.rows)

    @property
    def prompts_sha256(self) -> str:
        """Digest over ids and prompts, by which a bundle is known to be made for them."""
        pairs = [[row.id, row.prompt] for row in self.rows]
        return hashlib.sha256(json.dumps(pairs, separators=(",", ":")).encode("ascii")).hexdigest()

    def to_bytes(self) -> bytes:
        """The file as it leaves the machine: UTF-8."""
        return "".join(f"{row.to_line()}\n" for row in self.rows).encode("utf-8")

    @classmethod
    def from_bytes(cls, data: bytes, *, limits: RequestLimits | None = None, name: str = "request") -> NoiseRequest:
        """Read a request from strangers.

        Args:
            data: the file.
            limits: how much is taken.
            name: what messages call it.

        Raises:
            RequestError: says the line and what is wrong there.
        """
        limits = limits or RequestLimits()
        if len(data) > limits.bytes:
            raise RequestError(f"{name} is larger than {limits.bytes / 2**20:g} MiB. Split it into several requests.")
        rows: list[RequestRow] = []
        seen: set[str] = set()
        for number, line in enumerate(data.split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                row = _row(line, limits)
                if row.id in seen:
                    raise ValueError(f"the id {row.id} was there before")
            except ValueError as error:
                raise RequestError(f"{name}, line {number}: {error}.") from error
            seen.add(row.id)
            rows.append(row)
            if len(rows) > limits.lines:
                raise RequestError(f"{name} has more than {limits.lines} lines. Split it into several requests.")
        if not rows:
            raise RequestError(f"{name} is empty: it asks for no noise.")
        return cls(tuple(rows))

    @classmethod
    def read(cls, path: Path, *, limits: RequestLimits | None = None) -> NoiseRequest:
        """Read ``request.jsonl``; see :meth:`from_bytes`."""
        limits = limits or RequestLimits()
        try:
            with open_regular(Path(path)) as file:
                data = file.read(limits.bytes + 1)
        except FileNotFoundError:
            raise RequestError(f"There is no request {path}. `bitterant t2ue captions PHOTOS` writes one.") from None
        except OSError as error:
            raise RequestError(f"The request {path} cannot be read: {error.strerror or error}.") from error
        return cls.from_bytes(data, limits=limits, name=str(path))


def _row(line: bytes, limits: RequestLimits) -> RequestRow:
    data = parse_json(line)
    if not isinstance(data, Mapping):
        raise ValueError("it is no JSON object")
    if unknown := sorted(data.keys() - _KEYS):
        raise ValueError(f"unknown field {unknown[0]!r:.60}; a request holds {', '.join(sorted(_KEYS))} only")
    name, prompt = data.get("id"), data.get("prompt")
    if not isinstance(name, str) or not ID_PATTERN.fullmatch(name):
        raise ValueError("id is not 16 hexadecimal digits in lower case")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError("prompt is missing or empty")
    if len(prompt) > limits.prompt:
        raise ValueError(f"the prompt has {len(prompt)} characters; {limits.prompt} are taken")
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in prompt):
        raise ValueError("the prompt holds control characters")
    width, height = (_whole(data, key, 1, 2**24) for key in ("w", "h"))
    if (width is None) != (height is None):
        raise ValueError("w and h belong together")
    size = None if width is None or height is None else (width, height)
    if size is not None and size[0] * size[1] > limits.pixels:
        raise ValueError(f"a picture of {size[0]} x {size[1]} pixels is larger than is taken")
    return RequestRow(
        name, prompt, _whole(data, "class_id", 0, _LARGEST_CLASS), _whole(data, "z_seed", 0, _LARGEST_SEED), size
    )


def _whole(data: Mapping[str, Any], key: str, low: int, high: int) -> int | None:
    value = data.get(key)
    if key not in data:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{key} is not a whole number in {low}..{high}")
    return value


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
