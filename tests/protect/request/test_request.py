"""Bad requests: each is refused before any work, with what was wrong, where, and what to do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bitterant.errors import (
    BankError,
    BitterantError,
    ConfigError,
    FolderError,
    LabelError,
    OutputError,
    SetupError,
    UnknownNameError,
)
from bitterant.protect.folder import apply_folder, fit_folder, protect_folder
from bitterant.protect.methods import create_method
from bitterant.protect.request import FitConfig, check_fit, check_source
from bitterant.protect.request.checks import choose_method
from bitterant.records.config import Problems

NOISE: dict[str, Any] = {"method": "noise", "device": "cpu", "resolution": 16}


def noise(**options: Any) -> dict[str, Any]:
    """The cheap method, with some options changed."""
    return {**NOISE, **options}


def refuse(kind: type[BitterantError], code: int, *words: str, **call: Any) -> None:
    with pytest.raises(kind) as caught:
        protect_folder(**call)
    assert caught.value.exit_code == code
    for word in words:
        assert word in str(caught.value)


def test_a_missing_source(kit: Any) -> None:
    refuse(FolderError, 2, "no folder", "nowhere", source=kit.root / "nowhere", output=kit.root / "out", **NOISE)
    assert not (kit.root / "out").exists()


def test_a_source_that_is_a_file(kit: Any) -> None:
    (kit.root / "file").write_text("x")
    refuse(FolderError, 2, "is a file", source=kit.root / "file", output=kit.root / "out", **NOISE)


def test_an_empty_source(kit: Any) -> None:
    (kit.root / "src").mkdir()
    refuse(FolderError, 2, "no picture", "one folder for each", source=kit.root / "src", output=kit.root / "out")
    (kit.root / "src/notes.pdf").write_text("x")
    refuse(FolderError, 2, "It holds 1 other file.", source=kit.root / "src", output=kit.root / "out", **NOISE)


@pytest.mark.parametrize("place", ["src", "src/out", "."])
def test_an_output_that_overlaps_the_source(kit: Any, place: str) -> None:
    source = kit.folder()
    before = kit.tree(kit.root)
    refuse(FolderError, 2, "Originals are never touched", source=source, output=kit.root / place, **NOISE)
    assert kit.tree(kit.root) == before


def test_an_output_that_cannot_be_written(kit: Any) -> None:
    (kit.root / "file").write_text("x")
    refuse(OutputError, 3, "cannot be written", source=kit.folder(), output=kit.root / "file/out", **NOISE)


@pytest.mark.parametrize("epsilon", [0.0, 300 / 255, -1 / 255, float("nan"), 0.5 / 255, 1e9])
def test_an_epsilon_out_of_range(kit: Any, epsilon: float) -> None:
    refuse(
        ConfigError, 2, "outside 1..255", "8/255", source=kit.folder(), output=kit.root / "o", epsilon=epsilon, **NOISE
    )


def test_unknown_names_come_with_the_nearest(kit: Any) -> None:
    source, output = kit.folder(), kit.root / "out"
    refuse(UnknownNameError, 2, "method", "Did you mean 'noise'?", source=source, output=output, method="nois")
    refuse(UnknownNameError, 2, "surrogate", "'resnet18'", source=source, output=output, surrogate="resnet-18")
    refuse(UnknownNameError, 2, "'lossless'", source=source, output=output, format="losless", **NOISE)
    refuse(UnknownNameError, 2, "private", source=source, output=output, metadata="none", **NOISE)
    refuse(UnknownNameError, 2, "sample", source=source, output=output, granularity="pixel", **NOISE)
    refuse(ConfigError, 2, "per sample or per class", source=source, output=output, granularity="cluster", **NOISE)
    refuse(ConfigError, 2, "not a device", source=source, output=output, method="noise", device="toaster")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"resolution": 8}, "16..1024"),
        ({"resolution": 5000}, "16..1024"),
        ({"seed": -1}, "seed"),
        ({"workers": 0}, "workers"),
        ({"max_pixels": 0}, "max_pixels"),
        ({"weights": "/nowhere/w.safetensors"}, "no weights file"),
    ],
)
def test_values_out_of_range(kit: Any, options: dict[str, Any], word: str) -> None:
    refuse(ConfigError, 2, word, source=kit.folder(), output=kit.root / "out", **noise(**options))


def test_a_seed_beside_a_method_that_has_another(kit: Any) -> None:
    output = kit.root / "out"
    for seed in (0, 4):
        method = create_method("noise", seed=seed, device="cpu")
        refuse(ConfigError, 2, f"has the seed {seed}", source=kit.folder(), output=output, method=method, seed=5)


def test_everything_that_is_wrong_is_said_at_once(kit: Any) -> None:
    words = ("5 things are wrong", "no folder", "300 levels", "There is no method", "16..1024", "There is no format")
    options: dict[str, Any] = {"method": "nois", "epsilon": 300 / 255, "resolution": 1, "format": "gif"}
    refuse(ConfigError, 2, *words, source=kit.root / "nowhere", output=kit.root / "out", device="cpu", **options)


def test_problems_of_the_machine_alone_keep_exit_code_3() -> None:
    problems = Problems()
    problems.add(OutputError("disk"))
    problems.add(SetupError("weights"))
    with pytest.raises(SetupError) as caught:
        problems.raise_all()
    assert caught.value.exit_code == 3
    problems.add(ConfigError("epsilon"))
    with pytest.raises(ConfigError):
        problems.raise_all()


@pytest.mark.parametrize("method", ["auto", "emn"])
def test_a_flat_folder_says_what_to_do(kit: Any, method: str) -> None:
    kit.draw(kit.root / "flat/a.png", 1)
    words = ("at least 2",) if method == "auto" else ("one folder for each class", "flat/cats", "--method uc")
    kind = FolderError if method == "auto" else LabelError
    refuse(kind, 2, *words, source=kit.root / "flat", output=kit.root / "out", method=method, device="cpu")
    assert not (kit.root / "out").exists()


@pytest.mark.parametrize(
    "name", ["clip:ViT-B-32/laion400m_e31", "resnet50/IMAGENET1K_V2", "small-cnn+resnet18/IMAGENET1K_V1"]
)
def test_weights_that_are_not_there_are_missed_before_any_work(
    kit: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name.startswith("clip:"):
        pytest.importorskip("open_clip", reason="open_clip is not installed: pip install 'bitterant[clip]'")
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    source, output = kit.folder(), kit.root / "out"
    refuse(SetupError, 3, "not on this machine", "--allow-download", source=source, output=output, surrogate=name)
    assert not output.exists()


def test_one_class_only(kit: Any, labelled: Any) -> None:
    source = kit.folder(classes=1)
    refuse(LabelError, 2, "only one class", "class0", source=source, output=kit.root / "out", method=labelled())
    assert protect_folder(source, kit.root / "out", **NOISE).counts["protected"] == 3


def test_a_class_of_one_picture_where_the_method_needs_two(kit: Any) -> None:
    source = kit.folder()
    kit.draw(source / "lonely/one.png", 7)
    words = ("at least 2 pictures of every class", "1 of 3", "lonely")
    refuse(LabelError, 2, *words, source=source, output=kit.root / "out", method="beo", device="cpu")
    assert not (kit.root / "out").exists()


@pytest.mark.parametrize("method", ["uc", "emn", "beo"])
@pytest.mark.parametrize("size", [16, 40])
def test_weights_of_another_architecture_are_refused_before_any_work(
    kit: Any, tmp_path: Path, method: str, size: int
) -> None:
    from safetensors.torch import save_file

    from bitterant.surrogates import create_surrogate

    net = create_surrogate("small-cnn", num_classes=2, resolution=32, seed=0).net
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, tmp_path / "other.safetensors")
    options: dict[str, Any] = {"method": method, "surrogate": "resnet18", "weights": tmp_path / "other.safetensors"}
    source = kit.root / "some"
    for number in range(8):
        path = source / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (size, size), (number * 20, 9, 9)).save(path)
    refuse(SetupError, 3, "does not fit", source=source, output=kit.root / "out", device="cpu", **options)
    assert not (kit.root / "out").exists()


def test_only_one_class_can_be_read(kit: Any, labelled: Any) -> None:
    source = kit.folder(classes=1)
    (source / "class1").mkdir()
    (source / "class1/bad.png").write_bytes(b"junk")
    refuse(LabelError, 2, "Only the class class0", source=source, output=kit.root / "out", method=labelled())
    assert not (kit.root / "out").exists()


def test_no_picture_can_be_read(kit: Any) -> None:
    (kit.root / "src/a").mkdir(parents=True)
    (kit.root / "src/a/bad.png").write_bytes(b"")
    refuse(FolderError, 2, "None of the 1", "0 bytes", source=kit.root / "src", output=kit.root / "out", **NOISE)
    assert not (kit.root / "out").exists(), "a folder made for nothing is taken away again"


def test_a_class_with_a_single_picture_works_with_a_warning(kit: Any, labelled: Any) -> None:
    source = kit.folder()
    kit.draw(source / "lonely/one.png", 7)
    summary = protect_folder(source, kit.root / "out", method=labelled(device="cpu"))
    assert (summary.exit_code, summary.counts["protected"]) == (0, 7)
    assert any("single picture (lonely)" in text for text in summary.warnings)


def test_protecting_the_protected_gets_a_warning(kit: Any) -> None:
    protect_folder(kit.folder(), kit.root / "once", **NOISE)
    summary = protect_folder(kit.root / "once", kit.root / "twice", **NOISE)
    (text,) = [text for text in summary.warnings if "itself the output of bitterant" in text]
    assert text.startswith("once is ")
    for name in ("bitterant-run.json", "bitterant-report.html", "bitterant-manifest.jsonl"):
        published = (kit.root / "twice" / name).read_text()
        assert str(kit.root) not in published, "published files say nothing of the owner's disk"


@pytest.mark.parametrize("place", ["out/my.bank", "out/deep/my.bank", "src/my.bank", "out"])
def test_a_bank_may_not_lie_where_it_gets_published(kit: Any, place: str) -> None:
    refuse(FolderError, 2, "bank", source=kit.folder(), output=kit.root / "out", bank=kit.root / place, **NOISE)


def test_a_missing_or_damaged_or_useless_bank(kit: Any) -> None:
    source, output, bank = kit.folder(), kit.root / "out", kit.root / "my.bank"
    with pytest.raises(BankError, match="no bank file"):
        apply_folder(source, output, bank=bank)
    bank.write_bytes(b"junk")
    with pytest.raises(BankError):
        apply_folder(source, output, bank=bank)
    other = kit.root / "other"
    kit.draw(other / "elsewhere/x.png", 5)
    fit_folder(other, kit.root / "fit.bank", **NOISE)
    with pytest.raises(BankError, match="no perturbation for any of the 6"):
        apply_folder(source, output, bank=kit.root / "fit.bank")
    assert not output.exists()


def test_fit_does_not_replace_a_file(kit: Any) -> None:
    bank = kit.root / "my.bank"
    bank.write_bytes(b"the user's own")
    with pytest.raises(ConfigError, match="exists already"):
        fit_folder(kit.folder(), bank, **NOISE)
    assert bank.read_bytes() == b"the user's own"


def test_a_dry_run_with_a_bad_request_is_refused_too(kit: Any) -> None:
    with pytest.raises(FolderError):
        protect_folder(Path(kit.root / "nowhere"), kit.root / "out", dry_run=True, **NOISE)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_class_name_that_is_no_text(kit: Any) -> None:
    source = kit.folder()
    kit.draw(source / os.fsdecode(b"cl\xff") / "x.png", 1)
    refuse(FolderError, 2, "not valid text", source=source, output=kit.root / "out", **NOISE)


def test_a_surrogate_for_a_method_without_one(kit: Any) -> None:
    source, output = kit.folder(), kit.root / "out"
    options = noise(surrogate="resnet18")
    refuse(ConfigError, 2, "noise uses no surrogate", "resnet18", source=source, output=output, **options)
    with pytest.raises(ConfigError, match="noise uses no surrogate"):
        fit_folder(source, kit.root / "my.bank", **options)


def test_a_place_of_a_bank_that_cannot_be_written_is_said_once(kit: Any) -> None:
    (kit.root / "file").write_text("x")
    with pytest.raises(OutputError) as caught:
        fit_folder(kit.folder(), kit.root / "file/below/my.bank", **NOISE)
    assert str(caught.value).count("cannot be written") == 1
    assert "folder of the bank" in str(caught.value)
    assert "output folder" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({}, "texture"),
        ({"surrogate": "small-cnn"}, "emn"),
        ({"granularity": "class"}, "emn"),
        ({"preset": "paper"}, "emn"),
        ({"method": "emn", "preset": "fast"}, "emn"),
        ({"resolution": 16}, "emn"),
    ],
)
def test_auto_takes_what_was_asked_for_into_account(kit: Any, options: dict[str, Any], chosen: str) -> None:
    """Textures have no network, no pattern a class and no working resolution: who names one wants crafted noise."""
    problems = Problems()
    scan = check_source(kit.folder(), problems)
    request = check_fit(scan, FitConfig(device="cpu", **options), problems)
    problems.raise_all()
    assert request is not None
    assert request.method.name == chosen


def test_auto_makes_clusters_where_there_are_no_classes(kit: Any) -> None:
    kit.draw(kit.root / "flat/0.png", 0)
    assert choose_method("auto", check_source(kit.root / "flat", Problems())) == "uc"
