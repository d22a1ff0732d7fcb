"""What is written down for both sides: files, places, locks, text, options, manifest, run, progress, secrets."""

__all__: list[str] = []
