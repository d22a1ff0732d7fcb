"""Names of adversaries: new ones are added in a few lines, and several are applied in a row."""

from __future__ import annotations

import numpy as np
import pytest

from bitterant.attacks.adversaries import (
    Adversary,
    adversary_classes,
    create_adversaries,
    create_adversary,
    register_adversary,
    registry,
)
from bitterant.attacks.config import PRESETS
from bitterant.attacks.terms import Pixels
from bitterant.errors import ConfigError, SetupError, UnknownNameError

from .conftest import grating, photo


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)


def test_early_stop_is_free_and_reads_the_plain_trainings() -> None:
    adversary = create_adversary("early-stop")
    assert adversary.readout == "peak"
    assert {adversary.trained_by(arm) for arm in adversary.arms} == {"none"}


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'grayscale'"):
        create_adversary("greyscale")


def test_none_always_comes_first_and_repeats_are_dropped() -> None:
    names = [adversary.name for adversary in create_adversaries(["jpeg:10", "jpeg", "early-stop", "none"])]
    assert names == ["none", "jpeg:10", "early-stop"]


def test_presets_name_adversaries_that_exist_and_quick_stays_as_it_was() -> None:
    for preset in PRESETS.values():
        made = create_adversaries(preset.adversaries)
        assert len(made) == len(preset.adversaries) + 1, f"{preset.name} names one twice"
    added = {
        "bandstop:2-8",
        "destripe:0",
        "destripe:10",
        "resized-crop:0.25",
        "coin:2",
        "equalize",
        "compose:grayscale+jpeg:10",
        "lowpass:8",
    }
    assert added <= set(PRESETS["standard"].adversaries)
    assert not added & set(PRESETS["quick"].adversaries)
    assert set(PRESETS["standard"].adversaries) <= set(PRESETS["full"].adversaries)


def test_a_new_adversary_is_one_class(monkeypatch: pytest.MonkeyPatch, images: np.ndarray) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", adversary_classes())

    @register_adversary
    class Mirror(Adversary):
        prefix = "mirror"
        tier = "transforms"
        source = "a test"
        description = "left and right changed"

        def transform(self, images: Pixels) -> Pixels:
            return images[..., ::-1].copy()

    assert (create_adversary("mirror").transform(images) == images[..., ::-1]).all()
    assert register_adversary(Mirror) is Mirror
    with pytest.raises(ConfigError, match="already"):
        register_adversary(type("Other", (Mirror,), {}))
    with pytest.raises(ConfigError, match="colon"):
        register_adversary(type("Other", (Mirror,), {"prefix": "a:b"}))


def test_a_row_is_its_parts_one_after_the_other() -> None:
    images = photo(4)
    row = create_adversary("compose:grayscale+jpeg")
    assert row.name == "compose:grayscale+jpeg:10", "every parameter is spelled out"
    assert row.phrase == "a trainer who applies grayscale, then jpeg:10"
    gray, jpeg = create_adversary("grayscale"), create_adversary("jpeg:10")
    assert (row.transform(images) == jpeg.transform(gray.transform(images))).all()
    orders = [create_adversary(f"compose:{names}").transform(images) for names in ("blur+median", "median+blur")]
    assert (orders[0] != orders[1]).any(), "the order counts"
    three = create_adversary("compose:down-up:.5+bandstop+bit-depth")
    assert three.name == "compose:down-up:0.5+bandstop:2-8+bit-depth:2"
    assert create_adversary(three.name).name == three.name
    expected = images
    for name in ("down-up:0.5", "bandstop:2-8", "bit-depth:2"):
        expected = create_adversary(name).transform(expected)
    assert (three.transform(images) == expected).all()


def test_a_row_undoes_what_neither_part_does() -> None:
    """A slow wave of pure colour and a faster one of brightness: grayscale leaves the one, the band-stop the other."""
    colour, brightness = grating(1.5), grating(6)
    planted = np.stack([brightness + 0.5 * colour, brightness, brightness - 0.5 * 0.299 / 0.114 * colour])
    both = np.rint(128 + planted).astype(np.uint8)[None]
    spread = {
        name: float(np.abs(create_adversary(name).transform(both).astype(float) - 128).mean())
        for name in ("grayscale", "bandstop:4-9", "compose:grayscale+bandstop:4-9")
    }
    assert spread["compose:grayscale+bandstop:4-9"] < 0.3 * min(spread["grayscale"], spread["bandstop:4-9"])


def test_a_row_has_the_tier_of_its_hardest_part_and_checks_all() -> None:
    assert create_adversary("compose:grayscale+median").tier == "transforms"
    assert create_adversary("compose:grayscale+tv").tier == "training"
    assert create_adversary("compose:grayscale+median").check(32) is None
    with pytest.raises(SetupError, match="changes nothing"):
        create_adversary("compose:grayscale+lowpass:40").check(32)


def test_unknown_parts_are_told() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'grayscale'"):
        create_adversary("compose:greyscale+jpeg")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("compose", "at least two"),
        ("compose:", "at least two"),
        ("compose:jpeg:10", "at least two"),
        ("compose:jpeg+", "at least two"),
        ("compose:grayscale+compose:jpeg", "part of itself"),
        ("compose:grayscale+mixup", "mixup cannot be a part.*These do: jpeg, webp, grayscale"),
        ("compose:none+jpeg", "cannot be a part"),
        ("compose:early-stop+jpeg", "cannot be a part"),
        ("compose:grayscale+projection", "cannot be a part"),
        ("compose:grayscale+last-layer:0.1", "cannot be a part"),
        ("compose:grayscale+mix:0.5", "cannot be a part"),
        ("compose:grayscale+adversarial:8", "cannot be a part"),
        ("compose:grayscale+noise-denoise", "cannot be a part"),
        ("compose:grayscale+jpeg:0", "jpeg:0 is not"),
        ("bandstop:9-4", "A-B"), ("bandstop:4", "A-B"), ("bandstop:0-9", "A-B"), ("bandstop:x-9", "A-B"),
        ("bandstop:4-nan", "A-B"), ("bandstop:", "A-B"),
        ("lowpass:0", r"0\.5 to 512"), ("lowpass:x", r"0\.5 to 512"), ("lowpass:inf", r"0\.5 to 512"),
        ("coin:0", r"0\.25 to 8"), ("coin:9", r"0\.25 to 8"), ("equalize:2", "no parameter"),
        ("whiten:zca", "whiten:channels"), ("rotate:0", "1 to 180"), ("rotate:181", "1 to 180"),
        ("staged:1", "no parameter"), ("noise-denoise:0", "1 to 64"), ("noise-denoise:x", "1 to 64"),
        ("few-denoise:0", "share"), ("few-denoise:1.5", "share"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_told(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        create_adversary(name)
