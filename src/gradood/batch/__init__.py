"""Images and rows of tables, scored into Parquet; needs ``gradood[data]``."""

from gradood.batch._graph import GraphPredictor
from gradood.batch.finished import FinishedShard, finished_shards
from gradood.batch.job import Settings, Summary, score_images
from gradood.batch.predictor import Identity, LoadedPredictor, Predictor, load_predictor
from gradood.batch.tables import (
    StoredResults,
    read_results,
    results_table,
    sample_fields,
    table_of_fields,
    write_results,
)
from gradood.data.image_source import ImageSource
from gradood.data.sources import list_columns, list_images

Listing = ImageSource
"""The former name of `ImageSource`."""

__all__ = [
    "FinishedShard",
    "GraphPredictor",
    "Identity",
    "ImageSource",
    "Listing",
    "LoadedPredictor",
    "Predictor",
    "Settings",
    "StoredResults",
    "Summary",
    "finished_shards",
    "list_columns",
    "list_images",
    "load_predictor",
    "read_results",
    "results_table",
    "sample_fields",
    "score_images",
    "table_of_fields",
    "write_results",
]
