"""Class-coded brightness textures: the code book, the wave on a picture, and the bank. Nothing here needs torch."""

from .bank import TextureBank
from .code_book import Code, TextureRecipe, Wave, assign_codes, code_book

__all__ = ["Code", "TextureBank", "TextureRecipe", "Wave", "assign_codes", "code_book"]
