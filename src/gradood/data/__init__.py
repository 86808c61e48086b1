"""Images from folders, lists and Parquet files, for networks; needs ``gradood[data]`` when used."""

from gradood.data.dataloader import loader
from gradood.data.dataset import ImageDataset
from gradood.data.folder import ImageFolder
from gradood.data.image_list import ImageList
from gradood.data.parquet import ParquetImages
from gradood.data.preprocess import Preprocess
from gradood.data.source import open_images

__all__ = [
    "ImageDataset",
    "ImageFolder",
    "ImageList",
    "ParquetImages",
    "Preprocess",
    "loader",
    "open_images",
]
