"""What was asked for, checked as a whole before any work begins."""

from .checks import Request, check_bank_place, check_fit, check_source, check_write
from .options import FitOptions, FormatPolicy, MetadataPolicy, Problems, WriteOptions
from .places import check_writable

__all__ = [
    "FitOptions",
    "FormatPolicy",
    "MetadataPolicy",
    "Problems",
    "Request",
    "WriteOptions",
    "check_bank_place",
    "check_fit",
    "check_source",
    "check_writable",
    "check_write",
]
