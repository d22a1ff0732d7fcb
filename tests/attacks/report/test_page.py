"""What the page says, that it escapes what it was given, and that it loads nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from bitterant.attacks.facts import PairIssue
from bitterant.attacks.report import render_report
from bitterant.attacks.report.measures import choose_tiles
from bitterant.attacks.schema import Estimate, Protection

VOID = {"meta", "img", "br", "input"}


class Page(HTMLParser):
    """Collects what a page would load, its targets, its text, and what is open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.seen.append((tag, values))
        self.ids += [values["id"] or ""] if "id" in values else []
        for name, value in attrs:
            if tag == "a" and name == "href":
                self.links.append(value or "")
            elif name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
                self.loads.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def page_of(made: Any) -> tuple[str, Page]:
    html = render_report(made.report, files=made.data.files, tiles=choose_tiles(made.data, seed=0), powers=made.powers)
    return html, Page(html)


@pytest.fixture(scope="module")
def shown(made: Any) -> tuple[str, Page]:
    return page_of(made)


def test_the_page_loads_nothing_and_is_well_formed(shown: tuple[str, Page]) -> None:
    html, page = shown
    assert page.open == []
    assert not {tag for tag, _ in page.seen} & {"script", "iframe", "link", "object", "form"}
    assert len(page.loads) > 12
    assert all(value.startswith("data:image/png;base64,") for value in page.loads)
    assert all(value[0] == "#" and value[1:] in page.ids for value in page.links)
    assert len(set(page.ids)) == len(page.ids)
    # XML namespaces would be the only excuse for an address; inline SVG needs none.
    assert not re.search(r"https?://|@import|url\(|\son\w+=", html)


def test_a_photographer_reads_the_top_and_a_reviewer_the_bottom(made: Any, shown: tuple[str, Page]) -> None:
    html, page = shown
    parts = (
        "verdict", "view-first", "advice", "tiers", "owners", "trainers", "curves", "mixing", "confusion", "classes",
        "visible", "pictures", "separability", "spectrum", "gates", "limits", "method",
    )  # fmt: skip
    assert [name for name in page.ids if name in parts] == list(parts)
    assert html.index('class="verdict') < html.index('id="tiers"')
    for words in (made.report.verdict.headline, made.report.plan_hash, made.report.command, "One caveat."):
        assert words in page.text
    for words in ("no protection", "not tested", "It is no guarantee", "LPIPS was not measured: it was not asked for"):
        assert words in page.text


def test_every_picture_and_drawing_says_what_it_shows(shown: tuple[str, Page]) -> None:
    for tag, values in shown[1].seen:
        if tag == "img":
            assert values.get("alt")
        if tag == "svg" and "aria-hidden" not in values and "overflow" not in values:
            assert values.get("role") == "img"
            assert values.get("aria-label")
        if tag == "th":
            assert values.get("scope") in ("col", "row")


def test_trainers_are_sorted_by_what_they_get(made: Any, shown: tuple[str, Page]) -> None:
    text = shown[1].text
    text = text[text.index("Accuracy by adversary Sorted") :]
    names = {c.adversary: c.rho.estimate for c in made.report.conditions if c.status == "ok" and c.rho is not None}
    assert len(names) > 3
    places = [text.index(f"{name} · ") for name in sorted(names, key=lambda name: -names[name])]
    assert places == sorted(places)
    assert "compresses them to JPEG quality 10 first" in text


def test_worst_cases_stand_near_the_top_by_what_the_trainer_owns(report_maker: Callable[..., Any]) -> None:
    made = report_maker(
        ["jpeg:10", "webp:30", "fast-adversarial:8", "mix:0.5"],
        protected={"jpeg:10": 0.8, "webp:30": 0.5, "fast-adversarial:8": 0.6, "none": 0.3, "mix:0.5": 0.7},
    )
    text = page_of(made)[1].text
    text = text[text.index("Worst case by class of trainer The most") :]
    text = text[: text.index("Accuracy by adversary")]
    w1 = next(found for found in made.report.trainers if found.trainer == "W1")
    assert (w1.seen.id, w1.held_out.id) == ("small-cnn/jpeg:10", "small-cnn/webp:30")
    for case, words in ((w1.seen, "seen in crafting: jpeg:10"), (w1.held_out, "held out: webp:30")):
        assert f"{100 * case.accuracy.estimate:.1f}" in text
        assert f"{words} · small-cnn" in text
    for words in ("adversarial training at 4 levels: not asked for", "Nothing was tested of W2", "One protected copy"):
        assert words in text
    assert "No adversary that was held out was tested" not in text
    assert "Without it the most is" not in text, "every victim was best at the end"


def test_a_worst_case_at_the_best_moment_has_the_one_at_the_end_beside_it(report_maker: Callable[..., Any]) -> None:
    report = report_maker([]).report
    naive = report.trainers[0]
    peak = naive.worst.model_copy(update={"moment": "peak", "accuracy": Estimate(estimate=0.7, low=0.6, high=0.8)})
    changed = naive.model_copy(update={"worst": peak, "seen": peak})
    page = Page(render_report(report.model_copy(update={"trainers": (changed, *report.trainers[1:])})))
    end = f"{100 * naive.at_end.accuracy.estimate:.1f} % (W1: small-cnn/none). One protected copy"
    assert f"Without it the most is {end}" in page.text
    assert "70.0 60.0 to 80.0" in page.text
    assert "No adversary that was held out was tested" in page.text


