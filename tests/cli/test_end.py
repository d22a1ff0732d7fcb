"""The end of the process, after all was said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from bitterant.cli import main

PROGRAM = """
import os, signal, sys
from bitterant.cli import main
sys.argv = ["bitterant", "--version"]
code = main()
os.kill(os.getpid(), signal.NAME)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_after_the_end_does_not_take_the_exit_code_away(name: str) -> None:
    # The process itself, since its exit code is what schedulers see.
    program = PROGRAM.replace("NAME", name)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "bitterant" in done.stdout


def test_a_call_from_python_leaves_the_signals_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert main(["--version"]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_between_a_command_and_the_end_of_main_the_exit_code_is_known() -> None:
    # All is said, and the handler of the command is gone: SIGTERM as the system has it would give -15.
    program = PROGRAM.replace(
        "code = main()",
        "from bitterant.cli import together as place\n"
        "def late(run, words):\n"
        "    run()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "place.together = late\n"
        "sys.argv[1:] = ['list', 'methods']\n"
        "code = main()",
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "texture" in done.stdout
