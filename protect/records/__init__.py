"""What a run writes down: manifest, run file, the state of a run under way, the report for people."""

from .manifest import MANIFEST_NAME, ManifestRow, read_manifest
from .report import REPORT_NAME, write_report
from .run_file import RUN_FILE_NAME, RunFile, read_run_file
from .state import InputRecord, Journal, RunState, StateFiles
from .summary import FitSummary, RunSummary

__all__ = [
    "MANIFEST_NAME",
    "REPORT_NAME",
    "RUN_FILE_NAME",
    "FitSummary",
    "InputRecord",
    "Journal",
    "ManifestRow",
    "RunFile",
    "RunState",
    "RunSummary",
    "StateFiles",
    "read_manifest",
    "read_run_file",
    "write_report",
]
