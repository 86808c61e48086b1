"""Folders, lists and Parquet files of images, scored into Parquet; needs ``gradood[data]``."""

from gradood.batch.inputs import list_images
from gradood.batch.job import Summary, score_images
from gradood.batch.listing import Listing
from gradood.batch.settings import Identity, Settings

__all__ = ["Identity", "Listing", "Settings", "Summary", "list_images", "score_images"]
