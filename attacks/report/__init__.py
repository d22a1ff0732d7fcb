"""What a verification writes: the plan before the first training, then the report for machines and for people."""

from .command import sets_command, verify_command
from .environment import describe_environment, describe_tool
from .files import REPORT_FILES, plan_digest, write_plan, write_report
from .mixing import mix_points
from .page import render_report
from .sample import choose_sample
from .separability import measure_separability
from .spectrum import describe_powers, measure_powers

__all__ = [
    "REPORT_FILES",
    "choose_sample",
    "describe_environment",
    "describe_powers",
    "describe_tool",
    "measure_powers",
    "measure_separability",
    "mix_points",
    "plan_digest",
    "render_report",
    "sets_command",
    "verify_command",
    "write_plan",
    "write_report",
]
