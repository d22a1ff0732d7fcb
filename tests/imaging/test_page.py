"""The frame of the HTML pages."""

from __future__ import annotations

import base64
import importlib
import io
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from bitterant.errors import ConfigError
from bitterant.imaging import difference_tile, png_data_uri, render_page, thumbnail

RNG = np.random.default_rng(0)
VOID = {"meta", "link", "img", "br", "hr", "input"}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with templates of its own, as the run report and the verification report have."""
    folder = tmp_path / "bitterant_page_test"
    (folder / "templates").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "templates" / "own.html.j2").write_text(
        '{% extends "page.html.j2" %}{% block title %}Run of {{ name }}{% endblock %}'
        "{% block lede %}<p>{{ lede }}</p>{% endblock %}"
        '{% block content %}<h2>Tiles</h2><img src="{{ tile }}" alt="x">{% endblock %}'
        "{% block footer %}<p>foot</p>{% endblock %}"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield "bitterant_page_test"
    sys.modules.pop("bitterant_page_test", None)


def render(package: str, **changes) -> str:
    tile = png_data_uri(np.zeros((2, 2, 3), np.uint8))
    return render_page(package, "own.html.j2", **{"name": "cats", "lede": "all well", "tile": tile, **changes})


def test_a_page_fills_the_frame(package):
    page = render(package)
    assert page.startswith("<!DOCTYPE html>")
    assert "<title>Run of cats</title>" in page
    assert "<h1>Run of cats</h1>" in page
    assert "<p>all well</p>" in page
    assert "<p>foot</p>" in page


def test_every_tag_is_closed(package):
    class Checker(HTMLParser):
        open: list[str]

        def handle_starttag(self, tag, attrs):
            if tag not in VOID:
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    checker = Checker()
    checker.open = []
    checker.feed(render(package))
    assert checker.open == []


def test_names_are_escaped(package):
    page = render(package, name="<script>alert('x')</script>", lede="a & b")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "a &amp; b" in page


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(package):
    page = render(package)
    assert "default-src 'none'" in page
    assert not re.search(r"<script|<link|@import|https?:|url\(|\bon\w+=", page)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))


def test_light_dark_narrow_and_paper_are_thought_of(package):
    page = render(package)
    for feature in ("prefers-color-scheme: dark", "@media print", "max-width", 'name="viewport"', 'lang="en"'):
        assert feature in page
    for colour in ("--clean", "--protected", "--noise", "--ok", "--bad", "--warn"):
        assert len(re.findall(rf"{colour}:", page)) == 3  # light, dark, paper


def test_a_missing_value_is_an_error_not_a_gap(package):
    template = Path(importlib.import_module(package).__path__[0]) / "templates" / "own.html.j2"
    template.write_text(template.read_text() + "{% block kicker %}{{ nothing }}{% endblock %}")
    with pytest.raises(UndefinedError, match="nothing"):
        render(package)


def test_names_that_are_no_text_do_not_break_the_file(package):
    page = render(package, name="bad\udcff.png")
    assert "bad\\udcff.png" in page
    assert page.encode("utf-8")


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7), (1, 1, 3)])
def test_data_uris_hold_the_exact_pixels(shape):
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    head, _, data = png_data_uri(pixels).partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 2, 3), np.float32), np.zeros((2, 2, 4), np.uint8), np.zeros(3, np.uint8)]
)
def test_other_pictures_on_a_page_are_refused(pixels):
    with pytest.raises(ConfigError, match="uint8"):
        png_data_uri(pixels)


def test_a_difference_is_grey_where_nothing_changed_and_clipped_where_much_did():
    before = np.array([[100, 100, 100, 0, 255]], np.uint8)
    after = np.array([[100, 103, 97, 255, 0]], np.uint8)
    assert difference_tile(before, after).tolist() == [[128, 158, 98, 255, 0]]
    assert difference_tile(before, after, gain=1).tolist() == [[128, 131, 125, 255, 0]]


@pytest.mark.parametrize(
    ("size", "side", "wanted"), [((100, 50), 20, (20, 10)), ((3, 900), 90, (1, 90)), ((8, 8), 20, (8, 8))]
)
def test_thumbnails_keep_proportions_and_never_grow(size, side, wanted):
    for shape in (size, (*size, 3)):
        small = thumbnail(RNG.integers(0, 256, shape, dtype=np.uint8), side)
        assert small.shape[:2] == wanted
        assert small.ndim == len(shape)
        assert small.dtype == np.uint8
