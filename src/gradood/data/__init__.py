"""Images from folders, lists, Parquet and archives, for networks; needs ``gradood[data]``."""

from gradood.data.dataloader import loader
from gradood.data.dataset import ImageDataset
from gradood.data.image_source import ImageSource
from gradood.data.images import ImageArchive, ImageFolder, ImageList, ParquetImages
from gradood.data.preprocess import Preprocess
from gradood.data.sources import list_images, open_images

__all__ = [
    "ImageArchive",
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
