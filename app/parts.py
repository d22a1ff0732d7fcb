"""The pieces that the page is made of. Text from outside is shown as text, never as markup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nicegui import run, ui
from nicegui.elements.mixins.text_element import TextElement

from ..errors import FolderError
from ..records.text import visible
from .folders import complete, places, subfolders

# The cut between the two pictures stays where the control is, however far the picture under it is moved.
_CUT = """() => {
  const box = document.getElementById('compare');
  const share = document.getElementById('compare-cut').value / 100;
  const seen = Math.min(box.clientWidth, box.firstElementChild.offsetWidth);
  box.style.setProperty('--cut', (box.scrollLeft + seen * share) + 'px');
}"""


def text(tag: str, words: str, classes: str = "") -> TextElement:
    """An element that holds words, whoever wrote them."""
    return TextElement(tag=tag, text=visible(words, lines=True)).classes(classes)


def button(words: str, on_click: Callable[[], Any], *, plain: bool = False) -> ui.button:
    """A button; ``plain`` for what is not the next thing to do."""
    made = ui.button(words, on_click=on_click, color=None).props("no-caps unelevated")
    return made.classes("plain" if plain else "main")


class Choice:
    """One of some, as the browser's own radio buttons: with the arrow keys, and read out as what they are.

    Args:
        name: of the group, for the browser.
        heading: id of the element that says what is chosen.
        options: words by value.
        on_change: told the value that somebody chose.
    """

    def __init__(self, name: str, heading: str, options: Mapping[Any, str], on_change: Callable[[Any], None]) -> None:
        self._buttons: dict[Any, ui.element] = {}
        with ui.element("div").props(f"role=radiogroup aria-labelledby={heading}").classes("choice"):
            for value, words in options.items():
                with ui.element("label"):
                    made = ui.element("input").props(f"type=radio name={name} value={value}")
                    made.on("change", lambda value=value: on_change(value))
                    text("span", words)
                self._buttons[value] = made

    def show(self, value: Any, *, enabled: bool) -> None:
        """Show what is chosen, and whether another can be."""
        for each, made in self._buttons.items():
            made.props(add="checked" if each == value else None, remove=None if each == value else "checked")
            made.props(add=None if enabled else "disabled", remove="disabled" if enabled else None)


class PathField(ui.input):
    """A field for the path of a folder, which offers those that begin with what was typed.

    What cannot be typed in a path is shown as escapes; as long as nobody changes them, they stand for what they were.
    """

    def __init__(self, label: str, placeholder: str = "") -> None:
        super().__init__(label, placeholder=placeholder)
        self._path = ""
        # The browser's own list: filling it leaves alone what is being typed.
        self._offers = ui.element("datalist").props(f"id=offers-{self.id}")
        self.props(f"outlined dense spellcheck=false autocapitalize=off list=offers-{self.id}").classes("wide")
        self.on_value_change(lambda change: self._offer(change.value))

    @property
    def path(self) -> str:
        """What was typed, or what was set where nobody changed it."""
        typed = str(self.value or "")
        return self._path if typed == visible(self._path) else typed

    def set_path(self, path: str) -> None:
        """Show a path, unless it is the one that was shown last: somebody may be typing."""
        if path != self._path:
            self._path = path
            self.set_value(visible(path))

    async def _offer(self, typed: str | None) -> None:
        found = await run.io_bound(complete, typed or "")
        if typed != self.value:  # typed on meanwhile
            return
        self._offers.clear()
        with self._offers:
            for path in found or ():
                ui.element("option").props["value"] = path


@contextmanager
def step(number: int, heading: str) -> Iterator[ui.element]:
    """A part of the page with a heading."""
    name = f"step-{number}"
    with ui.element("section").props(f"id={name} aria-labelledby={name}-heading") as section:
        with ui.element("div").classes("heading"):
            text("span", str(number), "number").props("aria-hidden=true")
            text("h2", heading).props(f"id={name}-heading")
        yield section


class Region:
    """A part that is drawn anew when what it shows has changed, and read out where somebody cannot see it."""

    def __init__(self, name: str) -> None:
        self._box = ui.element("div").props(f"id={name} role=status aria-live=polite").classes("region")
        self._shown: Any = object()

    def show(self, what: Any, draw: Callable[[], None]) -> None:
        """Draw, unless ``what`` is still the same."""
        if what == self._shown:
            return
        self._shown = what
        self._box.clear()
        with self._box:
            draw()


def facts(rows: Sequence[tuple[str, str]]) -> None:
    """Names and values."""
    with ui.element("dl"):
        for name, value in rows:
            text("dt", name)
            text("dd", value)


def items(lines: Sequence[str], *, ordered: bool = False) -> None:
    """A list."""
    with ui.element("ol" if ordered else "ul"):
        for line in lines:
            text("li", line)


@contextmanager
def more(summary: str) -> Iterator[None]:
    """What is shown when somebody asks for it."""
    with ui.element("details"):
        text("summary", summary)
        yield


def command(heading: str, line: str) -> None:
    """A command line, ready to be copied."""
    with more(heading), ui.element("div").classes("command"):
        text("code", line)

        def copy() -> None:
            ui.clipboard.write(line.encode("utf-8", "backslashreplace").decode("utf-8"))
            ui.notify("Copied")

        button("Copy", copy, plain=True)


def compare(before: str, after: str, name: str, width: int, height: int) -> None:
    """Two pictures of one size over each other, and a control that moves the cut between them.

    Args:
        before, after: addresses of the pictures.
        name: what is shown.
        width, height: of both, in pixels.
    """
    with ui.element("div").props("id=compare tabindex=0 role=group aria-label='The picture, before and after'") as box:
        box.on("scroll", js_handler=_CUT)
        with ui.element("div").classes("pair").style(f"width: {width}px; height: {height}px"):
            for side, source in (("before", before), ("after", after)):
                image = ui.element("img").classes(side)
                image.props.update({"src": source, "alt": f"{visible(name)}, {side}", "width": width, "height": height})
    with ui.element("label").classes("cut"):
        text("span", "Before")
        cut = ui.element("input").props("id=compare-cut type=range min=0 max=100 value=50 step=1")
        cut.props("aria-label='How much of the picture is shown as it is before'")
        cut.on("input", js_handler=_CUT)
        text("span", "After")
    ui.timer(0.1, lambda: ui.run_javascript(f"({_CUT})()"), once=True)


async def choose_folder(begin: Path) -> Path | None:
    """Let somebody look for a folder on this machine; ``None`` where they give up."""
    with ui.dialog().props("aria-labelledby=browser-heading") as dialog, ui.card().classes("browser"):
        browser = _Browser(dialog)
        await browser.go(begin if begin.is_dir() else Path.home())
    chosen = await dialog
    dialog.delete()
    return chosen


class _Browser:
    """The folders of this machine, one level at a time."""

    def __init__(self, dialog: ui.dialog) -> None:
        text("h2", "Choose a folder").props("id=browser-heading")
        with ui.element("div").classes("places"):
            for name, path in places():
                button(name, lambda path=path: self.go(path), plain=True)
        self._here = text("p", "", "path").props("role=status aria-live=polite")
        self._list = ui.element("div").classes("folders")
        with ui.element("div").classes("line"):
            button("Choose this folder", lambda: dialog.submit(self._folder))
            button("Cancel", lambda: dialog.submit(None), plain=True)
        self._folder = Path.home()

    async def go(self, folder: Path) -> None:
        """Show what lies in a folder."""
        names: list[str] = []
        problem = ""
        try:
            names = await run.io_bound(subfolders, folder) or []
        except FolderError as error:
            problem = str(error)
        self._folder = folder
        self._here.set_text(visible(str(folder)))
        self._list.clear()
        with self._list:
            if folder.parent != folder:
                button("Up, to the folder above", lambda: self.go(folder.parent), plain=True)
            for name in names:
                button(visible(name), lambda name=name: self.go(folder / name), plain=True).classes("folder")
            if problem or not names:
                text("p", problem or "No folders in here.", "muted")
