"""Folders, lists and Parquet files of images, scored into Parquet; needs ``gradood[data]``."""

from gradood.scoring.inputs import list_images
from gradood.scoring.job import Summary, score_images
from gradood.scoring.listing import Listing
from gradood.scoring.settings import Identity, Settings

__all__ = ["Identity", "Listing", "Settings", "Summary", "list_images", "score_images"]
