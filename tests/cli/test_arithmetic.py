"""The same training gives the same bytes on another machine: a processor with fewer instructions stands for one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from bitterant.errors import ConfigError

Run = Callable[..., Result]
FIXTURES = Path(__file__).resolve().parents[1] / "protect/methods/t2ue"
SCRIPT = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "pinned":
    from bitterant.cli.boundary import pin_arithmetic
    pin_arithmetic()
import torch
from conftest import TinyPair, WIDTH
from bitterant.protect.methods.t2ue import CaptionPairs, SSANoiseGenerator, TextEmbedder, TrainRecipe, train_t2ue
from bitterant.surrogates import own_randomness

images = torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
pairs = CaptionPairs.of(images, [[f"thing {row}", f"a photo of thing {row}"] for row in range(12)])
surrogate = TinyPair()
with own_randomness(0):
    net = SSANoiseGenerator(latent_dim=8, text_dim=WIDTH, ngf=8, multipliers=(2, 2, 1), hidden=16, mask_hidden=8,
                            gate_init=1.0, text_init=1.5, carriers=(4, 8))
recipe = TrainRecipe(steps=3, batch_size=6, image_side=16, warmup=1)
train_t2ue(pairs, surrogate, net, TextEmbedder.of(surrogate.texts), recipe, device=torch.device("cpu"))
digest = hashlib.sha256()
for name, value in sorted(net.state_dict().items()):
    digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), digest.hexdigest())
"""


def trained(how: str, **environment: str) -> tuple[str, str, str]:
    """Instructions, threads and digest of a training in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(FIXTURES), how],
        env={**os.environ, **environment}, capture_output=True, text=True, check=True, timeout=280,
    )  # fmt: skip
    first, second, third = done.stdout.split()[-3:]
    return first, second, third


PINNED = """
import os, sys
from bitterant.cli import boundary

def prepared(load=boundary.prepare_torch):
    load()
    import torch
    torch.cuda.is_available = lambda: sys.argv[2] == "gpu"

boundary.prepare_torch = prepared
boundary.pin_arithmetic(sys.argv[1])
import torch
torch.rand(9).sum()
print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), *map(os.environ.get, boundary._LOWEST))
"""


@pytest.mark.parametrize(
    ("device", "machine", "pinned"),
    [("auto", "gpu", False), ("auto", "no gpu", True), ("cuda", "gpu", False), ("cpu", "gpu", True)],
)
def test_only_a_cpu_is_pinned(device: str, machine: str, pinned: bool) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "MKL_CBWR": "AVX2"}
    for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", PINNED, device, machine],
        env=environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    capability, *found = done.stdout.split()[-5:]
    assert found == (["1", "default", "SSE41", "COMPATIBLE"] if pinned else ["2", "None", "None", "AVX2"])
    assert capability == "DEFAULT" or not pinned


def test_auto_takes_a_gpu_where_there_is_one(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from bitterant.protect.methods.t2ue import generator_training
    from bitterant.surrogates import resolve_device

    asked: list[torch.device] = []

    def made(request: generator_training.TrainRequest, **_: object) -> None:
        asked.append(resolve_device(request.device))
        raise ConfigError("far enough")

    monkeypatch.setattr(generator_training, "make_generator", made)
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert "far enough" in run("t2ue", "train", "--out", tmp_path / "out", "--device", "auto").stderr
    assert [device.type == "cuda" for device in asked] == [True, False]


@pytest.mark.slow
def test_a_processor_with_fewer_instructions_makes_the_same_generator() -> None:
    here = trained("pinned")
    assert here == trained("pinned", ATEN_CPU_CAPABILITY="default", ONEDNN_MAX_CPU_ISA="SSE41", OMP_NUM_THREADS="2")
    assert here == trained("pinned", ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2")
    assert here[:2] == ("DEFAULT", "1")
    free = [trained("free"), trained("free", ATEN_CPU_CAPABILITY="default", ONEDNN_MAX_CPU_ISA="SSE41")]
    if free[0][0] != "DEFAULT":
        assert free[0][2] != free[1][2], "without pinning the processor shows"
