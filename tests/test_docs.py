"""The documentation keeps its word: links lead somewhere, commands exist, tables and the API reference are complete."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer.main
import yaml

import bitterant
from bitterant.attacks import PRESETS, create_adversary, victim_names
from bitterant.attacks.adversaries import adversary_classes
from bitterant.attacks.terms import TIERS
from bitterant.cli.app import app
from bitterant.protect import method_names
from bitterant.records.config import STRENGTHS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LOOSE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
EVERY = [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in (*PAGES, *LOOSE)]

FENCE = re.compile(r"^( *)(`{3,}|~{3,})[^\n]*\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)(?:\s+\"[^\"]*\")?\)")
NAMED = re.compile(r"(?<![\w./~-])(?:docs|samples|benchmarks|tests|imaging|protect|attacks|cli)/[\w./-]+")
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def prose(text: str) -> str:
    """A page without its fenced code."""
    return FENCE.sub("", text)


# ---------------------------------------------------------------------------------------------------- links


def slug(heading: str) -> str:
    """The anchor of a heading, as code hosts make it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {
        slug(found) for found in re.findall(r"^#{1,6} (.+)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    }


def broken(page: Path) -> Iterator[str]:
    for target in LINK.findall(prose(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        if not place.is_file():
            yield f"{target}: no such file"
        elif DOCS in page.parents and DOCS not in place.parents:
            yield f"{target}: the site ends at docs/"
        elif anchor and anchor not in anchors(place):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("page", EVERY)
def test_every_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    assert list(broken(page)) == []


def test_a_wrong_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `--two`\n[a](page.md#one---two) [b](#one) [c](gone.md) [d](https://example.org)\n```\n[e](no)\n```\n"
    )
    assert list(broken(page)) == ["#one: no such heading", "gone.md: no such file"]


@pytest.mark.parametrize("page", EVERY)
def test_headings_have_one_anchor_everywhere(page: Path) -> None:
    """Code hosts keep runs of hyphens and MkDocs does not, so a link could be right in one place only."""
    assert [anchor for anchor in anchors(page) if "--" in anchor or anchor.strip("-") != anchor] == []


@pytest.mark.parametrize("page", EVERY)
def test_paths_that_are_named_exist(page: Path) -> None:
    """The README links to nothing, since a package index has none of its files: it names paths instead."""
    if page.name == "CHANGELOG.md":  # tells of what was
        return
    named = {
        word
        for span in SPAN.findall(page.read_text(encoding="utf-8"))
        for word in re.findall(
            r"(?<![\w./~-])(?:docs|samples|benchmarks|tests|imaging|protect|attacks|cli)/[\w./-]+", span
        )
    }
    assert sorted(word for word in named if not (ROOT / word).exists()) == []


# ---------------------------------------------------------------------------------------------------- commands


@dataclass(frozen=True)
class Line:
    """A command as a page has it: ``whole`` where it stands in a block, and can be typed as it is."""

    page: str
    text: str
    whole: bool


def command_lines(page: Path) -> Iterator[Line]:
    text = page.read_text(encoding="utf-8")
    where = page.relative_to(ROOT).as_posix()
    indented = re.findall(r"(?:^ {4}\S.*\n?(?:^ {5,}\S.*\n?)*)+", prose(text), re.MULTILINE)
    for block in [found[2] for found in FENCE.findall(text)] + indented:
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            if found := re.match(r"\s*(?:\$ )?(?:[\w./-]*/)?(bitterant [a-z-].*)", line):
                yield Line(where, found[1], whole=True)
    for span in SPAN.findall(re.sub(r"^ {4}.*$", "", prose(text), flags=re.MULTILINE)):
        joined = " ".join(span.split())
        if re.match(r"bitterant [a-z-]", joined):
            yield Line(where, joined, whole=False)


LINES = [line for page in (*PAGES, *LOOSE[:2]) for line in command_lines(page)]


def mistakes(line: Line) -> list[str]:
    """What the command line would refuse: unknown commands, options, values and a wrong number of arguments."""
    words = shlex.split(line.text, comments=True)[1:]
    command = typer.main.get_command(app)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        if words[0] not in command.commands:  # type: ignore[attr-defined]
            return [f"no command {words[0]!r}"]
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    options = {name: param for param in command.params for name in (*param.opts, *param.secondary_opts)}
    flags = {"-h", "--help", "--help-all"}
    found, arguments = [], []
    while words:
        word = words.pop(0)
        if not re.match(r"--?[a-zA-Z]", word):
            arguments.append(word)
            continue
        name, equals, value = word.partition("=")
        if name in flags:
            return found
        if name not in options:
            found.append(f"no option {name!r}")
        elif not getattr(options[name], "is_flag", False):
            if not equals and not words:
                if line.whole:
                    found.append(f"{name} without a value")
                continue
            found += wrong_value(name, value if equals else words.pop(0))
    needed = [param for param in command.params if param.param_type_name == "argument"]
    any_number = any(param.nargs == -1 for param in needed)
    if (len(arguments) > len(needed) and not any_number) or (
        line.whole and len(arguments) < sum(param.required for param in needed)
    ):
        found.append(f"{len(arguments)} arguments for {len(needed)}")
    return found


def wrong_value(name: str, value: str) -> list[str]:
    """A value of an option that takes names, if there is no such name."""
    if value.isupper() or "|" in value or ":FILE" in value:  # a place-holder
        return []
    known: dict[str, typing.Collection[str]] = {
        "--method": ("auto", *method_names()),
        "--strength": STRENGTHS,
        "--preset": (*PRESETS, "paper"),
        "--require-tier": TIERS,
        "--require-grade": ("weak", "moderate", "strong"),
        "--format": ("lossless", "webp", "same", "safetensors", "npz", "png"),
        "--metadata": ("keep", "private", "strip"),
    }
    if name == "--adversary":
        create_adversary(value)
    if name == "--victim" and not re.match(r"(timm|clip|scratch):|clip-small$", value):
        known[name] = victim_names()
    return [] if name not in known or value in known[name] else [f"{name} has no {value!r}"]


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.page}: {line.text}")
def test_commands_can_be_typed(line: Line) -> None:
    assert mistakes(line) == []


def test_the_pages_have_commands_of_both_kinds() -> None:
    assert sum(line.whole for line in LINES) > 30
    assert sum(not line.whole for line in LINES) > 30


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bitterant protekt A B", ["no command 'protekt'"]),
        ("bitterant protect A B --strenght subtle", ["no option '--strenght'", "3 arguments for 2"]),
        ("bitterant protect A B --strength weak", ["--strength has no 'weak'"]),
        ("bitterant protect A", ["1 arguments for 2"]),
        ("bitterant t2ue noise request.jsonl --dry-run", ["no option '--dry-run'"]),
        ("bitterant verify A B --victim resnet18 --seeds", ["--seeds without a value"]),
        ("bitterant verify A B --victim resnet99", ["--victim has no 'resnet99'"]),
        ("bitterant verify A B --preset quick --no-report  # a comment", []),
    ],
)
def test_a_wrong_command_is_found(text: str, expected: list[str]) -> None:
    assert mistakes(Line("page", text, whole=True)) == expected


SCRIPT = re.compile(r"(?:^|[\s;&])(?:\w+=\S+ )*python (?:benchmarks/)?(\w+\.py)\b(.*)")


def script_lines(page: Path) -> Iterator[Line]:
    """Commands that run a script of ``benchmarks/``, in blocks and in the text."""
    text = page.read_text(encoding="utf-8")
    where = page.relative_to(ROOT).as_posix()
    blocks = re.sub(r"\\\n\s*", " ", text).splitlines()
    spans = [" ".join(span.split()) for span in SPAN.findall(re.sub(r"^ {4}.*$", "", prose(text), flags=re.MULTILINE))]
    for line in [*(line for line in blocks if "`" not in line), *spans]:
        if found := SCRIPT.search(line):
            yield Line(where, f"{found[1]}{found[2]}".strip(), whole=True)


def script_mistakes(text: str) -> list[str]:
    """What a script would refuse: that there is none of this name, or options that it does not add to its parser."""
    name, *words = shlex.split(text, comments=True)
    file = ROOT / "benchmarks" / name
    if not file.is_file():
        return [f"no script {name!r}"]
    known = {"--help"}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            known |= {str(option.value) for option in node.args if isinstance(option, ast.Constant)}
    options = (word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word))
    return [f"{name} has no {option!r}" for option in options if option not in known]


