"""Two processes, over loopback, make what one makes; and end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from bitterant.protect import ErrorMinimizing, FitProgress
from bitterant.protect.bank import Bank, load_bank
from bitterant.protect.methods import checkpoint
from bitterant.protect.methods.minimization import SelfCheck
from bitterant.protect.methods.ranks import _COMPUTE, Message, _Leader, ranks

pytest.importorskip("lightning_fabric")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the signals are those of POSIX")

# What both sides run: pytest, alone, and the script below, as two processes.
SHARED = """
import torch
from bitterant.imaging import ImageSet
from bitterant.imaging.image_set import Writable
from bitterant.protect import ErrorMinimizing

torch.set_num_threads(1)

def pictures():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(70, 3, 16, 16, generator=generator)
    labels = torch.arange(70) % 3
    images[:, 0] = (images[:, 0] + labels.view(-1, 1, 1)) / 3
    found = ImageSet.from_tensors(images, labels)
    greys = Writable(torch.arange(70) % 7 == 0)
    return ImageSet(found.images, found.labels, found.classes, found.keys, native_size=(24, 20), writable=greys)

def methods():
    quick = dict(rounds=2, sample_rounds=2, surrogate_steps=2, device="cpu", precision="float32")
    yield "class", ErrorMinimizing(attempts=1, target=0.0, **quick)
    yield "sample", ErrorMinimizing(granularity="sample", attempts=0, **quick)
    yield "paper", ErrorMinimizing(preset="paper", surrogate="small-cnn", **quick)
"""

TOGETHER = (
    SHARED
    + """
import sys
from pathlib import Path
from bitterant.errors import ConfigError, FitError
from bitterant.protect import BayesErrorAscent
from bitterant.protect.methods import checkpoint, ranks
from bitterant.protect.methods.minimization import SelfCheck

checkpoint.Checkpoint.due = lambda self, important=False: True
SelfCheck.__init__.__kwdefaults__["steps"] = 20
folder = Path(sys.argv[1])

class Killed(Exception):
    pass

def die(progress):
    if "round 2" in progress.message:
        raise Killed

def rank_times(factor, number):
    if number == 3:
        raise FitError(f"number {number} in process {torch.distributed.get_rank()}")
    return torch.distributed.get_rank(), factor * number

with ranks.several_processes() as leads:
    if leads:
        crew = ranks.ranks()
        assert crew.size == 2
        assert list(crew.map(rank_times, [(10, 0), (10, 1), (10, 2)])) == [(0, 0), (1, 10), (0, 20)]
        try:
            list(crew.map(rank_times, [(10, 0), (10, 3)]))
        except FitError as error:
            assert str(error) == "number 3 in process 1", error
        else:
            raise AssertionError("an error elsewhere is an error here")
        try:
            BayesErrorAscent(device="cpu").fit(pictures())
        except ConfigError as error:
            assert "beo" in str(error) and "2 were started" in str(error)
        else:
            raise AssertionError("beo is for one process")
        for name, method in methods():
            method.fit(pictures(), checkpoint=folder / "none").save(folder / f"{name}.bank")
        method = dict(methods())["sample"]
        try:
            method.fit(pictures(), progress=die, checkpoint=folder / "by-two")
        except Killed:
            pass
        method.fit(pictures(), checkpoint=folder / "by-one").save(folder / "resumed-by-two.bank")
        print("done")
"""
)


def start(script: str, *words: str) -> list[subprocess.Popen[str]]:
    """Two processes as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(2):
        environment = {
            **os.environ, "TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
            "GROUP_RANK": "0", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
        }  # fmt: skip
        # Lightning loads torchmetrics where it is installed, for its version alone: longer than all the rest takes.
        quick = 'import sys\nsys.modules["torchmetrics"] = None\n'
        command = [sys.executable, "-c", quick + script, *words]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True))
    return started


