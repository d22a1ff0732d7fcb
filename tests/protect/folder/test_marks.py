"""``--mark no-ai``: the copies say that nobody may train on them, and keep all else they said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitterant.errors import ConfigError
from bitterant.imaging import decode
from bitterant.imaging.metadata import has_mark
from bitterant.imaging.xmp import forbids_training
from bitterant.protect.folder import apply_folder, protect_folder

NOISE: dict[str, Any] = {"method": "noise", "device": "cpu", "resolution": 16, "workers": 1}


@pytest.fixture
def source(kit: Any) -> Path:
    """One picture of every format that is written, each with EXIF where the format has it."""
    exif = Image.Exif()
    exif[0x013B] = "Anna"
    for name in ("a.png", "a.webp", "a.tif", "a.jpg", "a.bmp", "a.ppm"):
        options = {} if name.endswith(("bmp", "ppm")) else {"exif": exif}
        kit.draw(kit.root / "src" / name, 1, (40, 40), **options)
    return kit.root / "src"


@pytest.mark.parametrize("policy", ["lossless", "webp", "same"])
@pytest.mark.parametrize("metadata", ["keep", "private", "strip"])
def test_every_copy_that_can_bears_the_mark(kit: Any, source: Path, policy: Any, metadata: Any) -> None:
    plain = protect_folder(source, kit.root / "plain", **NOISE, format=policy, metadata=metadata)
    summary = protect_folder(source, kit.root / "out", **NOISE, format=policy, metadata=metadata, mark="no-ai")
    assert not any("mark" in text for text in plain.warnings)
    (told,) = [text for text in summary.warnings if "bear no mark" in text]
    assert told.startswith("2 copies bear no mark, since BMP and PPM files hold none")
    for row in kit.rows(kit.root / "out"):
        copy, other = decode(kit.root / "out" / row["output"]), decode(kit.root / "plain" / row["output"])
        holds = row["format"] not in ("BMP", "PPM")
        assert has_mark(copy.metadata, "no-ai") is holds
        assert (row["reason"] is not None and "without the mark no-ai" in row["reason"]) is not holds
        assert not has_mark(other.metadata, "no-ai")
        assert np.array_equal(copy.pixels, other.pixels)
        assert copy.metadata.exif == other.metadata.exif
        assert forbids_training(copy.metadata.xmp) is holds


def test_a_jpeg_whose_packet_is_too_long_keeps_its_rights_and_the_mark(kit: Any) -> None:
    long = "x" * 70_000
    packet = (
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
        f'photoshop:Credit="Anna" dc:description="{long}"/></rdf:RDF>'
    )
    kit.draw(kit.root / "src/a.webp", 1, (40, 40), xmp=packet.encode())
    picture = decode(kit.root / "src/a.webp")
    from dataclasses import replace

    from bitterant.imaging import encode
    from bitterant.imaging.metadata import add_mark

    marked = replace(picture, metadata=add_mark(picture.metadata, "no-ai"))
    found = decode(encode(marked, format="JPEG")).metadata
    assert has_mark(found, "no-ai")
    assert found.xmp is not None
    assert b"Anna" in found.xmp
    assert long.encode() not in found.xmp


def test_apply_marks_too_and_another_mark_is_another_run(kit: Any, source: Path) -> None:
    protect_folder(source, kit.root / "first", **NOISE, bank=kit.root / "bank")
    apply_folder(source, kit.root / "out", bank=kit.root / "bank", mark="no-ai")
    assert has_mark(decode(kit.root / "out/a.png").metadata, "no-ai")
    with pytest.raises(ConfigError, match="mark was no-ai, is now not set"):
        apply_folder(source, kit.root / "out", bank=kit.root / "bank")


def test_an_unknown_mark_is_refused(kit: Any, source: Path) -> None:
    with pytest.raises(ConfigError, match="no-ai"):
        protect_folder(source, kit.root / "out", **NOISE, mark="no-robots")  # type: ignore[call-overload]
    assert not (kit.root / "out").exists()