SCRIPT_LINES = [line for page in (*PAGES, *LOOSE[:2]) for line in script_lines(page)]


@pytest.mark.parametrize("page", EVERY)
def test_scripts_can_be_run_as_the_page_says(page: Path) -> None:
    where = page.relative_to(ROOT).as_posix()
    lines = [line.text for line in SCRIPT_LINES if line.page == where]
    assert [mistake for text in lines for mistake in script_mistakes(text)] == []


def test_the_pages_have_commands_of_scripts() -> None:
    assert len({line.text for line in SCRIPT_LINES}) > 40


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no_such_script.py --images 3", ["no script 'no_such_script.py'"]),
        ("spin.py --step 3", ["spin.py has no '--step'"]),
        ("spin.py --steps=3 --busy 0 2  # a comment", []),
    ],
)
def test_a_wrong_command_of_a_script_is_found(text: str, expected: list[str]) -> None:
    assert script_mistakes(text) == expected


# ---------------------------------------------------------------------------------------------------- the site


def settings() -> dict[str, typing.Any]:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def leaves(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for value in nav.values():
            yield from leaves(value)
    elif isinstance(nav, list):
        for value in nav:
            yield from leaves(value)


def test_the_navigation_has_every_page_once() -> None:
    shown = list(leaves(settings()["nav"]))
    assert sorted(shown) == [page.relative_to(DOCS).as_posix() for page in PAGES]


@pytest.mark.parametrize(
    ("html", "refused"),
    [
        ('<script src="https://unpkg.com/shim"></script>', True),
        ("<link href=//fonts.example/a.css rel=stylesheet>", True),
        ('<link rel="stylesheet" href="assets/main.css"><script src="../bundle.js"></script>', False),
        ('<img src="images/a.png"><a href="https://arxiv.org/abs/2101.04898">paper</a>', False),
    ],
)
def test_a_page_that_loads_something_from_elsewhere_is_refused(html: str, refused: bool) -> None:
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    if refused:
        with pytest.raises(hooks.PluginError, match=r"index\.md would load"):
            hooks.on_post_page(html, page, None)
    else:
        assert hooks.on_post_page(html, page, None) == html


def test_the_site_asks_for_no_font_of_others() -> None:
    assert settings()["theme"]["font"] is False


def test_included_code_is_there() -> None:
    """A formatter that takes the line for Python would break it, and the page would show the line itself."""
    lines = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("--8")]
    assert lines
    for line in lines:
        found = re.fullmatch(r'--8<-- "([\w/.]+):(\w+)"', line)
        assert found, line
        assert f"[start:{found[2]}]" in (ROOT / found[1]).read_text(encoding="utf-8"), line


