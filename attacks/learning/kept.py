"""Trained networks in files, for adversaries that go on from them."""

from __future__ import annotations

import logging
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ...errors import OutputError
from ...imaging import write_atomic
from ...surrogates import Surrogate

__all__ = ["keep_network", "read_network"]

logger = logging.getLogger(__name__)


def keep_network(network: Surrogate, path: Path) -> None:
    """Write weights and buffers, whole or not at all: several workers may keep the same network at the same time.

    Where that cannot be done nothing is lost but time: whoever goes on from the network trains it again.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    about = {"name": path.stem, "sha256": network.fingerprint()}
    try:
        write_atomic(path, save(state, about), overwrite=True, private=True)
    except OutputError as error:
        logger.info("a trained network is not kept: %s", error)


def read_network(network: Surrogate, path: Path) -> bool:
    """Load what :func:`keep_network` wrote under this name.

    Args:
        network: gets the weights. Where this fails it may hold some of them, and must not be used.
        path: need not exist.

    Returns:
        Whether the very network was there.
    """
    if not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as saved:
            about = saved.metadata() or {}
            network.load_state_dict({key: saved.get_tensor(key) for key in saved.keys()})  # noqa: SIM118
    except (SafetensorError, RuntimeError, OSError) as error:
        logger.warning("%s is not used: %s. The network is trained again.", path, str(error).partition("\n")[0])
        return False
    if (about.get("name"), about.get("sha256")) != (path.stem, network.fingerprint()):
        logger.warning("%s is not used: it holds another network than its name says. It is trained again.", path)
        return False
    return True
