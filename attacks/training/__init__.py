"""Training the victims: one recipe for all arms, a grid of cells, and who runs them."""

from .cache import CellCache
from .cells import Cell, CellResult
from .executor import Executor, SerialExecutor, executor_for, processor_name
from .grid import GridResult, cells_of, run_grid
from .store import ArrayStore, temporary_folder_problem
from .victims import (
    PrecisionTask,
    check_victim,
    create_victim,
    epochs_of,
    find_precision,
    fit_recipe,
    published_recipe,
    victim_family,
    victim_names,
    victim_recipe,
    victim_seed,
)

__all__ = [
    "ArrayStore",
    "Cell",
    "CellCache",
    "CellResult",
    "Executor",
    "GridResult",
    "PrecisionTask",
    "SerialExecutor",
    "cells_of",
    "check_victim",
    "create_victim",
    "epochs_of",
    "executor_for",
    "find_precision",
    "fit_recipe",
    "processor_name",
    "published_recipe",
    "run_grid",
    "temporary_folder_problem",
    "victim_family",
    "victim_names",
    "victim_recipe",
    "victim_seed",
]
