"""What a fit holds beside the set, and what keeping its state costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bitterant.protect.methods import checkpoint
from bitterant.protect.methods.checkpoint import SHARE, Checkpoint

FIT = """
import sys
import torch
from bitterant.imaging import ImageSet
from bitterant.protect import ErrorMinimizing
from bitterant.protect.methods import checkpoint
from bitterant.protect.methods import stages
from bitterant.protect.methods.minimization import CheckResult, SelfCheck

# Nothing is computed: what is looked at is what the fit holds.
stages.pgd_min = lambda frozen, images, labels, delta, **options: delta.add_(0.001)
stages.count_wrong = lambda frozen, images, *args, **options: torch.tensor(len(images))
stages.gradient_sums = lambda frozen, images, rows, labels, seen, **options: torch.ones_like(seen)
stages.SurrogateTrainer.steps = lambda self, *args, **options: 1.0
residuals = iter([RESIDUALS])
SelfCheck.__call__ = lambda self, *args, **options: CheckResult(0.25 + 0.5 * next(residuals), 0.75, 0.25, 1.0, 100)
checkpoint.Checkpoint.due = lambda self, important=False: True  # as often as it ever may

from pathlib import Path
count, side = int(sys.argv[2]), 64
images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
keys = [f"{number:05d}" for number in range(count)]
dataset = ImageSet(images=images, labels=torch.arange(count) % 4, keys=tuple(keys), classes=("a", "b", "c", "d"),
                   native_size=(side, side))
method = ErrorMinimizing(granularity="sample", rounds=1, sample_rounds=1, attempts=3, target=0.0, device="cpu")
bank = method.fit(dataset, checkpoint=Path(sys.argv[1]))
assert bank.report["self_check"]["chosen_attempt"] == CHOSEN
assert Path(sys.argv[1]).stat().st_size > 2 * images.numel()
# Not that of getrusage: it counts the process that started this one, too.
words = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(words.split()[1]) * 1024, images.numel())
"""


def peak(code: str, state: Path, count: int) -> tuple[int, int]:
    """Bytes of resident memory at most, and the values of so many pictures."""
    words = [sys.executable, "-c", code, str(state), str(count)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    most, values = done.stdout.split()[-2:]
    return int(most), int(values)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident memory from /proc")
@pytest.mark.parametrize(("residuals", "chosen"), [("0.5, 0.4, 0.9", 1), ("0.5, 0.6, 0.3", 2)])
def test_sample_wise_crafting_holds_three_bytes_a_value(tmp_path: Path, residuals: str, chosen: int) -> None:
    """By the slope over two sizes, so that neither torch nor a batch is counted; whichever attempt is the best."""
    code = FIT.replace("RESIDUALS", residuals).replace("CHOSEN", str(chosen))
    small, large = (peak(code, tmp_path / "state", count) for count in (1500, 6000))
    slope = (large[0] - small[0]) / (large[1] - small[1])
    assert 2.0 < slope - 1.0 <= 3.5, "beside the set, which is a byte a value"


def test_a_state_that_was_streamed_is_safetensors(tmp_path: Path) -> None:
    tensors = {
        "half": torch.rand(3, 5).half(), "bytes": torch.arange(7, dtype=torch.int8), "one": torch.tensor(3.5),
        "turned": torch.arange(6.0).view(2, 3).T, "none": torch.empty(0, 4), "rounded": torch.rand(3).bfloat16(),
    }  # fmt: skip
    kept = Checkpoint(tmp_path / "state", "mine")
    kept.save(tensors, {"step": 3})
    found = kept.load()
    assert found is not None
    assert found[1] == {"step": 3}
    for state in (found[0], load_file(tmp_path / "state")):
        assert state.keys() == tensors.keys()
        for name, value in tensors.items():
            assert (state[name].dtype, state[name].shape) == (value.dtype, value.shape)
            assert torch.equal(state[name], value)
    assert Checkpoint(tmp_path / "state", "another").load() is None


@pytest.mark.parametrize(("round_seconds", "save_seconds"), [(1.0, 0.01), (1.0, 2.0), (7.0, 3.0), (0.1, 0.5)])
@pytest.mark.parametrize("important", [False, True])
def test_keeping_the_state_takes_a_twentieth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, round_seconds: float, save_seconds: float, important: bool
) -> None:
    clock = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    kept, saves = Checkpoint(tmp_path / "state", "mine"), 0
    real = checkpoint.atomic_file

    def slow(*args: object, **options: object) -> object:
        clock[0] += save_seconds
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "atomic_file", slow)
    for _ in range(600):
        clock[0] += round_seconds
        if kept.due(important=important):
            kept.save({}, {})
            saves += 1
    assert saves >= 2
    assert saves * save_seconds <= SHARE * clock[0] + save_seconds
