"""Names of protected files: the original's, unless that would lose the protection or hide another file."""

from __future__ import annotations

import io
import itertools
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bitterant.errors import ConfigError
from bitterant.imaging import Entry, encoding, output_name, resolve_output_names, scan_folder
from bitterant.imaging.formats import format_of_file
from bitterant.records.config import FormatPolicy


def entries(*names: str) -> list[Entry]:
    """Entries without files: their format is read off the name."""
    return [Entry(name, Path("/nowhere") / name, None, None, 0) for name in names]


def names(*relatives: str, policy: FormatPolicy = "lossless") -> dict[str, str]:
    return {old: new for old, (new, _) in resolve_output_names(entries(*relatives), policy).items()}


def slow_names(relatives: list[str], beside: list[str]) -> dict[str, str]:
    """The rule with sets of whole names: files that stay go first, then the others by their names."""

    def fold(name: str) -> str:
        return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())

    wanted = {name: output_name(name, format_of_name(name), "lossless") for name in sorted(relatives)}
    claims = Counter(fold(name) for name, _ in wanted.values())
    folders = {str(parent) for name in [*wanted, *beside] for parent in PurePosixPath(name).parents}
    taken = {fold(name) for name in (*folders, *beside)}
    result = {}
    for relative, (name, encoder) in sorted(wanted.items(), key=lambda item: (item[0] != item[1][0], item[0])):
        if name != relative and (claims[fold(name)] > 1 or fold(name) in taken):
            name = f"{relative}.{encoder.lower()}"
        stem, dot, suffix = name.rpartition(".")
        tries = (name if number == 1 else f"{stem}-{number}{dot}{suffix}" for number in itertools.count(1))
        result[relative] = next(candidate for candidate in tries if fold(candidate) not in taken)
        taken.add(fold(result[relative]))
    return result


def format_of_name(name: str) -> str:
    return {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rpartition(".")[2].lower()]


_PART = st.sampled_from(["a", "A", "b", "a.jpg", "a.png", "b-2", "\u00e9", "e\u0301"])
_NAME = st.tuples(
    st.sampled_from(["", "a/", "A/", "a.png/"]), _PART, st.sampled_from([".jpg", ".png", ".JPG", ".webp"])
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_NAME.map("".join), unique=True, max_size=12), st.lists(_NAME.map("".join), unique=True, max_size=3))
def test_names_are_those_of_the_plain_rule(relatives: list[str], beside: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "format_of_file", lambda path: format_of_name(path.name))
        found = resolve_output_names(entries(*relatives), "lossless", beside=beside)
        assert {old: new for old, (new, _) in found.items()} == slow_names(relatives, beside)
        assert sorted(found.outputs()) == sorted(new for new, _ in found.values())


@pytest.mark.parametrize(
    ("relative", "on_disk", "policy", "wanted"),
    [
        ("a/photo.jpg", "JPEG", "lossless", ("a/photo.png", "PNG")),
        ("a.b/photo.v2.JPEG", "JPEG", "lossless", ("a.b/photo.v2.png", "PNG")),
        ("photo.jfif", "JPEG", "lossless", ("photo.png", "PNG")),
        ("photo.jpg", "JPEG", "same", ("photo.jpg", "JPEG")),
        ("photo.png", "JPEG", "lossless", ("photo.png", "PNG")),
        ("photo.webp", "JPEG", "lossless", ("photo.webp.png", "PNG")),
        ("photo.jpg", "PNG", "lossless", ("photo.jpg", "PNG")),
        ("a/p.webp", "WEBP", "lossless", ("a/p.webp", "WEBP")),
        ("p.TIF", "TIFF", "same", ("p.TIF", "TIFF")),
        ("p.bmp", "BMP", "lossless", ("p.bmp", "BMP")),
    ],
)
def test_only_a_jpeg_changes_its_name(relative, on_disk, policy, wanted):
    assert output_name(relative, on_disk, policy) == wanted


def test_unknown_policy_is_refused():
    with pytest.raises(ConfigError, match="lossless, webp, same"):
        output_name("a.png", "PNG", "best")  # pyright: ignore[reportArgumentType]


def test_collisions_keep_both_files():
    assert names("photo.jpg", "photo.png") == {"photo.jpg": "photo.jpg.png", "photo.png": "photo.png"}
    assert names("photo.jpg", "photo.jpeg") == {"photo.jpg": "photo.jpg.png", "photo.jpeg": "photo.jpeg.png"}
    assert names("a/p.jpg", "b/p.png") == {"a/p.jpg": "a/p.png", "b/p.png": "b/p.png"}


def test_collisions_on_a_disk_that_ignores_case_or_accents_are_resolved_too():
    assert names("photo.jpg", "PHOTO.PNG") == {"photo.jpg": "photo.jpg.png", "PHOTO.PNG": "PHOTO.PNG"}
    assert names("p.png", "P.png") == {"P.png": "P.png", "p.png": "p-2.png"}
    composed, decomposed = "\u00e9.png", "e\u0301.png"
    assert sorted(names(composed, decomposed).values()) == sorted([decomposed, "\u00e9-2.png"])