def test_an_invalid_run_has_no_worst_cases(report_maker: Callable[..., Any]) -> None:
    made = report_maker(["jpeg:10"], shares={"clean": 0.1})
    assert made.report.verdict.valid is False
    assert "owners" not in page_of(made)[1].ids


def test_what_does_not_count_is_told_with_its_reason(report_maker: Callable[..., Any]) -> None:
    made = report_maker(["jpeg:10"])
    dropped = made.report.conditions[1].model_copy(update={"status": "dropped", "reason": "no time", "arms": {}})
    report = made.report.model_copy(update={"conditions": (made.report.conditions[0], dropped)})
    page = Page(render_report(report))
    assert "1 trainer that does not count jpeg:10 , small-cnn: dropped, no time" in page.text


def test_the_mix_curve_is_there_when_mixing_was_tested(
    report_maker: Callable[..., Any], shown: tuple[str, Page]
) -> None:
    drawn = [values["aria-label"] or "" for tag, values in shown[1].seen if tag == "svg" and "aria-label" in values]
    (label,) = [text for text in drawn if text.startswith("Test accuracy against the protected share")]
    assert "50 % protected: mixed" in label
    assert "80 % protected: mixed" in label
    assert "mixing" not in Page(render_report(report_maker(["jpeg:10"]).report)).ids


def test_names_that_others_chose_are_escaped(report_maker: Callable[..., Any]) -> None:
    evil = "<script>alert('x')</script>"
    made = report_maker(["mix:0.5"], classes=(evil, '"><img src=x onerror=alert(1)>', "c&d", "d"))
    issues = (PairIssue(kind="missing", path=evil, detail=evil),)
    dataset = made.report.dataset.model_copy(update={"issues": issues})
    stealth = made.report.stealth.model_copy(update={"over_budget": (evil,), "lpips_reason": evil})
    protection = Protection(method=evil, surrogate=evil)
    changes = {"command": f"verify {evil}", "dataset": dataset, "stealth": stealth, "protection": protection}
    html, page = page_of(replace(made, report=made.report.model_copy(update=changes)))
    assert "<script" not in html
    assert "<img src=x" not in html
    assert page.open == []
    assert page.text.count(evil) > 8
    assert not [tag for tag, values in page.seen if any(name.startswith("on") for name in values)]


def test_many_adversaries_and_classes_stay_short(report_maker: Callable[..., Any]) -> None:
    """What is beyond the first rows waits in a fold; with many classes no numbers stand in the matrices."""
    names = [f"jpeg:{quality}" for quality in range(10, 50)]
    made = report_maker(names, classes=[f"class {i:02d}" for i in range(30)], per_class=5)
    html, page = page_of(made)
    assert page.open == []
    assert "27 more, from which the trainer gets less" in page.text
    assert "10 more classes" in page.text
    assert len(html) < 6_000_000


def test_an_invalid_run_shows_no_tiers_as_passed(report_maker: Callable[..., Any]) -> None:
    made = report_maker(["jpeg:10", "mix:0.5"], shares={"clean": 0.1})
    assert made.report.verdict.valid is False
    html, page = page_of(made)
    assert 'class="verdict bad"' in html
    assert "INVALID" in page.text
    assert page.open == []


@pytest.mark.parametrize(
    ("adversaries", "tone"),
    [
        ([], "warn"),
        (["jpeg:10", "grayscale", "cutmix", "last-layer:0.1", "regroup:2", "mix:0.5"], "ok"),
    ],
)
def test_the_headline_is_green_only_where_every_kind_of_trainer_was_tested(
    report_maker: Callable[..., Any], adversaries: list[str], tone: str
) -> None:
    made = report_maker(adversaries, protected={"none": 0.02, "regroup:2": 0.05, "mix:0.5": 0.3}, per_class=60)
    assert made.report.verdict.weakest is not None
    assert f'class="verdict {tone}"' in page_of(made)[0]


def test_a_report_read_from_its_file_can_be_rendered_alone(made: Any) -> None:
    again = type(made.report).model_validate_json(made.report.model_dump_json())
    page = Page(render_report(again))
    assert page.open == []
    assert "pictures" not in page.ids


def test_tiles_are_chosen_by_rank(report_maker: Callable[..., Any]) -> None:
    made = report_maker([])
    tiles = choose_tiles(made.data, seed=0)
    assert [tile.title for tile in tiles] == ["shows least", "in the middle", "shows most"]
    values = sorted(file.distances.ssim for file in made.data.files)
    assert [tile.file.distances.ssim for tile in tiles] == [values[-1], values[(len(values) - 1) // 2], values[0]]
    assert all(tile.pixelated and tile.whole is None and tile.side == (24, 24) for tile in tiles)


def test_nothing_changed_and_nothing_breaks(report_maker: Callable[..., Any]) -> None:
    made = report_maker(["jpeg:10"], delta=np.zeros((24, 24), dtype=int))
    assert made.report.spectrum is None
    _, page = page_of(made)
    assert "spectrum" not in page.ids
    assert "Unchanged" in page.text
    assert not re.search(r"\bnan\b|\binf\b", page.text, re.IGNORECASE)
