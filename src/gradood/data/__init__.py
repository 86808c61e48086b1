"""Images from folders, lists and Parquet files, for networks; needs ``gradood[data]`` when used."""

from gradood.data.dataloader import loader
from gradood.data.dataset import ImageDataset
from gradood.data.image_source import ImageSource
from gradood.data.images import ImageFolder, ImageList, ParquetImages
from gradood.data.preprocess import Preprocess
from gradood.data.sources import list_images, open_images

__all__ = [
    "ImageDataset",
    "ImageFolder",
    "ImageList",
    "ImageSource",
    "ParquetImages",
    "Preprocess",
    "list_images",
    "loader",
    "open_images",
]
