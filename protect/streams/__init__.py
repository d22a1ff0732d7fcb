"""``apply`` where pictures do not lie in a folder on this machine: object stores, archives, and tables of pictures."""

from .apply import apply_stream
from .sources import is_stream
from .summary import StreamPlan, StreamSummary

__all__ = ["StreamPlan", "StreamSummary", "apply_stream", "is_stream"]
