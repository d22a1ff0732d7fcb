"""Trainings that are kept: what they are known by, that a stopped run goes on to the same result, and damaged files."""

from __future__ import annotations

import hashlib
import importlib
import io
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, load_file, save_file
from torch import Tensor

from bitterant.attacks.adversaries import create_adversaries
from bitterant.attacks.adversaries.learning import PlainTraining
from bitterant.attacks.adversaries.objectives import AdversarialObjective
from bitterant.attacks.adversaries.prior import Recovery
from bitterant.attacks.config import VerifyConfig
from bitterant.attacks.data.sets import VerificationData, load_sets
from bitterant.attacks.evaluation import RULE
from bitterant.attacks.own_victims import Victim
from bitterant.attacks.request import plan_conditions, resolve_request
from bitterant.attacks.schema import Plan
from bitterant.attacks.training import cache as keys_module
from bitterant.attacks.training.cache import CellCache, CellKeys, Identity, describe
from bitterant.attacks.training.cells import Cell, CellResult, CellTask
from bitterant.attacks.training.executor import ProcessExecutor, SerialExecutor
from bitterant.attacks.training.grid import GridResult, run_grid
from bitterant.attacks.training.store import ArrayStore
from bitterant.errors import OutputError
from bitterant.imaging import ImageSet
from bitterant.surrogates import CurvePoint, Recipe, create_surrogate

TINY = Recipe(steps=4, batch_size=8)
NAMES = ("jpeg:10", "last-layer:0.5", "recover:0.5", "early-stop")
Plant = Callable[..., ImageSet]


@pytest.fixture(scope="module")
def data(train_set: ImageSet, test_set: ImageSet, plant: Plant) -> VerificationData:
    few = list(range(24))
    return load_sets(train_set.select(few), plant(train_set.select(few)), test_set.select(few), epsilon=8 / 255)


class Grid:
    """A small grid that can be run again and again, each time as a new process would."""

    def __init__(self, data: VerificationData, place: Path, *, max_minutes: float | None = None) -> None:
        self.data, self.place, self.runs = data, place, 0
        self.adversaries = {made.name: made for made in create_adversaries(NAMES)}
        request = resolve_request(VerifyConfig(
            preset="quick", victims=("small-cnn",), adversaries=NAMES, seeds=2, seed=0, require_tier=None,
            require_grade=None, max_minutes=max_minutes, recipe=TINY,
        ))  # fmt: skip
        self.plan = Plan(
            rule=RULE, preset="quick", seed=0, victim_seeds=(11, 12), conditions=plan_conditions(request), recipes={},
            resolution=16, train_images=24, test_images=24, noise_levels=8, alpha=0.05, draws=200, evals=2,
            max_minutes=max_minutes, required_tier=None, required_grade=None, data_sha256="0",
        )  # fmt: skip

    def run(self, cells: Path | None, *, executor: Any = None, fresh: bool = False, **options: Any) -> GridResult:
        self.runs += 1
        staging = self.place / f"staging-{self.runs}"
        staging.mkdir()
        store = ArrayStore(staging, self.data, self.adversaries, seed=0, executor=SerialExecutor())
        cache = None if cells is None else CellCache(cells, fresh=fresh)
        options = {"step": lambda *_: None, **options}
        return run_grid(
            self.plan, store, {"small-cnn": TINY}, self.adversaries, executor or SerialExecutor(), device="cpu",
            cache=cache, **options,
        )  # fmt: skip


class Watched(SerialExecutor):
    """Trains here and remembers what; stops before the training of this number, as Ctrl-C does."""

    def __init__(self, stop_before: int | None = None, *, backwards: bool = False) -> None:
        self.stop_before, self.backwards = stop_before, backwards
        self.trained: list[Cell] = []

    def run(self, function: Any, tasks: Sequence[CellTask]) -> Iterator[tuple[int, CellResult]]:  # type: ignore[override]
        for position in reversed(range(len(tasks))) if self.backwards else range(len(tasks)):
            if len(self.trained) == self.stop_before:
                raise KeyboardInterrupt
            self.trained.append(tasks[position].cell)
            yield position, function(tasks[position])


