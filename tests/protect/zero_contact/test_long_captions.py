"""Captions come from anywhere: a long one is gone through a few times, not once a letter."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bitterant.protect.zero_contact.build_request import anonymise

try:
    import resource
except ImportError:  # Windows
    resource = None

LONG = {
    "one word": "a" * 200_000,
    "many words": "word " * 40_000,
    "many capitals": "Word. " * 40_000,
    "marks": ",;:." * 50_000,
    "digits and marks": "1/" * 100_000,
    "handles": "@a" * 100_000,
    "white space": "a" + " " * 200_000 + "b",
    "sentence ends": ". " * 100_000 + "Anna",
}


@pytest.mark.skipif(resource is None, reason="this system limits no processor time")
def test_no_caption_is_gone_through_more_than_a_few_times() -> None:
    script = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
sys.path.insert(0, sys.argv[1])
from test_long_captions import LONG, anonymise
for caption in LONG.values():
    anonymise(caption)
print("done")
"""
    words = [sys.executable, "-c", script, str(__file__).rpartition("/")[0]]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "done", done.stderr


@pytest.mark.parametrize(
    ("caption", "plain"),
    [
        ("Dogs run. Cats sleep", "Dogs run. Cats sleep"),
        ("Dogs run: Cats sleep", "Dogs run: Cats sleep"),
        ('He said. "Dogs run', 'He said. "Dogs run'),
        ("Dogs run, Rex sleeps", "Dogs run, sleeps"),
        ("write to me@there.org or (x@y) now", "write to or now"),
        ("see (https://a.b/c now", "see ( now"),
    ],
)
def test_where_sentences_begin_and_addresses_end(caption: str, plain: str) -> None:
    assert anonymise(caption) == plain
