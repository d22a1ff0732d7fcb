"""Towers that put pictures and texts into one space: CLIP, and one that needs no CLIP weights."""

from .base import ImageText, TextTower
from .clip import ClipImageText, ClipTexts
from .conse import Conse, ConseTexts, class_phrases, imagenet_class_names
from .registry import IMAGE_TEXT_NAMES, check_image_text, create_image_text, create_text_tower
from .retrieval import RetrievalScores, retrieval_scores
from .sentence import MiniLM

__all__ = [
    "IMAGE_TEXT_NAMES",
    "ClipImageText",
    "ClipTexts",
    "Conse",
    "ConseTexts",
    "ImageText",
    "MiniLM",
    "RetrievalScores",
    "TextTower",
    "check_image_text",
    "class_phrases",
    "create_image_text",
    "create_text_tower",
    "imagenet_class_names",
    "retrieval_scores",
]