def finish(started: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each."""
    try:
        told = [process.communicate(timeout=280) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, out, err) for process, (out, err) in zip(started, told, strict=True)]


def perturbations(path: Path) -> torch.Tensor:
    bank = load_bank(path)
    assert isinstance(bank, Bank)
    return bank.levels


class Killed(Exception):
    """Stands for a kill."""


def die(progress: FitProgress) -> None:
    if "round 2" in progress.message:
        raise Killed


def test_two_make_the_banks_of_one_and_go_on_from_each_others_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint.Checkpoint, "due", lambda *_, **__: True)
    defaults = SelfCheck.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "steps", 20)
    before = torch.get_num_threads()
    here: dict[str, Any] = {}
    exec(SHARED, here)
    dataset, methods = here["pictures"](), dict[str, ErrorMinimizing](here["methods"]())
    try:
        with pytest.raises(Killed):
            methods["sample"].fit(dataset, progress=die, checkpoint=tmp_path / "by-one")
        codes = finish(start(TOGETHER, str(tmp_path)))
        assert [code for code, *_ in codes] == [0, 0], codes
        assert codes[0][1] == "done\n"
        assert codes[1][1:] == ("", ""), "only the first speaks"
        for name, method in methods.items():
            method.fit(dataset).save(tmp_path / "alone.bank", overwrite=True)
            assert (tmp_path / "alone.bank").read_bytes() == (tmp_path / f"{name}.bank").read_bytes(), name
        whole = perturbations(tmp_path / "sample.bank")
        resumed = methods["sample"].fit(dataset, checkpoint=tmp_path / "by-two")
        assert torch.equal(resumed.levels, whole)
        assert torch.equal(perturbations(tmp_path / "resumed-by-two.bank"), whole)
    finally:
        torch.set_num_threads(before)


# The command, on one of whose processes something happens while the second round is made.
COMMAND = """
import os, signal, sys
from bitterant.cli import main
from bitterant.errors import SetupError
from bitterant.protect.methods import stages

what, rank, calls = sys.argv[1], os.environ["RANK"], 0
compute = stages.gradient_sums

def happens(*words, **options):
    global calls
    calls += 1
    if rank == "1" and calls == 10:
        if what == "error":
            raise SetupError("The second one cannot go on.")
        os.kill(os.getpid(), signal.SIGKILL if what == "kill" else signal.SIGINT)
    return compute(*words, **options)

stages.gradient_sums = happens
sys.exit(main(["fit", *sys.argv[2:], "--set", "surrogate_steps=1", "--set", "attempts=0", "--resolution", "16",
               "--method", "emn", "--device", "cpu", "--precision", "float32"]))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for label in range(4):
        for number in range(10):
            path = tmp_path / "src" / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (60 * label, 20 * number, 90)).save(path)
    return tmp_path / "src"


@pytest.mark.parametrize(
    ("what", "codes", "told"),
    [
        pytest.param("error", [3, 3], "error: The second one cannot go on.", marks=pytest.mark.slow),
        pytest.param("stop", [130, 130], "Stopped. The fit is under way", marks=pytest.mark.slow),
        ("kill", [3, -signal.SIGKILL], "error: Process 1 of the 2 processes ended without a word"),
    ],
)
def test_what_ends_one_ends_both_with_one_message(
    source: Path, tmp_path: Path, what: str, codes: list[int], told: str
) -> None:
    bank = tmp_path / "out" / "noise.bank"
    ended = finish(start(COMMAND, what, str(source), str(bank)))
    assert [code for code, *_ in ended] == codes, ended
    assert ended[0][2].count(told) == 1
    assert ended[1][1:] == ("", ""), "only the first speaks"
    assert not bank.exists()


def test_a_process_on_its_own_leads_itself() -> None:
    assert ranks().size == 1
    assert list(ranks().map(max, [(1, 2), (5, 3)])) == [2, 5]


class Wire:
    """Two followers that answer each job once, and like gloo's are heard only while nothing of theirs waits."""

    size = 3
    own = staticmethod(torch.device)

    def __init__(self) -> None:
        self.waiting: set[int] = set()

    def send(self, rank: int, kind: int, message: Message) -> None:
        assert rank not in self.waiting, "would wait for ever"
        if kind == _COMPUTE:
            self.waiting.add(rank)

    def send_all(self, message: Message) -> None:
        assert not self.waiting, "would wait for ever"

    def receive(self, rank: int) -> tuple[int, Message]:
        self.waiting.remove(rank)
        return _COMPUTE, Message.of((rank, None, False), {})


def its_own(number: int) -> int:
    if number < 0:
        raise ValueError("no such number")
    return number


@pytest.mark.parametrize("then", ["share", "forget", "map"])
def test_after_an_error_in_its_own_block_the_leader_is_still_understood(then: str) -> None:
    leader = _Leader(Wire())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no such number"):
        list(leader.map(its_own, [(-1,), (1,), (2,)]))
    if then == "share":
        leader.share(pictures=3)
    elif then == "forget":
        leader.forget()
    assert list(leader.map(its_own, [(7,), (1,), (2,)])) == [7, 1, 2]
