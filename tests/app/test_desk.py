"""The state behind the page, with a real process doing the work: what tabs see, stopping, going on, and losing it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bitterant.app import words
from bitterant.app.desk import Desk, Job
from bitterant.app.folders import Earlier
from bitterant.app.words import next_steps, plan_facts, protect_facts, standing
from bitterant.protect import protect_folder

MakePictures = Callable[..., Path]


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A desk whose verifications are as short as can be."""
    made = Desk(verify={"epochs": 0.1, "resolution": 16, "device": "cpu", "workers": 1})
    yield made
    made.close()


class Silent:
    """In the place of the process: nothing is ever done."""

    def send(self, what: Any) -> None:
        """Forget it."""

    def close(self) -> None:
        """Nothing to end."""


@pytest.fixture
def idle(desk: Desk) -> Desk:
    """A desk on which no work is done."""
    desk._worker = Silent()  # type: ignore[assignment]
    return desk


def wait(condition: Callable[[], Any], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def ended(desk: Desk, kind: Any) -> Job:
    wait(lambda: kind in desk.jobs and not desk.jobs[kind].active)
    return desk.jobs[kind]


def test_how_a_job_is_told() -> None:
    job = Job(1, "protect", {})
    assert (standing(job, 0.0), job.fraction) == ("Getting ready", None)
    job.tell("found", 0, 0, "3 pictures", 0.0)
    assert job.notes == ["3 pictures"]
    job.tell("write", 20, 100, "a.png", 10.0)  # it goes on: 20 were done before
    assert standing(job, 11.0) == "Writing protected copies, 20/100"
    job.tell("write", 40, 100, "b.png", 20.0)
    assert standing(job, 20.0) == "Writing protected copies, 40/100, about 30 s left"
    assert standing(job, 28.0) == "Writing protected copies, 40/100, about 22 s left"
    assert job.fraction == 0.4
    job.tell("fit", 0.5, 1.0, "", 30.0)
    assert standing(job, 30.0) == "Making the noise, 50 %"
    job.state = "stopping"
    assert "Stopping" in standing(job, 31.0)


def test_what_is_wrong_with_a_folder_stands_on_the_desk(idle: Desk, tmp_path: Path) -> None:
    before = idle.version
    idle.choose_folder(str(tmp_path / "none"))
    assert idle.found is None
    assert "Check the path" in idle.problem
    assert idle.version > before
    assert idle.jobs == {}
    assert idle.command("protect") == ""
    idle.protect()
    assert idle.jobs == {}


def test_what_was_wrong_with_the_place_of_the_copies_goes_when_it_is_put_right(
    idle: Desk, make_pictures: MakePictures
) -> None:
    idle.choose_folder(str(make_pictures({"cats": 3, "dogs": 3})))
    idle.choose_output("")
    wrong = idle.version
    assert idle.output_problem
    idle.choose_output(str(idle.output))
    assert idle.output_problem == ""
    assert idle.version > wrong, "the pages are told"
    idle.choose_output(str(idle.output))
    assert idle.version == wrong + 1


def test_nothing_begins_while_another_folder_is_looked_through(idle: Desk, make_pictures: MakePictures) -> None:
    root = make_pictures({"cats": 3, "dogs": 3})
    idle.choose_folder(str(root))
    idle.jobs["protect"] = Job(99, "protect", {}, state="done")
    idle.earlier = Earlier(root.with_name("photos-protected"), True, "balanced")
    idle.looking = True
    idle.verify()
    assert "verify" not in idle.jobs, "it would be stopped without a word when the other folder is there"
    before = idle.version
    idle.take_earlier()
    assert idle.version == before


def test_an_address_that_is_none_leaves_the_page_usable(idle: Desk) -> None:
    idle.choose_folder("file://[x/y")
    assert "no address of a folder" in idle.problem
    assert not idle.looking


def test_choices_stay_put_while_work_is_under_way(idle: Desk, make_pictures: MakePictures) -> None:
    root = make_pictures({"cats": 3, "dogs": 3})
    idle.choose_folder(str(root))
    idle.jobs["protect"] = busy = Job(99, "protect", {})
    for change in (
        lambda: idle.choose_folder("elsewhere"),
        lambda: idle.choose_strength("strong"),
        lambda: idle.choose_output(str(root.parent / "x")),
        lambda: idle.choose_preset("quick"),
        idle.protect,
        idle.verify,
    ):
        change()
        assert (idle.folder, idle.strength, idle.preset) == (str(root), "balanced", "smoke")
        assert idle.output == root.with_name("photos-protected")
        assert idle.busy is busy


def test_a_folder_is_shown_planned_protected_and_verified(desk: Desk, make_pictures: MakePictures) -> None:
    root = make_pictures({"cats": 25, "dogs": 25})
    desk.choose_folder(f"  '{root}' ")
    assert desk.folder == str(root)
    shown = ended(desk, "preview")
    assert shown.state == "done", shown.problem
    assert desk.picture(shown.number, 0, "after") != desk.picture(shown.number, 0, "before") is not None
    png = desk.picture(shown.number, 2, "difference")
    assert png is not None
    assert png.startswith(b"\x89PNG")
    for number, index, side in ((shown.number, 3, "after"), (shown.number, 0, "name"), (0, 0, "after")):
        assert desk.picture(number, index, side) is None
    desk.look(shown.result["pictures"][0]["name"])
    assert ended(desk, "look").result["width"] == 20

    plan = ended(desk, "plan")
    assert plan.state == "done", plan.problem
    assert plan.result["images"] == 50
    assert dict(plan_facts(plan.result))["size"].count(" ") >= 4
    assert not desk.protected
    assert desk.output is not None
    assert not desk.output.exists()

    desk.protect()
    done = ended(desk, "protect")
    assert done.state == "done", done.problem
    assert desk.protected
    assert sum(1 for _ in desk.output.rglob("*.png")) == 50
    assert dict(protect_facts(done.result, str(desk.output)))["copies"] == str(desk.output)
    report = desk.report("protect")
    assert report is not None
    assert report.is_file()
    assert desk.report("verify") is None
    assert desk.report("nothing") is None

    desk.verify()
    wait(lambda: desk.jobs["verify"].stage == "verify")
    desk.stop()
    desk.stop()
    assert ended(desk, "verify").state == "stopped"
    desk.verify()
    verdict = ended(desk, "verify")
    assert verdict.state == "done", verdict.problem
    assert verdict.result["headline"].startswith(("Smoke test", "INVALID"))
    assert words.verdict(verdict.result).startswith(("Of 100 pictures", "This test says nothing about your copies"))
    page = desk.report("verify")
    assert page is not None
    assert page.parent == root.with_name("photos-protected-report")
    assert page.is_file()
    assert not desk.close()


def test_protecting_stops_and_goes_on_and_is_found_again(desk: Desk, make_pictures: MakePictures) -> None:
    root = make_pictures({"cats": 25, "dogs": 25}, side=120)
    desk.choose_strength("strong")
    desk.choose_folder(str(root))
    desk.protect()  # the preview and the plan give way
    wait(lambda: desk.jobs["protect"].stage == "write" and desk.jobs["protect"].done > 2)
    desk.stop()
    stopped = ended(desk, "protect")
    assert stopped.state == "stopped"
    assert "finished and whole" in stopped.problem
    assert "command" not in stopped.problem

    again = Desk()
    try:
        again.choose_folder(str(root))
        assert (again.output, again.strength) == (desk.output, "strong")
        again.protect()
        done = ended(again, "protect")
        assert done.state == "done", done.problem
        assert done.result["resumed_rows"] > 2
        again.choose_folder(str(root))
        assert again.earlier is not None
        assert again.earlier.output == desk.output
        assert again.output == root.with_name("photos-protected-2")
        assert ended(again, "preview").state == "done"
        again.take_earlier()
        assert again.jobs["preview"].result, "it shows the strength of those copies"
        assert again.publish_command().split()[-1] == f"{desk.output}-public"
        done = ended(again, "protect")
        assert done.result["already_done"]
        assert again.output == desk.output
    finally:
        again.close()


def test_copies_that_a_terminal_made_are_gone_to_as_they_are(desk: Desk, make_pictures: MakePictures) -> None:
    root = make_pictures({"cats": 3, "dogs": 3})
    out = root.with_name("photos-protected")
    protect_folder(root, out, format="webp", metadata="private", mark="no-ai")
    desk.choose_folder(str(root))
    assert "--metadata" not in desk.command("protect"), "copies that the page makes anew are like others"
    desk.take_earlier()
    done = ended(desk, "protect")
    assert done.state == "done", done.problem
    assert done.result["already_done"]
    asked = desk.command("protect").split()[2:]
    assert asked == [str(root), str(out), "--format", "webp", "--metadata", "private", "--mark", "no-ai"]


def test_lost_work_says_so_and_closing_lets_it_go_on(desk: Desk, make_pictures: MakePictures) -> None:
    root = make_pictures({"cats": 25, "dogs": 25}, side=120)
    desk.choose_folder(str(root))
    desk.protect()
    wait(lambda: desk.jobs["protect"].stage == "write" and desk.jobs["protect"].done > 0)
    process = desk._worker._process
    assert process is not None
    process.kill()
    lost = ended(desk, "protect")
    assert lost.state == "failed"
    assert "goes on from there" in lost.problem
    desk.protect()
    wait(lambda: desk.jobs["protect"].stage == "write" and desk.jobs["protect"].done > 1)
    process = desk._worker._process
    assert process is not None
    assert desk.close()
    assert not process.is_alive()
    assert process.exitcode == 0
    assert desk.output is not None
    kept = {path.name for path in desk.output.iterdir()}
    assert "bitterant-manifest.jsonl" in kept
    assert "bitterant-run.json" not in kept
    assert not [name for name in kept if name.startswith(".bitterant-tmp")]


def test_a_folder_that_cannot_be_protected_says_why_before_anything(desk: Desk, make_pictures: MakePictures) -> None:
    desk.choose_folder(str(make_pictures({"cats": 3})))
    plan = ended(desk, "plan")
    assert plan.state == "failed"
    assert "only one class folder" in plan.problem
    assert ended(desk, "preview").state == "done"  # how noise looks on it can be seen all the same


def test_the_command_line_is_the_same_as_what_the_page_does(idle: Desk, make_pictures: MakePictures) -> None:
    root = make_pictures({"cats": 3, "dogs": 3}, name="it's mine")
    idle.choose_folder(str(root))
    assert idle.command("protect").startswith("bitterant protect '")
    assert "--strength" not in idle.command("protect")
    idle.choose_strength("subtle")
    assert idle.command("protect").endswith("--strength subtle")
    assert idle.command("verify").endswith("--preset smoke")
    idle.choose_output("")
    assert idle.output_problem
    idle.choose_output(str(root.parent / "out"))
    assert idle.output_problem == ""
    assert idle.command("verify").split()[-3] == str(root.parent / "out")


def test_what_to_do_next_begins_with_a_test_where_there_was_none() -> None:
    without, tested = next_steps("out", False), next_steps("out", True)
    assert [step for step in without if step not in tested] == [without[1]]
    assert any("out" in step for step in tested)


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (
            {"figures": (0.7, 0.301, 0.1)},
            "on your originals recognised 70, and one trained on the copies 30; guessing gets 10.",
        ),
        ({"weakest": "none"}, "do not stop every trainer"),
        ({"weakest": "inconclusive"}, "could not decide"),
        ({"failed": ["G1"]}, "says nothing about your copies: its models learned too little from your originals"),
        ({"failed": ["G5"]}, "says nothing about your copies: see the report"),
        ({"weakest": "strong", "sorted": True, "missing": 1}, "by how they look. 1 original has no copy."),
    ],
)
def test_a_verdict_is_told_in_plain_words(result: dict[str, Any], told: str) -> None:
    whole = {"figures": None, "weakest": None, "failed": [], "sorted": False, "missing": 0, **result}
    assert told in words.verdict(whole)
    assert words.said_something(whole) != told.startswith("says nothing")
