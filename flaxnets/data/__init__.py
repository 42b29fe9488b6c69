"""Datasets: loading, augmentation and text."""

from flaxnets.data.augmentation import Augmentation as Augmentation
from flaxnets.data.class_names import relabel as relabel
from flaxnets.data.datasets import DATASETS as DATASETS
from flaxnets.data.datasets import LoadOptions as LoadOptions
from flaxnets.data.datasets import list_datasets as list_datasets
from flaxnets.data.datasets import load as load
from flaxnets.data.datasets import map_path as map_path
from flaxnets.data.datasets import register_dataset as register_dataset
from flaxnets.data.datasets import task_of as task_of
from flaxnets.data.examples import Dataset as Dataset
from flaxnets.data.examples import Part as Part
from flaxnets.data.examples import Split as Split
from flaxnets.data.files import DataError as DataError
from flaxnets.data.image_files import DecodedImages as DecodedImages
from flaxnets.data.image_files import ImageFiles as ImageFiles
from flaxnets.data.image_files import read_image as read_image
from flaxnets.data.image_sets import list_images as list_images
from flaxnets.data.images import channel_statistics as channel_statistics
from flaxnets.data.images import fit_images as fit_images
from flaxnets.data.text import Vocabulary as Vocabulary
from flaxnets.data.text import letters_and_spaces as letters_and_spaces
from flaxnets.data.text import time_major as time_major
from flaxnets.data.text import windows as windows
