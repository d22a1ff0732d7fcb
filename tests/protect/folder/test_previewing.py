"""What a preview shows: a run's own noise where it can be had at once, a stand-in that says so where not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bitterant.errors import FolderError, UnknownNameError
from bitterant.imaging import decode, sha256_file
from bitterant.protect import Preview, create_method


def folder(root: Path, *names: str, side: int = 40) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(60, 190, (side, side + 8, 3), dtype=np.uint8)).save(root / name)
    return root


def test_the_noise_of_class_folders_is_that_of_the_method(tmp_path: Path) -> None:
    root = folder(tmp_path / "src", "cats/a.png", "cats/b.png", "dogs/c.png")
    preview = Preview(root)
    assert (preview.method, preview.real) == ("texture", True)
    assert "texture" in preview.about
    assert {name: budget.whole_levels for name, budget in preview.budgets.items()} == {
        "subtle": 8, "balanced": 12, "strong": 16,
    }  # fmt: skip
    shown = list(preview.pictures(["cats/b.png", "dogs/c.png"]))
    assert [picture.relative for picture in shown] == ["cats/b.png", "dogs/c.png"]
    for picture in shown:
        path = root / picture.relative
        assert (picture.before.pixels == decode(path).pixels).all()
        for name, budget in preview.budgets.items():
            bank = create_method("texture", budget=budget).fit_classes(["cats", "dogs"])
            by_hand = bank.apply(picture.before.pixels, f"{path.parent.name}/{sha256_file(path)}")
            assert (picture.after[name].pixels == by_hand).all()
            change = picture.after[name].pixels.astype(int) - picture.before.pixels
            assert 0 < abs(change).max() <= budget.whole_levels
            assert (change == change[..., :1]).all()  # brightness alone, as random noise is not


@pytest.mark.parametrize("names", [("a.png", "b.png"), ("a.png",), ("cats/a.png", "cats/b.png")])
def test_a_stand_in_says_that_it_is_one(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Flat folders, whose method takes a whole run; and what a run would refuse: how noise looks can be seen."""
    preview = Preview(folder(tmp_path / "src", *names), ["subtle"], method="emn" if len(names) == 2 else "auto")
    assert not preview.real
    assert "random noise" in preview.about
    shown = list(preview.pictures(preview.spread(9)))
    assert len(shown) == len(names)
    for picture in shown:
        change = picture.after["subtle"].pixels.astype(int) - picture.before.pixels
        assert abs(change).max() == 4
        assert not (change == change[..., :1]).all()


def test_pictures_are_spread_over_the_folder(tmp_path: Path) -> None:
    root = folder(tmp_path / "src", *(f"cats/{i}.png" for i in range(8)), "dogs/x.png", side=4)
    preview = Preview(root)
    assert preview.spread(3) == ["cats/1.png", "cats/4.png", "cats/7.png"]
    assert len(preview.spread(100)) == 9


def test_what_cannot_be_shown_is_told(tmp_path: Path) -> None:
    root = folder(tmp_path / "src", "cats/a.png", "dogs/b.png")
    (root / "cats/broken.png").write_bytes(b"no picture")
    Image.new("RGB", (2, 2)).save(root / "dogs/tiny.png")
    preview = Preview(root)
    shown = [picture.relative for picture in preview.pictures(preview.spread(9))]
    assert shown == ["cats/a.png", "dogs/b.png"]
    assert {problem.relative for problem in preview.problems} == {"cats/broken.png", "dogs/tiny.png"}
    with pytest.raises(FolderError, match="can be read"):
        list(preview.pictures(["cats/broken.png"]))
    with pytest.raises(FolderError, match=r"no picture cats/none\.png"):
        list(preview.pictures(["cats/none.png"]))
    with pytest.raises(FolderError, match="no picture in"):
        Preview(empty(tmp_path))
    with pytest.raises(UnknownNameError):
        Preview(root, method="emm")
    with pytest.raises(UnknownNameError, match="balanced"):
        Preview(root, ["weak"])  # type: ignore[list-item]


def empty(tmp_path: Path) -> Path:
    place = tmp_path / "empty"
    place.mkdir()
    return place
