"""What is written down for both sides: whole files, places, locks, text, manifest and run file, progress, secrets."""

__all__: list[str] = []
