"""The code book: enough codes, far enough apart, and the key decides who gets which."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest

from bitterant.errors import ConfigError
from bitterant.protect.methods.texture import assign_against_nature, natural_contents
from bitterant.protect.textures import Code, TextureRecipe, Wave, assign_codes, code_book
from bitterant.protect.textures.code_book import scale_for

SECRET = b"0123456789abcdef"


def step(one: Wave, two: Wave) -> float:
    """Distance of two waves: 1 for 9 degrees, or for a frequency that is a fourth higher."""
    return math.hypot(math.log(one.cycles / two.cycles) / math.log(1.25), (one.angle - two.angle) / 9)


def apart(one: Code, two: Code) -> float:
    """Distance of two codes: of the better pairing of their waves."""
    if len(one) == 1:
        return step(one[0], two[0])
    (a, b), (c, d) = one, two
    return min(math.hypot(step(a, c), step(b, d)), math.hypot(step(a, d), step(b, c)))


def rings_of(count: int) -> dict[float, list[float]]:
    """Directions by frequency."""
    found: dict[float, list[float]] = {}
    for (wave,) in code_book(count):
        found.setdefault(wave.cycles, []).append(wave.angle)
    return found


def test_ten_classes_have_five_periods_nearly_upright_and_nearly_level() -> None:
    assert rings_of(10) == {cycles: [10.0, 80.0] for cycles in (3.0, 3.75, 4.7, 5.8, 7.1)}
    assert rings_of(2) == {4.6: [10.0, 80.0]}
    assert rings_of(3) == {3.7: [10.0, 80.0], 5.7: [45.0]}
    assert rings_of(15)[3.0] == [10.0, 45.0, 80.0]
    assert rings_of(60)[4.2] == [4.5 + 9 * number for number in range(10)]


@pytest.mark.parametrize(
    ("count", "rings"), [(1, 1), (2, 1), (3, 2), (5, 3), (8, 4), (9, 5), (10, 5), (21, 5), (50, 5), (51, 6), (60, 6)]
)
def test_rings_are_opened_one_by_one_and_filled_evenly(count: int, rings: int) -> None:
    held = list(map(len, rings_of(count).values()))
    assert len(held) == rings
    assert max(held) - min(held) <= 1
    assert max(held) <= max(2, -(-count // 5))


def test_turning_by_thirty_degrees_leaves_up_to_ten_classes_apart() -> None:
    """Two waves of a ring, each turned by up to 30 degrees and mirrored, never run in the same direction."""
    for count in range(2, 11):
        for angles in rings_of(count).values():
            for one, two in combinations(angles, 2):  # each under both signs; 180 degrees are the same direction
                assert min(abs(one - two), one + two, 180 - one - two) >= 60


@pytest.mark.parametrize("count", range(2, 61))
def test_single_codes_keep_their_distance(count: int) -> None:
    book = code_book(count)
    assert all(len(code) == 1 and 4 <= code[0].angle <= 86 for code in book)
    assert min(apart(one, two) for one, two in combinations(book, 2)) > 0.9


def test_plaids_are_well_spread() -> None:
    book = code_book(1000)
    assert len(set(book)) == len({frozenset(code) for code in book}) == 1000
    assert all(step(*code) > 2.2 for code in book), "two waves of one code cross, they do not beat"
    assert min(apart(one, two) for one, two in combinations(book[:100], 2)) > 1.6
    assert min(apart(one, two) for one, two in combinations(book[:300], 2)) > 1.1
    # The beginning of a long book is the short one: what one class more costs is one code.
    assert code_book(61) == book[:61]


@pytest.mark.parametrize("count", [0, 1001, 5000])
def test_more_than_a_book_holds_is_refused_with_the_number(count: int) -> None:
    with pytest.raises(ConfigError, match=f"at most 1000 classes, and there are {count}"):
        code_book(count)


@pytest.mark.parametrize("side", [16, 32, 64, 224])
@pytest.mark.parametrize("count", [10, 40, 200])
def test_periods_of_a_resolution_are_long_enough(side: int, count: int) -> None:
    book, plain = code_book(count, for_resolution=side), code_book(count)
    assert max(wave.cycles for code in book for wave in code) <= side / 4.5 + 1e-9
    assert scale_for(plain, side) == pytest.approx(book[0][0].cycles / plain[0][0].cycles)
    for code, other in zip(book, plain, strict=True):
        assert [wave.angle for wave in code] == [wave.angle for wave in other]
    if side / 4.5 > 16:
        assert book == plain, "nothing is scaled up"


@pytest.mark.parametrize("side", [0, 15, -1])
def test_a_resolution_that_is_none(side: int) -> None:
    with pytest.raises(ConfigError, match="for_resolution"):
        code_book(10, for_resolution=side)


def test_names_and_key_decide_and_order_does_not() -> None:
    names = [f"class {number}" for number in range(12)]
    dealt = assign_codes(names, SECRET)
    assert assign_codes(names[::-1], SECRET) == dealt
    assert sorted(dealt.values()) == sorted(code_book(12))
    other = assign_codes(names, b"another key, as long")
    assert sorted(other.values()) == sorted(dealt.values())
    assert other != dealt


def test_codes_go_where_nature_has_least_of_them() -> None:
    rng = np.random.default_rng(0)
    found = rng.normal(size=(6, 6))
    dealt = assign_against_nature(found)
    best = min(permutations(range(6)), key=lambda order: sum(found[k, code] for k, code in enumerate(order)))
    assert tuple(dealt) == best
    # What a class has of all codes, or all classes of a code, says nothing.
    assert tuple(assign_against_nature(found + rng.normal(size=(6, 1)) + rng.normal(size=(1, 6)))) == best
    # The rounding of another machine changes nothing.
    assert tuple(assign_against_nature(found + 1e-9 * rng.normal(size=(6, 6)))) == best


def test_a_class_of_stripes_gets_another_code_than_theirs() -> None:
    v, u = np.meshgrid((np.arange(32) + 0.5) / 32, (np.arange(32) + 0.5) / 32, indexing="ij")
    names, book = ["across", "down"], code_book(2)
    pictures, labels = [], []
    for label, (wave,) in enumerate(book):
        turn = math.radians(wave.angle)
        for seed in range(4):
            noise = np.random.default_rng(seed).normal(0, 5, (32, 32))
            stripes = np.cos(2 * np.pi * wave.cycles * (u * math.cos(turn) + v * math.sin(turn)))
            pictures.append((120 + 10 * stripes + noise).astype(np.float32))
            labels.append(label)
    found = natural_contents(pictures, labels, book, 0.6)
    assert found[0, 0] > found[0, 1]
    assert found[1, 1] > found[1, 0]
    assert assign_codes(names, SECRET, order=assign_against_nature(found).tolist()) == {
        "across": book[1],
        "down": book[0],
    }


@pytest.mark.parametrize(
    "numbers",
    [
        *({"sigma": 1e308}, {"sigma": 1e-200}, {"carrier_level": 1e300}, {"spread": -0.1}, {"spread": 1e300}),
        *({"frequency_jitter": 1.0}, {"angle_jitter": 91.0}, {"soft_period": 1e300}, {"softness": 0.0}, {"side": 7}),
    ],
)
def test_numbers_that_nothing_can_be_reckoned_with(numbers: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(numbers))} .* is outside"):
        TextureRecipe(**numbers)  # type: ignore[arg-type]
