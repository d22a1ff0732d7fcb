"""The package as a whole: its names, and that it works without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bitterant import imaging


def test_every_exported_name_exists():
    for name in imaging.__all__:
        assert getattr(imaging, name) is not None
    assert set(imaging.__all__) <= set(dir(imaging))
    assert len(set(imaging.__all__)) == len(imaging.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_here"):
        imaging.nothing_here  # pyright: ignore[reportAttributeAccessIssue]


def test_scanning_decoding_and_protecting_pixels_need_no_torch(tmp_path):
    program = """
import sys
sys.modules["torch"] = None  # any import of it now fails
import numpy as np
from pathlib import Path
from bitterant.imaging import Budget, Picture, add_delta, decode, encode, measure_change
from bitterant.imaging import scan_folder, squash, write_atomic
picture = Picture(np.full((20, 30, 3), 100, np.uint8))
write_atomic(Path(sys.argv[1]) / "a" / "x.png", encode(picture, format="PNG"), overwrite=False)
(entry,) = scan_folder(Path(sys.argv[1])).entries
after = add_delta(decode(entry.path), np.full((4, 4, 3), 8.0), Budget.from_levels(8))
assert measure_change(picture, after).linf_levels == 8.0
assert squash(after, 5).shape == (5, 5, 3)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
