"""The exception tree: every error of ours reaches another process as it was."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from bitterant import errors
from bitterant.errors import BitterantError, ImageError, UnknownNameError


def kinds(base: type[BitterantError]) -> Iterator[type[BitterantError]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def example(kind: type[BitterantError]) -> BitterantError:
    if kind is ImageError:
        return ImageError("a/1.png", "damaged")
    if kind is UnknownNameError:
        return UnknownNameError("method", "emm", ["emn", "uc"])
    return kind("something is wrong, do this")


@pytest.mark.parametrize("kind", [kind for kind in kinds(BitterantError) if kind.__module__ == errors.__name__])
def test_an_error_survives_pickling_whole(kind):
    error = example(kind)
    error.add_note("seen in passing")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
        assert twin.exit_code == error.exit_code


def fail(path: str) -> None:
    raise ImageError(path, "cut off: the file ends before the picture does")


def test_a_pool_of_processes_reports_the_true_error_and_goes_on():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(ImageError, match=r"a/1\.png: cut off") as caught:
            pool.submit(fail, "a/1.png").result()
        assert caught.value.reason.startswith("cut off")
        assert pool.submit(len, "still alive").result() == 11


class OutOfMemoryError(Exception):
    """As torch calls it."""


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ImageError("a.png", "cut off"), 1, "a.png: cut off"),
        (errors.Interrupted("stopped"), 130, "stopped"),
        (ModuleNotFoundError("No module named 'scipy'", name="scipy"), 3, "pip install bitterant"),
        (OSError(28, "No space left on device", "/out/a.png"), 3, "/out/a.png: No space left on device"),
        (MemoryError(), 3, "Out of memory"),
        (OutOfMemoryError("CUDA"), 3, "Out of memory"),
        (ValueError("odd"), 1, "ValueError: odd"),
        (OSError(28, "No space left on device"), 3, "No space left on device. What is finished is whole"),
        (OSError("no file in it"), 1, "report it"),
    ],
)
def test_whatever_ends_a_run_is_told_with_its_exit_code(error: BaseException, code: int, words: str) -> None:
    lines, found = errors.explain(error)
    assert found == code
    assert words in "\n".join(lines)
