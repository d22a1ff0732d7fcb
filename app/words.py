"""What the page says, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..records.config import STRENGTHS, Strength, strengths_of
from ..records.text import counted, duration, pace, size
from .desk import Job, Kind, Preset

TITLE: Final = "Protect your pictures"
LEDE: Final = (
    "Make copies that look nearly the same to people, but from which somebody who trains a model on them without "
    "asking learns little. Everything happens on this computer, and your originals are never changed."
)
FOLDER: Final = "Choose a folder"
FOLDER_LABEL: Final = "Folder of pictures"
FOLDER_EXAMPLE: Final = "Type or paste its path"
FLAT: Final = (
    "There are no folders in it that sort the pictures by what they show. That works, too, but takes longer and "
    "hinders a trainer less. If you know how somebody would sort them, put them in one folder for each kind first."
)
EARLIER: Final = "Copies of this folder were made before:"
STRENGTH: Final = "Choose how strong"
SIDES: Final = {"before": "before", "after": "after", "difference": "difference, ten times"}
LATER: Final = "The work under way comes first. Look again when it is done, or stop it."
COPIES: Final = "Make the copies"
OUTPUT_LABEL: Final = "Where the copies go: a new folder"
LEFT_OUT: Final = (
    "What could not be used has no protected copy. Mend those files or take them out, and protect the folder once more "
    "into another place; or leave them unpublished."
)
VERIFY: Final = "Put them to the test"
ABOUT_VERIFY: Final = (
    "This computer now plays the one who takes your pictures: it trains small models on the originals and on the "
    "copies, and sees how much less they learn from the copies."
)
TOO_FEW: Final = (
    "There may be too few pictures for a test that says anything: it wants 25 or more of each kind. You can try it all "
    "the same."
)
READING: Final = "The nearer the second figure comes to guessing, the less was learned from the copies."
IN_FULL: Final = "In the words of the report"
PUBLISH_LINE: Final = "A folder to publish, made in a terminal: protected copies alone, each of them checked"
NEXT: Final = "What next"
COMMAND_LINE: Final = "The same in a terminal"
GOES_ON: Final[Mapping[Kind, str]] = {
    "protect": "Press Go on when you like, also tomorrow: choose the same folder then, and the same strength and place "
    "if you named another place for the copies, and it goes on from there.",
    "verify": "Press Go on when you like, also tomorrow: choose the same folder then, go to the copies that were made "
    "of it, and start the same test; it goes on from there.",
}

LOOKS: Final = {"auto": "Colours as the system", "light": "Light", "dark": "Dark"}
DARK: Final[Mapping[str, bool | None]] = {"auto": None, "light": False, "dark": True}

#: A shield, so that the tab can be told from others.
ICON: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<path d="M16 2 28 6v9c0 8-5 13-12 15C9 28 4 23 4 15V6z" fill="#7a4a1e"/>'
    '<path d="M9 13h14M9 18h14M11 23h10" stroke="#fff" stroke-width="2" fill="none"/></svg>'
)

STRENGTH_WORDS: Final[Mapping[Strength, str]] = {
    "subtle": "Subtle: hardest to see, hinders least.",
    "balanced": "Balanced: seen on plain areas such as skies and drawings, hardly elsewhere.",
    "strong": "Strong: plainly seen on smooth areas, hinders most.",
}
PRESET_WORDS: Final[Mapping[Preset, str]] = {
    "smoke": "Smoke test: does it work at all? About a minute for some hundred pictures. It gives no grade.",
    "quick": "Quick: a first grade against several kinds of trainers. From some minutes to an hour or more, by the "
    "number of pictures. You can stop it and go on later.",
}
DOING: Final[Mapping[Kind, str]] = {
    "preview": "Trying the strength on some pictures",
    "look": "Loading the picture at full size",
    "plan": "Seeing how long it will take",
    "protect": "Making the copies",
    "verify": "Testing the copies",
}
_GRADES: Final = {"none": "no protection", "inconclusive": "not decided"}


def levels(strength: Strength) -> str:
    """How far a pixel may move, with what ``auto`` takes."""
    textures, others = strengths_of("texture")[strength], STRENGTHS[strength]
    apart = "" if textures == others else f", by {others:g} without class folders"
    return f"A pixel may move by {textures:g} of 255 levels{apart}."


def grade(name: str, complete: bool) -> str:
    """How the copies did against a kind of trainer."""
    return _GRADES.get(name, name) + ("" if complete or name == "not tested" else ", partly tested")


_HELD: Final = {
    "strong": "The copies held: no kind of trainer that was tested learned much more than by guessing.",
    "moderate": "The copies hinder every kind of trainer that was tested clearly, though not wholly.",
    "weak": "The copies hinder a trainer a little: the kind that got furthest still learned much from them.",
    "none": "The copies do not stop every trainer: one of those tested learned nearly what the originals teach.",
    "inconclusive": "The test could not decide how much the copies hinder a trainer. With more pictures it could.",
}
_NOTHING_SAID: Final = {
    "G1": "its models learned too little from your originals, so there is nothing to compare with. Quick trains more "
    "models; best help more pictures, sorted into one folder for each kind",
    "G2": "random noise does the same harm as the protection, so the test is too small to tell them apart. More "
    "pictures help",
    "G3": "its models did not learn the copies by heart, as they should in a test. Quick trains more models",
    "G6": "some copies are not as they were made. Make the copies again, and test them as they are",
}


def verdict(result: Mapping[str, Any]) -> str:
    """What came out of a test, for people who never read a paper; the report has all of it in the field's words."""
    if result["figures"] is not None:
        clean, copies, chance = (f"{100 * share:.0f}" for share in result["figures"])
        told = (
            f"Of 100 pictures that it had never seen, a model trained on your originals recognised {clean}, and one "
            f"trained on the copies {copies}; guessing gets {chance}."
        )
    elif result["weakest"] is not None:
        told = _HELD[result["weakest"]]
    else:
        why = next((text for gate, text in _NOTHING_SAID.items() if gate in result["failed"]), "see the report for why")
        told = f"This test says nothing about your copies: {why}."
    if result["sorted"]:
        told += " As your pictures lie in one folder, the test sorted them by how they look."
    if result["missing"]:
        told += f" {counted(result['missing'], 'original has', 'originals have')} no copy."
    return told


