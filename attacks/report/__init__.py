"""What a verification writes: the plan before the first training, then the report for machines and for people."""

from .environment import describe_environment, verify_command
from .files import plan_digest, render_report, write_plan, write_report

__all__ = [
    "describe_environment",
    "plan_digest",
    "render_report",
    "verify_command",
    "write_plan",
    "write_report",
]
