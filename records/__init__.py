"""What is written down for both sides: whole files, places, secrets, text from outside, progress and stopping."""

__all__: list[str] = []
