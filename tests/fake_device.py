"""A GPU for machines without one: it refuses what is on the CPU, and counts what would make the host wait.

Its tensors hold CPU tensors and call themselves ``cuda``. Operations on them are computed on the CPU, under the rules
of a GPU: operands on the CPU are refused unless they are single numbers, so are generators of the CPU, and whatever the
host can only go on with once the device has answered is counted. To the core of torch the tensors are ``meta`` ones,
whose autograd runs in the thread that asks for it, so a build without CUDA serves.

Only what the rules are about is like CUDA: neither speed nor the last bits of a result, and kernels that torch has for
CUDA alone are not run.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from bitterant.surrogates import arithmetic

CUDA = torch.device("cuda")
_META = torch.device("meta")
_aten: Any = torch.ops.aten

_ASKING = {
    "_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "unique_consecutive", "masked_select", "equal",
    "bincount", "is_nonzero", "nonzero_static", "histc", "_linalg_eigh", "linalg_lstsq",
}  # fmt: skip
"""Operations whose result, or its shape, CUDA has to tell the host."""

_COPIES = {"_to_copy", "copy_", "copy"}


class OnDevice(Tensor):
    """A tensor of the device; ``held`` is on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        made: OnDevice = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=_META, requires_grad=False,
        )  # fmt: skip
        made.held = held
        return made

    __torch_function__: Any = torch._C._disabled_torch_function_impl

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        return False

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"OnDevice({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("A tensor of the fake device is used where there is no such device.")


class DeviceGenerator(torch.Generator):
    """A generator of the device."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA


def _of_device(value: object) -> bool:
    return isinstance(value, torch.device) and value.type in ("cuda", "meta")


class _Rules(TorchDispatchMode):
    """Computes on what the tensors hold, where the rules allow it."""

    def __init__(self, device: FakeDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        flat, form = tree_flatten((args, kwargs))
        mine = [value for value in flat if isinstance(value, OnDevice)]
        target = kwargs.get("device")
        if not mine and not _of_device(target):
            return func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        self._count(name, args, kwargs)
        if name not in _COPIES:
            for value in flat:
                if isinstance(value, Tensor) and not isinstance(value, OnDevice) and (value.ndim or name == "index"):
                    raise RuntimeError(
                        f"Expected all tensors to be on the same device, but found cuda:0 and cpu! "
                        f"({func}, {tuple(value.shape)})"
                    )
        held = [value.held if isinstance(value, OnDevice) else value for value in flat]
        held = [torch.device("cpu") if _of_device(value) else value for value in held]
        inner, options = tree_unflatten(held, form)
        if name == "_pin_memory":
            raise RuntimeError("cannot pin a tensor of the device")
        found = func(*inner, **options)
        if isinstance(target, torch.device) and not _of_device(target):  # a copy to the CPU
            return found.clone() if any(found is value for value in held) else found
        known = {id(value.held): value for value in mine}

        def wrapped(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return known[id(value)] if id(value) in known else OnDevice(value)

        return tree_map(wrapped, found)

    def _count(self, name: str, args: Any, kwargs: Any) -> None:
        asks = name in _ASKING or (name == "repeat_interleave" and kwargs.get("output_size") is None)
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            masks = [index for index in args[1] if index is not None and index.dtype in (torch.bool, torch.uint8)]
            fills = name != "index" and len(args[1]) == 1 and args[2].numel() == 1  # is done as a masked_fill
            asks = bool(masks) and not fills
        if name == "_to_copy":
            asks = self._waits(args[0], kwargs.get("device"), kwargs.get("non_blocking", False))
        if name in ("copy_", "copy"):
            there = CUDA if isinstance(args[0], OnDevice) else torch.device("cpu")
            asks = self._waits(args[1], there, args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        if name.startswith("_fused_"):
            for group in zip(*(value for value in args[:4] if isinstance(value, list | tuple) and value), strict=False):
                if len({value.held.stride() for value in group if value.ndim}) > 1:
                    raise RuntimeError("params, grads and states must have same dtype, device, and layout")
        if asks:
            self._device.asked(name)

    def _waits(self, source: Tensor, target: torch.device | None, non_blocking: bool) -> bool:
        if isinstance(source, OnDevice):
            return target is not None and not _of_device(target)
        return bool(_of_device(target) and not non_blocking)


_SET_DATA: Any = Tensor.data.__set__  # type: ignore[attr-defined]


class _Calls(TorchFunctionMode):
    """What has to be seen before torch itself looks at the names of devices."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        first = args[0] if args else None
        if isinstance(first, OnDevice):
            if name in ("numpy", "__array__"):
                raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
            if name == "tolist":
                return first.detach().cpu().tolist()
            if name == "cpu":
                return first.to("cpu")
        if isinstance(first, OnDevice) and func == _SET_DATA:
            func(*args)
            first.held = args[1].held
            return None
        if name == "cuda":
            return first.to(_META)  # type: ignore[union-attr]
        if name == "pin_memory" and isinstance(first, Tensor):
            return first.clone()
        self._check_generator(func, name, first, kwargs)
        if name in ("tensor", "as_tensor") and _of_device(_device(kwargs.get("device"))):
            del kwargs["device"]
            made = func(*args, **kwargs)
            return made if isinstance(made, OnDevice) else made.to(_META)

        def there(value: Any) -> Any:
            if isinstance(value, str):
                value = CUDA if value == "cuda" else value
            return _META if _of_device(value) else value

        if "device" in kwargs:
            kwargs["device"] = there(kwargs["device"])
        if name == "to":
            args = tuple(there(value) if isinstance(value, torch.device | str) else value for value in args)
        return func(*args, **kwargs)

    def _check_generator(self, func: Any, name: str, first: Any, kwargs: dict[str, Any]) -> None:
        generator = kwargs.get("generator")
        if generator is None:
            return
        at = CUDA if isinstance(first, OnDevice) else _device(kwargs.get("device")) or torch.device("cpu")
        if _of_device(at) != isinstance(generator, DeviceGenerator):
            kinds = ("cuda", "cpu") if _of_device(at) else ("cpu", "cuda")
            raise RuntimeError(f"Expected a '{kinds[0]}' device type for generator but found '{kinds[1]}' ({name})")


