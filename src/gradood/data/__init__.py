"""Images from folders, lists, Parquet and archives, and columns of tables; ``gradood[data]``."""

from gradood.data._usable_rows import usable_rows
from gradood.data.column_dataset import ColumnDataset
from gradood.data.column_input import ColumnInput, TensorInput, TokenInput
from gradood.data.dataloader import loader
from gradood.data.dataset import ImageDataset
from gradood.data.encoded_input import AudioInput, TextInput
from gradood.data.feature_input import FeatureInput
from gradood.data.image_source import ImageSource
from gradood.data.images import ImageArchive, ImageFolder, ImageList, ParquetImages
from gradood.data.preprocess import Preprocess
from gradood.data.row_dataset import RowDataset
from gradood.data.row_source import RowSource
from gradood.data.sources import list_columns, list_images, open_columns, open_images

__all__ = [
    "AudioInput",
    "ColumnDataset",
    "ColumnInput",
    "FeatureInput",
    "ImageArchive",
    "ImageDataset",
    "ImageFolder",
    "ImageList",
    "ImageSource",
    "ParquetImages",
    "Preprocess",
    "RowDataset",
    "RowSource",
    "TensorInput",
    "TextInput",
    "TokenInput",
    "list_columns",
    "list_images",
    "loader",
    "open_columns",
    "open_images",
    "usable_rows",
]
