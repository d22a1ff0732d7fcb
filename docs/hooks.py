"""What MkDocs cannot do by itself: lay the package out for the API reference, and show cross-references as code.

The repository's root is the package ``bitterant``, and a checkout may have any name. mkdocstrings reads the sources without
importing them and wants a folder of that name with nothing else in it, so the modules are copied to ``build/api``.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

__all__ = ["on_page_content", "on_pre_build"]

ROOT = Path(__file__).resolve().parents[1]
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(?=<code>)")


def on_pre_build(config: Any) -> None:
    """Copy the modules of every package that ``pyproject.toml`` lists."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    target = ROOT / "build" / "api"
    shutil.rmtree(target, ignore_errors=True)
    for package, folder in settings["package-dir"].items():
        place = target.joinpath(*package.split("."))
        place.mkdir(parents=True, exist_ok=True)
        for module in sorted((ROOT / folder).glob("*.py")):
            shutil.copy(module, place)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Drop the role in front of a name: docstrings say ``:func:`name` ``, and Markdown knows no roles."""
    return ROLE.sub("", html)