# ---------------------------------------------------------------------------------------------------- tables and API


def sections(page: Path) -> dict[str, list[list[str]]]:
    """The rows of the tables below each heading of the second level, without their heads."""
    found: dict[str, list[list[str]]] = {}
    for part in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines() if line[:1] == "|"]
        found[title] = rows[2:]
    return found


ADVERSARIES = sections(DOCS / "adversaries.md")


@pytest.mark.parametrize("tier", TIERS)
def test_the_table_of_adversaries_is_the_registry(tier: str) -> None:
    (rows,) = [rows for title, rows in ADVERSARIES.items() if title.endswith(f"`{tier}`")]
    expected = [
        [f"`{name}`", cls.listed_trainer(), cls.listed_crafting(), f"{cls.cost:g}", cls.description]
        for name, cls in adversary_classes().items()
        if cls.tier == tier
    ]
    assert [row[:5] for row in rows] == expected


def test_the_tables_of_victims_and_presets_are_the_registry() -> None:
    assert [row[0].strip("`") for row in ADVERSARIES["Victims"]] == list(victim_names())
    named = [name.strip("` ") for row in ADVERSARIES["Presets"] for name in row[0].split(",")]
    assert named == list(PRESETS)


@pytest.mark.parametrize("name", method_names())
def test_every_method_has_a_page(name: str) -> None:
    page = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# `{name}`")