def test_a_renamed_file_never_takes_the_name_of_one_that_stays():
    found = names("p.jpg", "p.png", "p.jpg.png", "P.JPG.png")
    assert found["p.png"] == "p.png"
    assert found["p.jpg.png"] in ("p.jpg.png", "p.jpg-2.png")
    assert len({name.casefold() for name in found.values()}) == 4


def test_same_policy_renames_nothing():
    assert names("p.jpg", "p.png", policy="same") == {"p.jpg": "p.jpg", "p.png": "p.png"}


NAME = st.builds(
    lambda folder, stem, suffix: f"{folder}{stem}{suffix}",
    st.sampled_from(["", "a/", "A/", "b/c/"]),
    st.sampled_from(["p", "P", "é", "e\u0301", "p.jpg", "p-2", "ß", "ss"]),
    st.sampled_from([".jpg", ".JPG", ".jpeg", ".png", ".PNG", ".webp"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(NAME, unique=True, max_size=12), st.sampled_from(["lossless", "same"]), st.randoms())
def test_names_are_unique_and_do_not_depend_on_order(relatives, policy, random):
    found = names(*relatives, policy=policy)
    assert set(found) == set(relatives)
    folded = [name.casefold() for name in found.values()]
    assert len(set(folded)) == len(folded)
    shuffled = list(relatives)
    random.shuffle(shuffled)
    assert names(*shuffled, policy=policy) == found
    for old, new in found.items():
        assert new.rpartition("/")[0] == old.rpartition("/")[0]


def test_the_bytes_of_a_real_folder_decide(tmp_path):
    for name, format in (("a.jpg", "PNG"), ("b.jpg", "JPEG"), ("c.png", "JPEG")):
        buffer = io.BytesIO()
        Image.new("RGB", (2, 2)).save(buffer, format)
        (tmp_path / name).write_bytes(buffer.getvalue())
    (tmp_path / "d.webp").write_bytes(b"damaged")
    assert resolve_output_names(scan_folder(tmp_path).entries, "lossless") == {
        "a.jpg": ("a.jpg", "PNG"),
        "b.jpg": ("b.png", "PNG"),
        "c.png": ("c.png", "PNG"),
        "d.webp": ("d.webp", "WEBP"),
    }


def test_format_of_a_file_that_says_nothing_is_that_of_its_name(tmp_path):
    assert format_of_file(tmp_path / "gone.tif") == "TIFF"
    assert format_of_file(tmp_path / "gone.xyz") is None


def test_a_folder_of_that_name_is_a_collision_too():
    found = names("c0/photo.jpg", "c0/photo.png/x.png", "c0/photo.png/y.jpg")
    assert found["c0/photo.jpg"] == "c0/photo.jpg.png"
    assert found["c0/photo.png/y.jpg"] == "c0/photo.png/y.png"
    assert names("c0/p.jpg", "c0/P.PNG/x.png")["c0/p.jpg"] == "c0/p.jpg.png"
    assert names("p.jpg", "p.png/x.png", "p.jpg.png/x.png")["p.jpg"] == "p.jpg-2.png"


def test_folders_that_hold_only_captions_count():
    entry = entries("c0/photo.jpg")
    assert resolve_output_names(entry, "lossless", beside=["c0/photo.png/a.txt"]) == {
        "c0/photo.jpg": ("c0/photo.jpg.png", "PNG")
    }
    assert resolve_output_names(entry, "lossless", beside=["c0/photo.txt"])["c0/photo.jpg"][0] == "c0/photo.png"


@pytest.mark.parametrize("letter", ["x", "ä", "😀"])
def test_no_name_is_longer_than_a_disk_allows(letter):
    longest = 255 // len(letter.encode()) * len(letter.encode())
    stem = letter * ((longest - 8) // len(letter.encode()))
    jpeg, twin = f"a/{stem}.jpg", f"a/{stem}.png"  # the twin makes the JPEG want four bytes more
    many = [f"a/{stem[:-1]}{letter}{i}.jpeg" for i in range(3)]
    found = names(jpeg, twin, *many, *(name.replace(".jpeg", ".png") for name in many))
    assert len(set(found.values())) == len(found)
    for old, new in found.items():
        last = new.rpartition("/")[2]
        assert len(last.encode()) <= 255
        assert new.endswith(".png")
        assert new.rpartition("/")[0] == old.rpartition("/")[0]
    assert found[twin] == twin


def test_a_name_that_is_cut_says_from_which_it_came():
    one, two = f"{'x' * 251}.jpg", f"{'x' * 250}y.jpg"
    found = names(one, two, one.replace(".jpg", ".png"), two.replace(".jpg", ".png"))
    assert len(found[one]) == len(found[two]) == 255
    assert found[one] != found[two]
    assert found[one].startswith("x" * 200)
