"""Rules that a reader cannot see at a glance: import direction, exported names, nothing heavy on import."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("errors", "plugins", "records", "imaging", "surrogates", "protect", "attacks", "app", "cli")
# A part may import from those named here, and from itself.
MAY_IMPORT = {
    "errors": set(),
    "plugins": {"errors"},
    "records": {"errors", "_version"},
    "imaging": {"errors", "records", "_lazy", "_version"},
    "surrogates": {"errors", "records", "imaging", "_version"},
    "protect": {"errors", "plugins", "records", "imaging", "surrogates", "_lazy", "_version"},
    "attacks": {"errors", "plugins", "records", "imaging", "surrogates", "_lazy", "_version"},
    "app": {"errors", "records", "imaging", "surrogates", "protect", "attacks", "_lazy", "_version"},
    "cli": {"errors", "records", "imaging", "surrogates", "protect", "attacks", "app", "_version"},
}


def modules() -> Iterator[Path]:
    yield from (
        ROOT / "__init__.py",
        ROOT / "__main__.py",
        ROOT / "errors.py",
        ROOT / "plugins.py",
        ROOT / "_version.py",
    )
    for part in PARTS[2:]:
        yield from sorted((ROOT / part).rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("bitterant", *(part for part in parts if part != "__init__")))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Absolute dotted names of everything a module imports from, relative imports resolved; with the line."""
    package = dotted(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{name}.{alias.name}", node.lineno) for alias in node.names)


def test_imports_point_one_way() -> None:
    wrong = []
    for path in modules():
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for name, line in imported(path) if part in MAY_IMPORT else ():
            parts = name.split(".")
            if parts[0] == "bitterant" and len(parts) > 1 and parts[1] not in {part, *MAY_IMPORT[part]}:
                wrong.append(f"{named(path)}:{line}: {part} may not import {name}")
    assert not wrong, "\n".join(wrong)


def test_imports_inside_the_package_are_relative() -> None:
    wrong = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            absolute = [name for name in names if name.split(".")[0] in ("bitterant", *PARTS)]
            wrong += [f"{named(path)}:{node.lineno}: {name}" for name in absolute]  # type: ignore[attr-defined]
    assert not wrong, "\n".join(wrong)


def loaded_with(path: Path) -> Iterator[str]:
    """Modules of the package that importing ``path`` loads at once: its imports outside functions, and the packages
    above each of them."""
    names = {dotted(module) for module in modules()}
    package = dotted(path).split(".")[: None if path.name == "__init__.py" else -1]

    def walk(node: ast.AST) -> Iterator[ast.ImportFrom]:
        for child in ast.iter_child_nodes(node):
            typing_only = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            if isinstance(child, ast.ImportFrom):
                yield child
            elif not typing_only and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from walk(child)

    for node in walk(ast.parse(path.read_text(encoding="utf-8"))):
        base = package[: len(package) - node.level + 1] if node.level else []
        source = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            found = f"{source}.{alias.name}" if f"{source}.{alias.name}" in names else source
            parts = found.split(".")
            yield from ({".".join(parts[:end]) for end in range(2, len(parts) + 1)} & names)


def test_no_import_goes_round_in_a_circle() -> None:
    """Not even through the ``__init__`` of a package."""
    loads = {dotted(path): set(loaded_with(path)) for path in modules()}
    # A module inside a package is loaded after the package has begun: that alone is no circle.
    loads = {name: {to for to in targets if not name.startswith(f"{to}.")} - {name} for name, targets in loads.items()}
    while free := [name for name, targets in loads.items() if not targets & loads.keys()]:
        for name in free:
            del loads[name]
    assert not loads


def test_packages_export_exactly_their_all() -> None:
    """Also where names are fetched lazily: what ``dir`` shows is what ``__all__`` says."""
    language = {"annotations", "TYPE_CHECKING", "Sequence", "lazy_exports"}
    wrong = []
    for path in modules():
        if path.name != "__init__.py":
            continue
        module = importlib.import_module(dotted(path))
        public = {
            name
            for name in dir(module)
            if not name.startswith("_") and name not in language and not isinstance(getattr(module, name), ModuleType)
        }
        said = {name for name in module.__all__ if not name.startswith("_")}
        if public != said:
            wrong.append(
                f"{dotted(path)}: only by dir {sorted(public - said)}, only in __all__ {sorted(said - public)}"
            )
    assert not wrong, "\n".join(wrong)


def test_the_public_names_are_those_that_are_written_down() -> None:
    import bitterant

    for name in bitterant.__all__:
        value = getattr(bitterant, name)
        assert name == "__version__" or getattr(value, "__doc__", None), name
    with pytest.raises(AttributeError, match="no_such_thing"):
        bitterant.no_such_thing  # type: ignore[attr-defined]


def loaded_after(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter holds after ``code``."""
    heavy = ("torch", "torchvision", "timm", "scipy", "numpy", "PIL", "pydantic", "nicegui")
    script = f"{code}\nimport sys\nprint(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_bitterant_loads_nothing_heavy() -> None:
    assert loaded_after("import bitterant, bitterant.errors") == set()


def test_scanning_and_decoding_need_no_torch() -> None:
    assert "torch" not in loaded_after("from bitterant.imaging import scan_folder, decode, encode, Budget")


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], *([name, "--help"] for name in ("protect", "verify", "app"))]
)
def test_help_loads_no_torch(words: list[str]) -> None:
    loaded = loaded_after(f"from bitterant.cli import main\nassert main({words!r}) == 0")
    assert not loaded & {"torch", "torchvision", "timm", "scipy", "nicegui"}  # typer itself brings pydantic


def test_the_overview_loads_no_numpy() -> None:
    assert "numpy" not in loaded_after('from bitterant.cli import main\nassert main(["--help"]) == 0')


def test_sources_cite_what_a_reader_can_open() -> None:
    """Papers and pages of docs/: a note that is not in the repository helps nobody."""
    pages = {path.name for folder in (ROOT, ROOT / "docs") for path in folder.glob("*.md")}
    unknown = []
    for path in modules():
        for found in re.finditer(r"(?<![\w./-])((?:[\w-]+/)*)([\w-]+\.md)\b", path.read_text(encoding="utf-8")):
            folder, name = found.groups()
            there = (
                (ROOT / folder / name).is_file() if folder else name in pages - {"emn.md", "uc.md", "beo.md", "t2ue.md"}
            )
            if not there:
                unknown.append(f"{path.relative_to(ROOT)}: {folder}{name}")
    assert not unknown
