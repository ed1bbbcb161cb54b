"""The published CIFAR batches are pickles. This reads them without running anything they name.

A pickle is a small program: it can name any function of Python and call it. Here

1. all its instructions are looked at first, and those that plain data does not need are refused;
2. a name stands for one of a few objects of this file, which build plain arrays from plain bytes
   and check every size. Any other name is refused before anything is called.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .error import DataError

__all__ = ["read_pickle"]

# Instructions that make objects of other classes, or refer to things outside the pickle.
REFUSED = {
    "INST",
    "OBJ",
    "NEWOBJ",
    "NEWOBJ_EX",
    "EXT1",
    "EXT2",
    "EXT4",
    "PERSID",
    "BINPERSID",
    "NEXT_BUFFER",
}
MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}

_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


def read_pickle(data: bytes, *, source: str) -> dict[str, Any]:
    """Reads a pickled dictionary of numbers, texts, bytes, lists and numeric arrays.

    Args:
        data: the pickle, of any protocol, written by Python 2 or 3.
        source: where it comes from, for messages.

    Returns:
        Its entries; names are texts whether they were pickled as bytes or as text.

    Raises:
        DataError: the pickle is damaged, or names anything but numpy's arrays and numbers.
    """
    try:
        _inspect(data)
        content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    except Exception as error:
        # Damaged opcodes surface as nearly any exception of the standard unpickler.
        raise DataError(f"{source}: damaged ({type(error).__name__}: {error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{source}: expected a dictionary, found {type(content).__name__}")
    return {_text(key): _plain(value, source) for key, value in content.items()}


def _inspect(data: bytes) -> None:
    """Looks at all instructions without following them. ([1] in the module's text)"""
    for instruction, argument, position in pickletools.genops(data):
        if instruction.name in REFUSED:
            raise DataError(
                f"the pickle makes objects ({instruction.name} at byte {position}); only "
                "dictionaries, lists, numbers and numpy's arrays are read"
            )
        if instruction.name in MEMO and int(str(argument)) > len(data):
            # The unpickler would reserve memory for as many values as this number says.
            raise DataError(f"{instruction.name} at byte {position} numbers value {argument}")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        stand_in = _STAND_INS.get((module.replace("numpy._core", "numpy.core"), name))
        if stand_in is None:
            raise DataError(
                f"the pickle asks for {module}.{name}; only numpy's arrays and numbers are read. "
                "Nothing was run. Do not trust this file; fetch it again from its publisher"
            )
        return stand_in


class _StandIn:
    """Stands for a name in a pickle. It can be called, and nothing about it can be changed."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise DataError("the pickle tries to change a function")


class _Dtype:
    """numpy.dtype of plain numbers."""

    __slots__ = ("value",)

    def __init__(self, name: Any, *flags: Any) -> None:
        name = _text(name)
        if not isinstance(name, str) or not _DTYPE.fullmatch(name):
            raise DataError(f"arrays of type {reprlib.repr(name)} are not read, only numbers")
        self.value = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        _, order, *nested = state
        if any(part is not None for part in nested[:3]):
            raise DataError("arrays with fields are not read, only numbers")
        self.value = self.value.newbyteorder(_text(order))


class _Array:
    """numpy.ndarray; its state is (version, shape, dtype, Fortran order, bytes)."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype):
        raise DataError("an array without bytes of numbers")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise DataError(f"an array of shape {reprlib.repr(shape)}")
    expected = math.prod(shape) * dtype.value.itemsize
    if len(data) != expected:
        raise DataError(f"an array of shape {shape} with {len(data):,} bytes, not {expected:,}")
    return np.frombuffer(data, dtype.value).reshape(shape, order=_text(order))


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.value = _array(data, dtype, shape, order)
    return array


def _scalar(dtype: Any, data: Any) -> Any:
    return _array(data, dtype, (1,), "C")[0].item()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """``codecs.encode`` as Python 3 uses it to write bytes in the old protocols."""
    if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1"):
        raise DataError(
            f"codecs.encode to {reprlib.repr(encoding)}; only bytes as latin1 text are read"
        )
    return text.encode("latin1")


def _no_constructor(*arguments: Any) -> Any:
    raise DataError("numpy.ndarray is called directly")


# What numpy itself writes; numpy._core is called numpy.core before version 2.
_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _StandIn(lambda *_: _Array()),
    ("numpy.core.multiarray", "scalar"): _StandIn(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _StandIn(_from_buffer),
    ("numpy", "ndarray"): _StandIn(_no_constructor),
    ("numpy", "dtype"): _StandIn(_Dtype),
    ("_codecs", "encode"): _StandIn(_encode),
}


def _text(value: Any) -> Any:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _plain(value: Any, source: str) -> Any:
    if isinstance(value, _Array):
        if value.value is None:
            raise DataError(f"{source}: an array without content")
        return value.value
    if isinstance(value, _Dtype | _StandIn):
        raise DataError(f"{source}: expected numbers and texts")
    return value
