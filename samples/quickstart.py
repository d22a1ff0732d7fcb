"""Protect a folder, then attack the protection: ``python samples/quickstart.py [FOLDER]``.

The same from the shell: ``bitterant protect SRC OUT`` and ``bitterant verify SRC OUT --test TEST``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import bitterant
from bitterant.cli.demo_pictures import write_pictures


def main() -> None:
    work = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("bitterant-quickstart")
    clean, test, protected = work / "pictures", work / "test", work / "protected"

    # Your own photos go here instead: one folder for each class.
    write_pictures(clean, per_class=40, seed=0)
    write_pictures(test, per_class=20, seed=1)

    summary = bitterant.protect_folder(clean, protected, seed=0)
    print(summary.headline)
    print("report:", summary.report)

    # A small test, so that this script ends soon. `preset="quick"` says more.
    report = bitterant.verify_folder(
        clean, protected, test=test, report=work / "verification", preset="smoke", resolution=32
    )
    print(report.verdict.headline)
    print("report:", work / "verification" / "report.html")


if __name__ == "__main__":
    main()