def said_something(result: Mapping[str, Any]) -> bool:
    """Whether a test came to say anything about the copies."""
    return result["figures"] is not None or result["weakest"] is not None


def standing(job: Job, now: float) -> str:
    """Where work under way stands, in a line; ``now`` as of the clock of the desk."""
    if job.state == "stopping":
        return "Stopping as soon as the files in hand are whole"
    if job.kind == "look":
        return DOING["look"]
    return job.words(now)


def plan_facts(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a run would do, as the dry run of the command line says it."""
    besides = [
        f"{counted(plan[key], *names)} {fate}"
        for key, names, fate in (
            ("captions", ("caption file or label map", "caption files and label maps"), "to copy"),
            ("skipped", ("other file",), "left aside"),
        )
        if plan[key]
    ]
    return [
        *([("besides", ", ".join(besides))] if besides else []),
        ("time", f"about {duration(plan['seconds']['total'])}; expect it within a factor of two"),
        ("size", f"{size(plan['bytes_in'])} now, about {size(plan['bytes_out'])} protected"),
    ]


def protect_facts(result: Mapping[str, Any], output: str) -> list[tuple[str, str]]:
    """What was done, and where."""
    rows = [("copies", output)]
    if not result["already_done"]:
        took = [duration(result["seconds"]), pace(result["images_per_second"])]
        rows.append(("time", ", ".join(part for part in took if part)))
    if result["resumed_rows"]:
        rows.append(("done before", f"{result['resumed_rows']} files, before it was stopped"))
    return rows


def next_steps(output: str, verified: bool) -> list[str]:
    """What to do with the copies, in order."""
    steps = [
        "Look at some copies in your usual program at 100 %, above all at skies and skin.",
        f"Publish only the copies in {output}, not the report and lists beside them; keep the originals to yourself.",
        "Publish the files as they are. Making them smaller, saving them as JPEG, and platforms that compress uploads "
        "can wash the protection out.",
        "This is no guarantee: somebody with time, with trained models, or with clean pictures of the same things may "
        "get around it, and copies that are out cannot be protected again.",
    ]
    if not verified:
        steps.insert(1, "Put them to the test above before you rely on them.")
    return steps
