"""The page: five steps from a folder of pictures to copies that were put to the test."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import FileResponse
from nicegui import run, ui

from ..records.config import STRENGTHS
from ..records.text import counted, some, visible
from . import words
from .desk import LIGHT, PRESETS, Desk, Kind
from .parts import (
    Choice,
    PathField,
    Region,
    button,
    choose_folder,
    command,
    compare,
    facts,
    items,
    more,
    step,
    text,
)

STYLE: Final = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
TICK: Final = 0.3  # seconds between two looks at the desk
SHOWN_PROBLEMS: Final = 10
SHOWN_CLASSES: Final = 12


def application(desk: Desk, prefix: str) -> FastAPI:
    """The page and what it shows, below ``prefix``. Once a process."""
    outer = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @outer.get(prefix + "/report/{kind}")
    def report(kind: str) -> FileResponse:
        path = desk.report(kind)
        if path is None or not path.is_file():
            raise HTTPException(404, "There is no such report yet.")
        return FileResponse(path, media_type="text/html", headers={"cache-control": "no-store"})

    @outer.get(prefix + "/picture/{number}/{index}/{side}")
    def picture(number: int, index: int, side: str) -> Response:
        data = desk.picture(number, index, side)
        if data is None:
            raise HTTPException(404, "There is no such picture any more.")
        kind = "bmp" if data.startswith(b"BM") else "png"
        return Response(data, media_type=f"image/{kind}", headers={"cache-control": "private, max-age=3600"})

    @ui.page("/")
    def page() -> None:
        _Page(desk, prefix).draw()

    ui.run_with(
        outer, title="bitterant", mount_path=prefix, dark=None, tailwind=False, language="en-US",
        show_welcome_message=False, reconnect_timeout=30.0, favicon=words.ICON,
    )  # fmt: skip
    return outer


class _Progress:
    """A bar and a line while work of one kind is under way, and the button that stops what takes long."""

    def __init__(self, desk: Desk, kind: Kind) -> None:
        self.desk = desk
        self.kind: Kind = kind
        with ui.element("div").classes("progress") as self._box:
            self._bar = ui.linear_progress(0, show_value=False, color=None).props(f"aria-label='{words.DOING[kind]}'")
            self._line = text("p", "").props("role=status aria-live=off")
            self._stop = None if kind in LIGHT else button("Stop", desk.stop, plain=True)

    def update(self) -> None:
        """Show where it stands."""
        job = self.desk.jobs.get(self.kind)
        active = job is not None and job.active
        self._box.set_visibility(active)
        if job is None or not active:
            return
        part = job.fraction
        self._bar.props(remove="indeterminate") if part is not None else self._bar.props("indeterminate")
        self._bar.set_value(part or 0)
        self._line.set_text(visible(words.standing(job, self.desk.clock())))
        if self._stop is not None:
            self._stop.set_enabled(job.state == "running")


class _Page:
    """One tab. It shows the desk, and what was changed on it in whatever tab."""

    def __init__(self, desk: Desk, prefix: str) -> None:
        self.desk, self.prefix = desk, prefix
        self._seen = -1
        self._asked = False

    def draw(self) -> None:
        """The whole of it."""
        ui.add_css(STYLE)
        dark = ui.dark_mode(None)
        with ui.element("div").classes("page"):
            with ui.element("header"):
                with ui.element("div").classes("bar"):
                    text("p", "bitterant", "kicker")
                    look = ui.select(words.LOOKS, value="auto").props("dense borderless options-dense")
                    look.props("aria-label='Colours of the page'").classes("looks")
                    look.on_value_change(lambda change: dark.set_value(words.DARK[change.value]))
                text("h1", words.TITLE)
                text("p", words.LEDE, "lede")
            with ui.element("main"):
                self._folder_step()
                with ui.element("div") as self._rest:
                    self._strength_step()
                    self._copies_step()
                    with ui.element("div") as self._after:
                        self._verify_step()
                        self._next_step()
        ui.timer(TICK, self._look)
        self._look()

    def _look(self) -> None:
        """Show what has changed on the desk."""
        desk = self.desk
        for progress in (self._trying, self._loading, self._protecting, self._verifying):
            progress.update()
        if self._seen == desk.version:
            return
        self._seen = desk.version
        busy = desk.busy is not None
        self._rest.set_visibility(desk.found is not None)
        self._after.set_visibility(desk.protected)
        for control in (self._folder, self._look_inside, self._browse, self._output, self._browse_copies):
            control.set_enabled(not busy and not desk.looking)
        if not desk.looking:
            self._folder.set_path(desk.folder)
        self._found.show((desk.looking, desk.problem, id(desk.found), desk.earlier), self._draw_found)
        self._strength.show(desk.strength, enabled=not busy)
        self._preview.show(self._standing("preview"), self._draw_preview)
        self._full.show(self._standing("look"), self._draw_full)
        if desk.output is not None and not desk.output_problem:
            self._output.set_path(str(desk.output))
        self._plan.show((self._standing("plan"), "protect" in desk.jobs, desk.output_problem), self._draw_plan)
        self._protect.set_visibility(not busy and not desk.protected)
        self._protect.set_text("Go on" if self._stopped("protect") else words.COPIES)
        self._preset.show(desk.preset, enabled=not busy)
        self._verify.set_visibility(not busy)
        self._verify.set_text("Go on" if self._stopped("verify") else "Start the test")
        about = (id(desk.found), str(desk.output), desk.strength, desk.preset)
        self._copies.show((self._standing("protect"), about), self._draw_copies)
        self._verdict.show((self._standing("verify"), about), self._draw_verdict)
        self._next.show((desk.protected, str(desk.output), self._standing("verify")), self._draw_next)

    def _standing(self, kind: Kind) -> tuple[int, str] | None:
        """What tells one state of a job from another, progress aside."""
        job = self.desk.jobs.get(kind)
        return None if job is None else (job.number, job.state)

    def _stopped(self, kind: Kind) -> bool:
        job = self.desk.jobs.get(kind)
        return job is not None and job.state == "stopped"

    # ------------------------------------------------------------------ 1 the folder
    def _folder_step(self) -> None:
        with step(1, words.FOLDER):
            with ui.element("div").classes("line"):
                self._folder = PathField(words.FOLDER_LABEL, words.FOLDER_EXAMPLE)
                self._folder.on("keydown.enter", self._choose)
                self._browse = button("Browse", self._browse_source, plain=True)
                self._look_inside = button("Look inside", self._choose)
            self._found = Region("found")

    async def _choose(self) -> None:
        await run.io_bound(self.desk.choose_folder, self._folder.path)

    async def _browse_source(self) -> None:
        begin = self.desk.found.folder if self.desk.found is not None else Path.home()
        if (chosen := await choose_folder(begin)) is not None:
            self._folder.set_path(str(chosen))
            await self._choose()

    def _draw_found(self) -> None:
        desk, found = self.desk, self.desk.found
        if desk.looking:
            text("p", "Looking through the folder", "muted")
            return
        if desk.problem:
            text("p", desk.problem, "note bad")
        if found is None:
            return
        text("p", found.headline, "headline")
        kinds = ", ".join(f"{count} {name}" for name, count in found.formats.items())
        rows = [("formats", kinds)]
        if found.classes:
            classes = (f"{name} ({count})" for name, count in found.classes.items())
            rows.append(("classes", some(classes, SHOWN_CLASSES)))
        if found.copied:
            rows.append(("copied as they are", f"{found.copied} captions and label maps"))
        facts(rows)
        for note in found.notes:
            text("p", note, "note")
        if not found.classes:
            text("p", words.FLAT, "note")
        if desk.earlier is not None:
            with ui.element("div").classes("line"):
                text("p", f"{words.EARLIER} {desk.earlier.output}")
                button("Go to those copies", desk.take_earlier, plain=True)
        if found.left_out:
            with more(f"{sum(item.count for item in found.left_out)} left out, and why"):
                told = ((item, some(item.names, total=item.count)) for item in found.left_out)
                items([f"{item.count}: {item.reason} ({names})" for item, names in told])

    # ------------------------------------------------------------------ 2 how strong
    def _strength_step(self) -> None:
        with step(2, words.STRENGTH):
            told = {name: f"{words.STRENGTH_WORDS[name]} {words.levels(name)}" for name in STRENGTHS}
            self._strength = Choice("strength", "step-2-heading", told, self.desk.choose_strength)
            self._trying = _Progress(self.desk, "preview")
            self._preview = Region("preview")
            self._loading = _Progress(self.desk, "look")
            self._full = Region("full")

    def _draw_preview(self) -> None:
        job = self.desk.jobs.get("preview")
        if job is None or job.state == "stopped":
            button("Show it on some pictures", self.desk.rehearse, plain=True)
            return
        if job.active:
            return
        if job.state == "failed":
            text("p", job.problem, "note bad")
            return
        with ui.element("div").classes("tiles"):
            for index, shown in enumerate(job.result["pictures"]):
                with ui.element("div").classes("triple"):
                    for side, caption in words.SIDES.items():
                        with ui.element("figure"):
                            image = ui.element("img")
                            image.props["src"] = f"{self.prefix}/picture/{job.number}/{index}/{side}"
                            image.props["alt"] = f"{visible(shown['name'])}, {caption}"
                            text("figcaption", caption)
                with ui.element("div").classes("line under"):
                    text("p", shown["name"], "muted name")
                    button("Compare at full size", lambda name=shown["name"]: self._compare(name), plain=True)
        for line in job.result["sights"]:
            text("p", line, "note")
        for name, reason in job.result["problems"]:
            text("p", f"{name}: {reason}", "note warn")
        text("p", job.result["about"], "muted small")

    def _compare(self, name: str) -> None:
        if self.desk.busy is not None:
            ui.notify(words.LATER)
            return
        self._asked = True
        self.desk.look(name)

    def _draw_full(self) -> None:
        job = self.desk.jobs.get("look")
        if job is None or job.active or job.state == "stopped":
            return
        if job.state == "failed":
            text("p", job.problem, "note bad")
            return
        base, result = f"{self.prefix}/picture/{job.number}/0", job.result
        with ui.element("div").classes("line under"):
            text("h3", result["name"])
            text("p", f"{result['width']} x {result['height']} pixels, every pixel as it is", "muted")
        if self._asked:  # here, and not in another tab
            self._asked = False
            ui.run_javascript("document.getElementById('full').scrollIntoView({block: 'nearest'})")
        compare(f"{base}/before", f"{base}/after", result["name"], result["width"], result["height"])

    # ------------------------------------------------------------------ 3 the copies
    def _copies_step(self) -> None:
        with step(3, words.COPIES):
            with ui.element("div").classes("line"):
                self._output = PathField(words.OUTPUT_LABEL)
                self._output.on("keydown.enter", self._choose_output)
                self._output.on("blur", self._choose_output)
                self._browse_copies = button("Browse", self._browse_output, plain=True)
            self._plan = Region("plan")
            with ui.element("div").classes("line"):
                self._protect = button(words.COPIES, self._start_protecting)
            self._protecting = _Progress(self.desk, "protect")
            self._copies = Region("copies")

    def _choose_output(self) -> None:
        self.desk.choose_output(self._output.path)

    async def _browse_output(self) -> None:
        begin = self.desk.output.parent if self.desk.output is not None else Path.home()
        if (chosen := await choose_folder(begin)) is not None and self.desk.found is not None:
            # Copies do not go among what is there already, but into a folder of their own in it.
            self.desk.choose_output(str(chosen / f"{self.desk.found.folder.name}-protected"))

    def _start_protecting(self) -> None:
        self._choose_output()
        if not self.desk.output_problem:
            self.desk.protect()

    def _draw_plan(self) -> None:
        if self.desk.output_problem:
            text("p", self.desk.output_problem, "note bad")
            return
        job = self.desk.jobs.get("plan")
        if job is None or job.state in ("stopped", "stopping") or "protect" in self.desk.jobs:
            return  # what is being done, or was, says itself what it is
        if job.active:
            text("p", words.DOING["plan"], "muted")
        elif job.state == "failed":
            for line in job.problem.splitlines():
                text("p", line, "note bad")
        else:
            facts(words.plan_facts(job.result))
            self._warn(job.result["warnings"], job.result["problems"])

    def _warn(self, warnings: list[str], problems: list[dict[str, str]]) -> None:
        """What the user should know, and the files that were left aside."""
        if problems:
            with more(f"{counted(len(problems), 'file')} could not be used, and why"):
                items([f"{item['source']}: {item['reason']}" for item in problems[:SHOWN_PROBLEMS]])
        for line in warnings:
            text("p", line, "note warn")

    def _draw_copies(self) -> None:
        desk, job = self.desk, self.desk.jobs.get("protect")
        if job is not None and job.state in ("stopped", "failed"):
            for line in job.problem.splitlines():
                text("p", line, "note bad" if job.state == "failed" else "note")
            if job.state == "stopped":
                text("p", words.GOES_ON["protect"], "muted")
        if job is not None and job.state == "done":
            result = job.result
            text("p", result["headline"], "verdict " + ("warn" if result["exit_code"] else "ok"))
            facts(words.protect_facts(result, str(desk.output)))
            self._warn(result["warnings"], result["problems"])
            known = set() if desk.found is None else {desk.found.headline, *desk.found.notes}
            if told := [note for note in job.notes if note not in known]:
                with more("Said on the way"):
                    items(told)
            if result["problems"]:
                text("p", words.LEFT_OUT, "muted")
            self._report("protect", "Open the report: before, after and difference")
        command(words.COMMAND_LINE, desk.command("protect"))

    def _report(self, kind: Kind, label: str) -> None:
        if self.desk.report(kind) is not None:
            link = ui.link(f"{label} (new tab)", f"/report/{kind}", new_tab=True)  # below where the page lies
            link.props("rel='noopener noreferrer'")

    # ------------------------------------------------------------------ 4 the test
    def _verify_step(self) -> None:
        with step(4, words.VERIFY):
            text("p", words.ABOUT_VERIFY)
            told = {name: words.PRESET_WORDS[name] for name in PRESETS}
            self._preset = Choice("preset", "step-4-heading", told, self.desk.choose_preset)
            with ui.element("div").classes("line"):
                self._verify = button("Start the test", self.desk.verify)
            self._verifying = _Progress(self.desk, "verify")
            self._verdict = Region("verdict")

    def _draw_verdict(self) -> None:
        desk, job = self.desk, self.desk.jobs.get("verify")
        if desk.found is not None and not desk.found.enough:
            text("p", words.TOO_FEW, "note warn")
        if job is not None and job.state in ("stopped", "failed"):
            for line in job.problem.splitlines():
                text("p", line, "note bad" if job.state == "failed" else "note")
            if job.state == "stopped":
                text("p", words.GOES_ON["verify"], "muted")
        if job is not None and job.state == "done":
            result = job.result
            text("p", words.verdict(result), f"verdict {result['tone']}")
            if not result["tone"]:
                text("p", words.READING, "muted")
            if result["tiers"]:
                facts(
                    [(f"a trainer who {who}", words.grade(grade, complete)) for who, grade, complete in result["tiers"]]
                )
            self._report("verify", "Open the full report")
            with more(words.IN_FULL):
                text("p", result["headline"])
            if result["caveats"]:
                with more("What to keep in mind"):
                    items(result["caveats"])
        command(words.COMMAND_LINE, desk.command("verify"))

    # ------------------------------------------------------------------ 5 what next
    def _next_step(self) -> None:
        with step(5, words.NEXT):
            self._next = Region("next")

    def _draw_next(self) -> None:
        desk = self.desk
        job, verified = desk.jobs.get("protect"), desk.jobs.get("verify")
        if job is None or job.state != "done":
            return
        done = verified is not None and verified.state == "done" and words.said_something(verified.result)
        items(words.next_steps(str(desk.output), done), ordered=True)
        command(words.PUBLISH_LINE, desk.publish_command())
