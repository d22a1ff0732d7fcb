"""Objects on their way from one process to another, as bytes and the bytes of tensors.

Tensors travel beside the pickled rest without a copy. They arrive with the strides that they had, since the layout
decides about kernels and kernels about the last bit, and on the receiver's own device of the same kind.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor

OwnDevice = Callable[[str], torch.device]
"""Kind of a device, such as ``cuda`` -> the one of that kind that the receiver computes on."""

_AT_ONCE: Final = 1 << 28  # bytes
_Layout = tuple[tuple[int, ...], tuple[int, ...], torch.dtype, str]


class Message:
    """A message, as it is sent or was received. Only for processes of one job, which trust each other: it is pickled.

    Args:
        body: pickled, without tensors.
        layouts: shape, strides, type, and kind of device of each tensor.
        tensors: dense in memory.
    """

    def __init__(self, body: bytes, layouts: list[_Layout], tensors: list[Tensor]) -> None:
        self._body, self._layouts, self._tensors = body, layouts, tensors

    @classmethod
    def of(cls, value: Any, known: Mapping[str, Any]) -> Message:
        """That of any object that can be pickled.

        Args:
            value: the object.
            known: objects that the receiver has by these names already: where the value holds one, its name is sent.

        Raises:
            Exception: something in it cannot be pickled; of many kinds.
        """
        pickler = _Pickler(known)
        pickler.dump(value)
        return cls(pickler.body.getvalue(), pickler.layouts, pickler.tensors)

    @classmethod
    def received(cls, fill: Callable[[Tensor], object]) -> Message:
        """The next message of a connection.

        Args:
            fill: receives one of :meth:`parts` into a tensor of its length.
        """

        def whole(part: Tensor) -> None:
            for piece in _pieces(part):
                fill(piece)

        length = torch.zeros(1, dtype=torch.int64)
        fill(length)
        head = torch.empty(int(length), dtype=torch.uint8)
        whole(head)
        body, layouts = pickle.loads(head.numpy().tobytes())
        tensors = [torch.empty_strided(shape, strides, dtype=dtype) for shape, strides, dtype, _ in layouts]
        for tensor in tensors:
            whole(_memory(tensor))
        return cls(body, layouts, tensors)

    def parts(self) -> Iterator[Tensor]:
        """What is sent, one after the other: a length, int64 ``[1]``, then uint8."""
        head = pickle.dumps((self._body, self._layouts))
        yield torch.tensor([len(head)])
        yield from _pieces(torch.frombuffer(bytearray(head), dtype=torch.uint8))
        for tensor in self._tensors:
            yield from _pieces(_memory(tensor))

    def open(self, known: Mapping[str, Any], own: OwnDevice) -> Any:
        """The object.

        Args:
            known: see :meth:`of`.
            own: devices of this process.

        Raises:
            Exception: something in it cannot be made here; of many kinds.
        """
        layouts = zip(self._tensors, self._layouts, strict=True)
        return _Unpickler(self._body, [tensor.to(own(layout[3])) for tensor, layout in layouts], known, own).load()


class _Pickler(pickle.Pickler):
    def __init__(self, known: Mapping[str, Any]) -> None:
        self.body = io.BytesIO()
        super().__init__(self.body, protocol=5)
        self._names = {id(value): name for name, value in known.items()}
        self._numbers: dict[int, int] = {}
        self._alive: list[Tensor] = []  # so that no other object takes over the identity of one
        self.layouts: list[_Layout] = []
        self.tensors: list[Tensor] = []

    def persistent_id(self, obj: Any) -> Any:
        if (name := self._names.get(id(obj))) is not None:
            return "known", name
        if isinstance(obj, torch.device):
            return "device", obj.type
        # A parameter is taken apart by pickle, and its values come by as a plain tensor.
        return ("tensor", self._number(obj)) if type(obj) is Tensor else None

    def _number(self, tensor: Tensor) -> int:
        number = self._numbers.setdefault(id(tensor), len(self.tensors))
        if number == len(self.tensors):
            dense = _dense(tensor.detach())
            self._alive.append(tensor)
            self.tensors.append(dense)
            self.layouts.append((tuple(dense.shape), dense.stride(), dense.dtype, dense.device.type))
        return number


class _Unpickler(pickle.Unpickler):
    def __init__(self, body: bytes, tensors: list[Tensor], known: Mapping[str, Any], own: OwnDevice) -> None:
        super().__init__(io.BytesIO(body))
        self._tensors, self._known, self._own = tensors, known, own

    def persistent_load(self, pid: Any) -> Any:
        what, which = pid
        if what == "tensor":
            return self._tensors[which]
        return self._own(which) if what == "device" else self._known[which]


def _dense(tensor: Tensor) -> Tensor:
    """The same without holes, in the layout that it has, if it has one."""
    return tensor if torch.empty_like(tensor, device="meta").stride() == tensor.stride() else tensor.contiguous()


def _memory(dense: Tensor) -> Tensor:
    """Its memory on the CPU, uint8 ``[bytes]``; what is there already is not copied."""
    return dense.as_strided((dense.numel(),), (1,), dense.storage_offset()).cpu().view(torch.uint8)


def _pieces(part: Tensor) -> tuple[Tensor, ...]:
    return part.split(_AT_ONCE) if len(part) else ()
