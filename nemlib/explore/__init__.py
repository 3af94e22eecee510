"""The interactive figures: Python packs data and script into HTML that needs no network and no kernel.

`nemlib.explore.gibbs` holds those of chapter 1; `predict` asks before a figure answers; the module
`nemlib.explore.figure` tells an author in a page how to add one.
"""

from nemlib.explore.figure import Figure, pack, page, picture
from nemlib.explore.prediction import predict

__all__ = ["Figure", "pack", "page", "picture", "predict"]
