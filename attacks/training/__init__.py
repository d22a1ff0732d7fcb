"""Training the victims: one recipe for all arms, a grid of cells, and who runs them."""

from .cells import Cell, CellResult
from .executor import Executor, available_cpus, executor_for
from .grid import NO_TEMPORARY, ArrayStore, GridResult, cells_of, run_grid
from .schedule import fit_recipe, training_steps
from .victims import check_victim, create_victim, victim_family, victim_names, victim_recipe, victim_seed

__all__ = [
    "NO_TEMPORARY",
    "ArrayStore",
    "Cell",
    "CellResult",
    "Executor",
    "GridResult",
    "available_cpus",
    "cells_of",
    "check_victim",
    "create_victim",
    "executor_for",
    "fit_recipe",
    "run_grid",
    "training_steps",
    "victim_family",
    "victim_names",
    "victim_recipe",
    "victim_seed",
]
