"""What a verification writes: the plan before the first training, then the report for machines and for people."""

from .files import REPORT_FILES, describe_environment, describe_tool, plan_digest, write_plan, write_report
from .measures import choose_sample, describe_powers, measure_powers, measure_separability, mix_points
from .page import render_report

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
    "write_plan",
    "write_report",
]