REFERENCE = [
    name for page in PAGES for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
]


def test_the_reference_has_every_public_name_once() -> None:
    assert len(set(REFERENCE)) == len(REFERENCE)
    assert {f"bitterant.{name}" for name in bitterant.__all__ if name != "__version__"} <= set(REFERENCE)


@pytest.mark.parametrize("name", REFERENCE)
def test_the_reference_names_what_is_exported(name: str) -> None:
    package, _, attribute = name.rpartition(".")
    module = importlib.import_module(package)
    assert attribute in module.__all__
    assert getattr(module, attribute).__doc__


# ---------------------------------------------------------------------------------------------------- figures

RESULTS = sections(DOCS / "results.md")
COLUMNS = {
    "texture": "texture",
    "emn": "emn-class",
    "uc": "uc",
    "beo": "beo",
    "t2ue": "t2ue-sample",
}


def figure(cell: str) -> tuple[int, int]:
    """What is left and, in brackets, what clean pictures give."""
    found = re.search(r"(\d+) \((\d+)\)", cell)
    assert found, cell
    return int(found[1]), int(found[2])


def test_the_worst_cases_are_those_of_the_table_of_each_step() -> None:
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    (head,) = re.findall(r"^\| adversary \| victim \|.*$", text, re.MULTILINE)
    names = [cell.strip() for cell in head.strip("|").split("|")]
    large = [dict(zip(names, row, strict=True)) for row in RESULTS["Each step against each method"]]
    worst = {row[0].strip("`"): row[1:] for row in RESULTS["Worst case of each method"]}

    def most(column: str, kind: str) -> set[tuple[int, int]]:
        """The most that trainers of a class get, with what the same adversary gives with clean pictures."""
        pairs = [
            (int(row[column].split()[0]), int(row["clean"].split()[0]))
            for row in large
            if row[column] != "not run"
            and (row["adversary"] == kind or create_adversary(row["adversary"]).trainer_class == kind)
        ]
        return {pair for pair in pairs if pair[0] == max(pairs)[0]}

    for method, column in COLUMNS.items():
        naive, cheap, _, refitted, robust, pretrained = worst[method]
        for cell, kind in (
            (naive, "none"),
            (cheap, "W1"),
            (refitted, "last-layer:0.1"),
            (robust, "W3"),
            (pretrained, "W4"),
        ):
            assert figure(cell) in most(column, kind), (method, kind)


@pytest.mark.parametrize(
    ("page", "heading", "here", "there"),
    [
        ("README.md", "How much protection?", (2, 3, 4, 5), (1, 2, 5, 6)),
        ("docs/which-method.md", "The trade-off in figures", (1, 2), (1, 2)),
    ],
)
def test_figures_that_are_repeated_are_the_same(
    page: str, heading: str, here: tuple[int, ...], there: tuple[int, ...]
) -> None:
    worst = {row[0]: row for row in RESULTS["Worst case of each method"]}
    rows = sections(ROOT / page)[heading]
    assert len(rows) >= 5
    for row in rows:
        for mine, theirs in zip(here, there, strict=True):
            assert figure(row[mine]) == figure(worst[row[0]][theirs]), (row[0], mine)


def test_the_faq_has_the_figures_of_the_results() -> None:
    worst = {row[0]: row for row in RESULTS["Worst case of each method"]}["`texture`"]
    answer = (ROOT / "docs/faq.md").read_text(encoding="utf-8").split("## Does it stop AI?")[1].split("\n## ")[0]
    told = re.findall(r"(\d+) %\s(?:right\s)?instead\sof\s(\d+)\s%", answer)
    assert told == [tuple(map(str, figure(worst[column]))) for column in (1, 2, 6)]