def without_time(result: CellResult) -> tuple[Any, ...]:
    arrays = (result.predictions, result.peak_predictions, result.validated_predictions)
    return (
        result.cell, result.steps, result.train_accuracy, repr(result.final_loss), result.finite, result.peak_step,
        result.curve, *(None if array is None else array.tolist() for array in arrays),
    )  # fmt: skip


def outcome(grid: GridResult) -> dict[Cell, tuple[Any, ...]]:
    return {cell: without_time(result) for cell, result in grid.cells.items()}


@pytest.fixture(scope="module")
def undisturbed(data: VerificationData, tmp_path_factory: pytest.TempPathFactory) -> dict[Cell, tuple[Any, ...]]:
    """What the grid gives where nothing is kept: 3 x 2 plain, one control, 2 x 2 with JPEG, twice 3 x 2 that go on."""
    found = outcome(Grid(data, tmp_path_factory.mktemp("undisturbed")).run(None))
    assert len(found) == 23
    return found


# Keys.


PLAIN = Cell("clean", "none", "small-cnn", 0, 11)
RECOVER = Cell("protected", "recover:0.5", "small-cnn", 0, 11)


@dataclass(frozen=True)
class Setup:
    """All that a key is made of."""

    data: VerificationData
    cell: Cell = PLAIN
    names: tuple[str, ...] = ("jpeg:10", "recover:0.5", "fast-adversarial:8", "knn:small-cnn")
    recipe: Recipe = TINY
    evals: int = 2
    device: str = "cpu"

    def key(self, folder: Path) -> str:
        folder.mkdir()
        made = {adversary.name: adversary for adversary in create_adversaries(self.names)}
        store = ArrayStore(folder, self.data, made, seed=0, executor=SerialExecutor())
        keys = CellKeys(store, {self.cell.victim: self.recipe}, made, evals=self.evals, device=self.device)
        found = keys.cell(self.cell)
        assert found is not None
        return found.key


def changed(array: np.ndarray) -> np.ndarray:
    """One value moved by one."""
    result = array.copy()
    first = int(result.flat[0])
    result.flat[0] = first + 1 if first < 3 else first - 1
    return result


def data_with(setup: Setup, **arrays: np.ndarray) -> Setup:
    return replace(setup, data=replace(setup.data, **arrays))


