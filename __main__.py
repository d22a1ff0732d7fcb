"""``python -m bitterant`` is the ``bitterant`` command."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
