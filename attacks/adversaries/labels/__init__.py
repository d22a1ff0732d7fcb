"""Other labels on the same pictures: merged, dealt out anew, or split."""

from .finer import Finer
from .regroup import Regroup
from .superclass import Superclass

__all__ = ["Finer", "Regroup", "Superclass"]