OTHERS: dict[str, tuple[Callable[[Setup], Setup], Callable[[Setup], Setup]]] = {
    # what the key belongs to, and what is different
    "a training pixel": (lambda s: s, lambda s: data_with(s, clean=changed(s.data.clean))),
    "a training label": (lambda s: s, lambda s: data_with(s, labels=changed(s.data.labels))),
    "a test pixel": (lambda s: s, lambda s: data_with(s, test_images=changed(s.data.test_images))),
    "a test label": (lambda s: s, lambda s: data_with(s, test_labels=changed(s.data.test_labels))),
    "a pixel of the few clean pictures": (
        lambda s: replace(s, cell=RECOVER),
        lambda s: data_with(s, clean=np.where(s.data.clean > 0, s.data.clean - 1, 0).astype(np.uint8)),
    ),
    "a pixel that was learned before": (
        lambda s: replace(s, cell=RECOVER),
        lambda s: data_with(s, protected=changed(s.data.protected)),
    ),
    "the number of classes": (
        lambda s: s,
        lambda s: replace(s, data=replace(s.data, classes=(*s.data.classes, "fifth"))),
    ),
    "the pictures' treatment": (lambda s: s, lambda s: replace(s, cell=replace(s.cell, adversary="jpeg:10"))),
    "the learner": (lambda s: s, lambda s: replace(s, cell=replace(s.cell, adversary="fast-adversarial:8"))),
    "the control": (lambda s: replace(s, cell=replace(RECOVER, arm="clean")),
                    lambda s: replace(s, cell=replace(RECOVER, arm="untrained"))),
    "what learns": (lambda s: replace(s, cell=replace(s.cell, adversary="knn:small-cnn")),
                    lambda s: replace(s, cell=replace(s.cell, adversary="none"))),
    "the recipe": (lambda s: s, lambda s: replace(s, recipe=replace(TINY, lr=0.1 + 1e-16 + 1e-9))),
    "the recipe's infinity": (lambda s: s, lambda s: replace(s, recipe=replace(TINY, clip_norm=math.inf))),
    "the points of the curve": (lambda s: s, lambda s: replace(s, evals=3)),
    "the victim": (lambda s: s, lambda s: replace(s, cell=replace(s.cell, victim="convmixer"))),
    "the victim's seed": (lambda s: s, lambda s: replace(s, cell=replace(s.cell, victim_seed=12))),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_what_a_result_depends_on_is_in_its_key(tmp_path: Path, data: VerificationData, what: str) -> None:
    base, change = OTHERS[what]
    setup = base(Setup(data))
    assert setup.key(tmp_path / "a") == setup.key(tmp_path / "b"), "the same again is the same"
    assert change(setup).key(tmp_path / "c") != setup.key(tmp_path / "d")


def test_names_are_not_in_a_key(tmp_path: Path, data: VerificationData) -> None:
    """An arm of the very same pictures is the same training, whatever it is called, and so is another card's."""
    setup = Setup(replace(data, protected=data.clean.copy()))
    base = setup.key(tmp_path / "base")
    renamed = replace(setup.cell, arm="protected", seed_index=7)
    assert replace(setup, cell=renamed).key(tmp_path / "arm") == base
    assert replace(setup, names=()).key(tmp_path / "less") == base
    assert data_with(setup, clean=np.ascontiguousarray(data.clean)).key(tmp_path / "bytes") == base


@pytest.mark.parametrize("part", ["bitterant", "code", "torch", "device", "bfloat16"])
def test_the_program_is_in_the_key(
    tmp_path: Path, data: VerificationData, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    before, facts = Setup(data).key(tmp_path / "a"), keys_module.program_facts("cpu")
    monkeypatch.setattr(keys_module, "program_facts", lambda _: {**facts, part: "another"})
    assert part in facts
    assert Setup(data).key(tmp_path / "b") != before


def test_the_number_of_a_device_is_not_and_its_kind_is() -> None:
    first, second = (keys_module.program_facts(name) for name in ("cuda:0", "cuda:1"))
    assert first == second
    assert first["device"] == "cuda"


def test_weights_are_known_by_what_they_hold_and_not_by_where_they_lie(tmp_path: Path, data: VerificationData) -> None:
    state = create_surrogate("cifar-resnet20", num_classes=4, resolution=16, seed=1).net.state_dict()
    paths = [tmp_path / name for name in ("here.safetensors", "there.safetensors", "other.safetensors")]
    for path in paths[:2]:
        save_file(state, path)
    first = next(iter(state))
    save_file({**state, first: state[first] + 1}, paths[2])

    def key(path: Path) -> str:
        victim = f"cifar-resnet20@{path}"
        cell = Cell("clean", f"fine-tune:{victim}", victim, 0, 11)
        return Setup(data, cell, (cell.adversary,)).key(tmp_path / f"{path.stem}-store")

    here, there, other = (key(path) for path in paths)
    assert here == there
    assert here != other


def test_comments_do_not_count_as_code(tmp_path: Path) -> None:
    texts = {
        "a": '"""Doc."""\n\ndef f(x):\n    """Adds."""\n    return x + 1\n',
        "b": '"""Another."""\n# A reason.\n\ndef f(x):\n    return x + 1\n',
        "c": '"""Doc."""\n\ndef f(x):\n    """Adds."""\n    return x + 2\n',
    }
    for name, text in texts.items():
        (tmp_path / name / "surrogates").mkdir(parents=True)
        (tmp_path / name / "surrogates" / "training.py").write_text(text)
    digests = {name: keys_module._code_digest(tmp_path / name) for name in texts}
    assert digests["a"] == digests["b"] != digests["c"]


def test_the_parts_of_an_own_victim_are_in_the_key_wherever_they_are_written(
    tmp_path: Path, data: VerificationData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights, and the function that builds it, are the same; what it does with them is not."""
    parts, net = tmp_path / "net_parts.py", (
        "from torch import nn\n\n\n"
        "class Mine(nn.Linear):\n"
        "    def forward(self, images):\n"
        "        return {} * super().forward(images.mean((2, 3)))\n"
    )  # fmt: skip
    parts.write_text(net.format(1))
    (tmp_path / "net_builder.py").write_text(
        "from net_parts import Mine\n\n\ndef build(classes, resolution):\n    return Mine(3, classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    victim = Victim("mine", importlib.import_module("net_builder").build)
    monkeypatch.setattr(keys_module, "find_victim", lambda name: victim if name == "mine" else None)
    setup = Setup(data, cell=replace(PLAIN, victim="mine"))
    base = setup.key(tmp_path / "a")
    assert setup.key(tmp_path / "b") == base
    parts.write_text(net.format(0))
    assert setup.key(tmp_path / "c") != base


def test_the_bases_of_a_learner_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "plug_in_base.py"
    base.write_text("class Base:\n    length = 1\n")
    (tmp_path / "plug_in_child.py").write_text(
        "from dataclasses import dataclass\nfrom plug_in_base import Base\n\n\n"
        "@dataclass\nclass Child(Base):\n    x: int = 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    child = importlib.import_module("plug_in_child").Child()
    before = describe(child)
    assert describe(child) == before
    base.write_text("class Base:\n    length = 2\n")
    assert describe(child) != before


def test_learners_are_told_apart_by_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learners = [
        PlainTraining(), Recovery(), Recovery(rate=0.3), PlainTraining(AdversarialObjective(0.1, 1, 1.0)),
        PlainTraining(AdversarialObjective(0.1, 2, 1.0)),
    ]  # fmt: skip
    assert len({str(describe(learner)) for learner in learners}) == len(learners)
    # A plug-in's own code counts too.
    module = tmp_path / "plug_in.py"
    module.write_text("class Mine:\n    pass\ndef loss(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    plug_in = importlib.import_module("plug_in")
    before = describe(PlainTraining(plug_in.loss))
    module.write_text("class Mine:\n    pass\ndef loss(): return 2\n")
    assert describe(PlainTraining(plug_in.loss)) != before
    with pytest.raises(TypeError, match="Mine"):
        describe(PlainTraining(plug_in.Mine()))


class Opaque:
    """An objective that may hold anything."""

    def __call__(
        self, model: torch.nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        logits = model(batch).float()
        return F.cross_entropy(logits, target), logits


def test_a_learner_that_cannot_be_described_is_trained_every_time(
    tmp_path: Path, data: VerificationData, undisturbed: Mapping[Cell, Any]
) -> None:
    grid, watched = Grid(data, tmp_path), Watched()
    grid.adversaries["jpeg:10"].learner = lambda: PlainTraining(Opaque())  # type: ignore[method-assign]
    grid.run(tmp_path / "cells")
    assert outcome(grid.run(tmp_path / "cells", executor=watched)) == undisturbed
    assert len(watched.trained) == 4
    assert {cell.adversary for cell in watched.trained} == {"jpeg:10"}


# Files.


def a_result(**changes: Any) -> CellResult:
    curve = (CurvePoint(2, 0.5, 0.1 + 0.2, 1 / 3, 2 / 3), CurvePoint(4, 1.0, math.inf, 1.0, None))
    values: dict[str, Any] = {
        "cell": PLAIN,
        "steps": 4,
        "train_accuracy": 1 / 7,
        "final_loss": math.nan,
        "finite": False,
        "predictions": np.array([0, 1, 2]),
        "peak_predictions": np.array([2, 1, 0]),
        "peak_step": 2,
        "curve": curve,
        "seconds": 1.25,
        "validated_predictions": np.array([1, 1, 1]),
    }
    return CellResult(**{**values, **changes})


IDENTITY = Identity('{"this": "one"}')


@pytest.mark.parametrize(
    "changes", [{}, {"validated_predictions": None, "curve": ()}, {"final_loss": 0.1, "finite": True}]
)
def test_a_result_comes_back_to_the_last_bit_under_the_new_name(tmp_path: Path, changes: dict[str, Any]) -> None:
    kept = a_result(**changes)
    CellCache(tmp_path).write(IDENTITY, kept)
    now = Cell("protected", "mix:0.5", "small-cnn", 3, 11)
    found = CellCache(tmp_path).read(IDENTITY, now, 3)
    assert found is not None
    assert without_time(found) == without_time(replace(kept, cell=now))
    assert found.seconds == 1.25
    assert found.record(np.zeros(3, dtype=np.int64)) == replace(kept, cell=now).record(np.zeros(3, dtype=np.int64))


def pickled(_: bytes) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, about=np.array([{"a": 1}], dtype=object))
    return stream.getvalue()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "no archive": lambda _: b"this is a note to myself",
    "cut off": lambda whole: whole[: len(whole) // 2],
    "a bit flipped": lambda whole: whole[:150] + bytes([whole[150] ^ 4]) + whole[151:],
    "a pickle": pickled,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_told_and_not_used(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pickle.load", lambda *_, **__: pytest.fail("it was unpickled"))
    cache = CellCache(tmp_path)
    cache.write(IDENTITY, a_result())
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with caplog.at_level(logging.WARNING, "bitterant"):
        assert cache.read(IDENTITY, PLAIN, 3) is None
    assert "done again" in caplog.text
    assert str(path) in caplog.text
    cache.write(IDENTITY, a_result())
    assert cache.read(IDENTITY, PLAIN, 3) is not None, "it was replaced"


def test_a_foreign_file_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, other = CellCache(tmp_path), Identity('{"another": "one"}')
    cache.write(other, a_result())
    (tmp_path / f"{other.key}.npz").rename(tmp_path / f"{IDENTITY.key}.npz")
    with caplog.at_level(logging.WARNING, "bitterant"):
        assert cache.read(IDENTITY, PLAIN, 3) is None
        assert "another training" in caplog.text
        cache.write(IDENTITY, a_result())
        assert cache.read(IDENTITY, PLAIN, 4) is None
    assert "4 test pictures" in caplog.text
    (tmp_path / f"{other.key}.npz").mkdir()
    assert cache.read(other, PLAIN, 3) is None


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    cache = CellCache(tmp_path)
    digest = hashlib.sha256(f"{IDENTITY.key}.npz".encode()).hexdigest()[:16]
    half, foreign = tmp_path / f".bitterant-tmp-{digest}-0123456789abcdef", tmp_path / ".bitterant-tmp-of-another-run"
    half.touch()
    foreign.touch()
    assert cache.read(IDENTITY, PLAIN, 3) is None
    assert not half.exists()
    assert foreign.exists()


def test_a_full_disk_is_told_once_and_stops_nobody(
    tmp_path: Path, data: VerificationData, undisturbed: Mapping[Cell, Any], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    grid = Grid(data, tmp_path)
    (tmp_path / "cells").mkdir()

    def full(path: Path, content: bytes, **options: Any) -> None:
        if path.name != "CACHEDIR.TAG":
            raise OutputError("the disk is full")

    for place in ("training.cache", "adversaries.learning"):
        monkeypatch.setattr(f"bitterant.attacks.{place}.write_atomic", full)
    with caplog.at_level(logging.WARNING, "bitterant"):
        assert outcome(grid.run(tmp_path / "cells")) == undisturbed
    assert caplog.text.count("the disk is full") == 1


def test_a_place_that_cannot_be_written_is_told_before_the_first_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a part of the path is a file"):
        CellCache(tmp_path / "file" / "cells")


# Runs.


@pytest.mark.parametrize("stop_before", [0, 5, 13, 22])
def test_a_stopped_run_goes_on_to_the_same_result(
    tmp_path: Path, data: VerificationData, undisturbed: Mapping[Cell, Any], stop_before: int
) -> None:
    grid, cells, first = Grid(data, tmp_path), tmp_path / "cells", Watched(stop_before)
    with pytest.raises(KeyboardInterrupt):
        grid.run(cells, executor=first)
    second = Watched()
    result = grid.run(cells, executor=second)
    assert outcome(result) == undisturbed
    assert result.reused == set(first.trained)
    assert len(first.trained) == stop_before
    assert set(second.trained) == undisturbed.keys() - set(first.trained)
    third = Watched(stop_before=0)
    assert outcome(grid.run(cells, executor=third)) == undisturbed, "nothing is left to train"


def test_neither_order_nor_workers_matter(
    tmp_path: Path, data: VerificationData, undisturbed: Mapping[Cell, Any]
) -> None:
    grid, cells = Grid(data, tmp_path), tmp_path / "cells"
    with pytest.raises(KeyboardInterrupt):
        grid.run(cells, executor=Watched(9, backwards=True))
    pool = ProcessExecutor(2)
    try:
        assert outcome(grid.run(cells, executor=pool)) == undisturbed
    finally:
        pool.close()
    assert outcome(grid.run(cells, executor=Watched(0, backwards=True))) == undisturbed


def test_who_goes_on_from_a_kept_training_needs_its_network_or_trains_it_again(
    tmp_path: Path, data: VerificationData, undisturbed: Mapping[Cell, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the network is there, was never kept, is damaged, or is another one: the result is the same."""
    grid, cells = Grid(data, tmp_path), tmp_path / "cells"
    with pytest.raises(KeyboardInterrupt):
        grid.run(cells, executor=Watched(11))  # the plain trainings, the control, and those with JPEG
    networks = sorted(cells.glob("*.safetensors"))
    assert len(networks) == 4, "clean and protected, two seeds; nobody goes on from noise"
    networks[0].unlink()
    networks[1].write_bytes(b"damaged")
    whole = networks[2].read_bytes()
    networks[2].write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    networks[3].write_bytes(whole)
    with caplog.at_level(logging.WARNING, "bitterant"):
        result = grid.run(cells)
    assert outcome(result) == undisturbed
    assert len(result.reused) == 11
    assert all(str(path) in caplog.text for path in networks[1:])
    before, after = load(whole), load_file(networks[2])
    assert all(torch.equal(after[name], value) for name, value in before.items()), "it was replaced"
    caplog.clear()
    grid.run(cells, executor=Watched(0))
    assert caplog.text == ""


def test_a_fresh_run_ignores_and_replaces_what_is_there(
    tmp_path: Path, data: VerificationData, undisturbed: Mapping[Cell, Any]
) -> None:
    grid, cells = Grid(data, tmp_path), tmp_path / "cells"
    grid.run(cells)
    before = {path.name: path.stat().st_mtime_ns for path in cells.glob("*.*") if path.name != "CACHEDIR.TAG"}
    watched = Watched()
    result = grid.run(cells, executor=watched, fresh=True)
    assert outcome(result) == undisturbed
    assert result.reused == set()
    assert set(watched.trained) == undisturbed.keys()
    after = {path.name: path.stat().st_mtime_ns for path in cells.glob("*.*") if path.name != "CACHEDIR.TAG"}
    assert after.keys() == before.keys()
    assert all(after[name] > before[name] for name in after)


class Minutes(Watched):
    """Every training takes a minute of a clock that this keeps; nothing is trained."""

    def __init__(self, stop_before: int | None = None) -> None:
        super().__init__(stop_before)
        self.now = 0.0

    def run(self, function: Any, tasks: Sequence[CellTask]) -> Iterator[tuple[int, CellResult]]:
        def pretend(task: CellTask) -> CellResult:
            self.now += 60.0
            answers = np.zeros(24, dtype=np.int64)
            return a_result(cell=task.cell, predictions=answers, peak_predictions=answers,
                            validated_predictions=None, seconds=60.0)  # fmt: skip

        return super().run(pretend, tasks)


def test_reused_trainings_cost_no_time_and_what_does_not_fit_is_still_dropped(
    tmp_path: Path, data: VerificationData
) -> None:
    """none takes seven minutes, JPEG four, last-layer six, recover six; early-stop reads what none left."""
    ids = ["none", "jpeg:10", "last-layer:0.5", "recover:0.5", "early-stop"]
    grid, cells = Grid(data, tmp_path, max_minutes=11.5), tmp_path / "cells"
    kept: list[list[str]] = []
    for reused in (0, 11, 17, 23):
        clock = Minutes()
        result = grid.run(cells, executor=clock, clock=lambda clock=clock: clock.now)
        kept.append([name for name in ids if f"small-cnn/{name}" not in result.dropped])
        assert len(result.reused) == reused
        assert clock.now <= 11.5 * 60
        assert all("11.5 minutes" in reason for reason in result.dropped.values())
        assert len(result.cells) == reused + len(clock.trained)
    assert kept == [
        ["none", "jpeg:10", "early-stop"],
        ["none", "jpeg:10", "last-layer:0.5", "early-stop"],
        ids,
        ids,
    ]


def test_a_condition_that_is_dropped_leaves_no_half(tmp_path: Path, data: VerificationData) -> None:
    """Of a condition in the middle of which a run was killed nothing may be told where it does not fit in."""
    cells = tmp_path / "cells"
    with pytest.raises(KeyboardInterrupt):
        Grid(data, tmp_path).run(cells, executor=Minutes(12))
    (tmp_path / "b").mkdir()
    clock = Minutes()
    result = Grid(data, tmp_path / "b", max_minutes=0.5).run(cells, executor=clock, clock=lambda: clock.now)
    assert {cell.adversary for cell in result.cells} == {"none", "jpeg:10"}
    assert set(result.dropped) == {"small-cnn/last-layer:0.5", "small-cnn/recover:0.5"}
    assert len(result.reused) == 11
    assert clock.now == 0.0


def test_the_bar_takes_reused_trainings_as_free(tmp_path: Path, data: VerificationData) -> None:
    cells, told = tmp_path / "cells", list[tuple[str, float, float, str]]()
    with pytest.raises(KeyboardInterrupt):
        Grid(data, tmp_path).run(cells, executor=Minutes(11))
    (tmp_path / "b").mkdir()
    clock = Minutes()
    Grid(data, tmp_path / "b").run(
        cells, executor=clock, step=lambda *words: told.append(words), clock=lambda: clock.now
    )
    shares = [(share, message) for stage, share, _, message in told if stage == "verify"]
    assert shares[0] == (0.0, "11/23 trainings, 11 of them done before")
    assert shares[1][1].startswith("12/23 small-cnn, last-layer:0.5, ")
    assert shares[-1] == (1.0, shares[-1][1])
    # Twelve are left; as soon as their kinds are known, each is an equal part of the time.
    assert [share for share, _ in shares[7:]] == pytest.approx([n / 12 for n in range(7, 13)], abs=0.08)
    assert told[0][:3] == ("prepare", 0, 23)
    assert [words[:3] for words in told if words[0] == "prepare"][-1] == ("prepare", 23, 23)
