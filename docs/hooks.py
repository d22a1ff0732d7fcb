"""What MkDocs cannot do by itself.

It lays the package out for the API reference: the repository's root is the package ``bitterant``, a checkout may have
any name, and mkdocstrings, which reads sources without importing them, wants a folder of that name with nothing else
in it. So the modules are copied to ``build/api``. It shows cross-references as code. And it refuses to build a page
that would load something from elsewhere.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

__all__ = ["on_page_content", "on_post_page", "on_startup"]

ROOT = Path(__file__).resolve().parents[1]
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(?=<code>)")
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|link\b(?=[^>]*\brel=["']?(?:stylesheet|preconnect|icon)))[^>]*\b(?:src|href)=["']?"""
    r"((?:https?:)?//[^\"'\s>]+)"
)


def on_startup(*, command: str, dirty: bool) -> None:
    """Copy the modules of every package that ``pyproject.toml`` lists.

    Before anything else: mkdocstrings leaves out folders that are not there when it reads its options, and then finds
    the package through the checkout, with everything that lies in it, in minutes instead of seconds.
    """
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    target = ROOT / "build" / "api"
    shutil.rmtree(target, ignore_errors=True)
    for package in settings["packages"]:
        place = target.joinpath(*package.split("."))
        place.mkdir(parents=True, exist_ok=True)
        for module in sorted(ROOT.joinpath(*package.split(".")[1:]).glob("*.py")):
            shutil.copy(module, place)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Drop the role in front of a name: docstrings say ``:func:`name` ``, and Markdown knows no roles."""
    return ROLE.sub("", html)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Whoever reads the documentation is nobody else's business.

    Raises:
        PluginError: the page would fetch a script, picture, style or font from another site.
    """
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} would load {found[1]}. Put a copy under docs/, or leave it out.")
    return output
