"""Data sets: readers, augmentation, and the order of examples."""

from .data import Data
from .error import DataError
from .memory import MemoryData
from .own import data_from
from .registry import DATA_SETS, load_data
from .stream import StreamData

__all__ = ["DATA_SETS", "Data", "DataError", "MemoryData", "StreamData", "data_from", "load_data"]
