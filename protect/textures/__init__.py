"""Class-coded brightness textures: the code book, the wave on a picture, and the bank. Nothing here needs torch."""

from .bank import TextureBank
from .code_book import Code, Wave, assign_codes, code_book
from .recipe import MOST_CLASSES, TextureRecipe

__all__ = ["MOST_CLASSES", "Code", "TextureBank", "TextureRecipe", "Wave", "assign_codes", "code_book"]
