"""Training the victims: one recipe for all arms, a grid of cells, and who runs them."""

from ...surrogates.probes import check_features
from .cache import CellCache
from .cells import Cell, CellResult
from .executor import Executor, available_cpus, executor_for
from .grid import GridResult, cells_of, run_grid
from .store import ArrayStore, Inputs, temporary_folder_problem
from .victims import (
    PUBLISHED,
    check_victim,
    create_victim,
    epochs_of,
    fit_recipe,
    published_recipe,
    training_steps,
    victim_family,
    victim_names,
    victim_recipe,
    victim_seed,
)

__all__ = [
    "PUBLISHED",
    "ArrayStore",
    "Cell",
    "CellCache",
    "CellResult",
    "Executor",
    "GridResult",
    "Inputs",
    "available_cpus",
    "cells_of",
    "check_features",
    "check_victim",
    "create_victim",
    "epochs_of",
    "executor_for",
    "fit_recipe",
    "published_recipe",
    "run_grid",
    "temporary_folder_problem",
    "training_steps",
    "victim_family",
    "victim_names",
    "victim_recipe",
    "victim_seed",
]