def _device(value: object) -> torch.device | None:
    return torch.device(value) if isinstance(value, str) else value  # type: ignore[return-value]


class _Stream:
    def synchronize(self) -> None: ...

    def is_capturing(self) -> bool:
        return False


class FakeDevice:
    """The device while it is there.

    Attributes:
        waits: how often the host had to wait for it, by operation and the line that asked.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """How often the host had to wait."""
        return sum(self.waits.values())

    def asked(self, name: str) -> None:
        """Note that the host waits."""
        frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
        frames = [frame for frame in frames if frame.filename != __file__]
        place = f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else "?"
        self.waits[f"{name} at {place}"] += 1

    def waits_of(self, work: Callable[[], object]) -> Counter[str]:
        """Where the host waits in this work."""
        before = Counter(self.waits)
        work()
        return self.waits - before


@contextlib.contextmanager
def fake_cuda() -> Iterator[FakeDevice]:
    """A machine with one CUDA device, ``cuda``, while this lasts. What was put there must not be used afterwards."""
    device = FakeDevice()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "is_available": lambda: True, "device_count": lambda: 1, "_lazy_init": lambda: None,
            "is_initialized": lambda: True, "synchronize": lambda *_: None, "current_device": lambda: 0,
            "get_device_name": lambda *_: "fake", "is_bf16_supported": lambda **_: False,
            "get_rng_state": lambda *_: torch.get_rng_state(), "set_rng_state": lambda *_: None,
            "manual_seed": lambda *_: None, "device": type("device", (contextlib.nullcontext,), {}),
            "is_current_stream_capturing": lambda: False, "current_stream": lambda *_: _Stream(),
        }.items():  # fmt: skip
            patch.setattr(torch.cuda, name, value)
        if hasattr(torch, "accelerator"):
            patch.setattr(torch.accelerator, "current_stream", lambda *_: _Stream(), raising=False)
        patch.setattr(arithmetic, "device_generator", _generator)
        with _Calls(), _Rules(device):
            yield device


def _generator(device: torch.device | str, seed: int) -> torch.Generator:
    made = torch.Generator() if torch.device(device).type == "cpu" else DeviceGenerator()
    return made.manual_seed(seed)
