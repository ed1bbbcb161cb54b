"""The keys and types of a configuration, read from its dataclasses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from omegaconf import BooleanNode, FloatNode, IntegerNode, StringNode
from omegaconf.errors import OmegaConfBaseException

from .refusal import Refusals, closest

__all__ = ["DEEPEST", "MismatchError", "build", "conform", "is_free", "leaves", "sections"]

T = TypeVar("T")

DEEPEST = 16
"""The deepest nesting of one value: more is a slip, or meant to exhaust a reader."""

_NODES = {bool: BooleanNode, int: IntegerNode, float: FloatNode, str: StringNode}
_ONE = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
_MANY = {int: "integers, such as [1,2]", float: "numbers, such as [0.5,1]", str: "texts"}


class MismatchError(Exception):
    """A value is not of its key's type. The message says what was expected."""


def leaves(kind: type, prefix: str = "") -> dict[str, Any]:
    """Return the dotted keys that hold values, with their annotations; sections are expanded.

    Args:
        kind: A dataclass whose fields are values or further dataclasses (sections).
        prefix: Put before every key.
    """
    found: dict[str, Any] = {}
    for name, annotation in get_type_hints(kind).items():
        if is_dataclass(annotation):
            found |= leaves(annotation, f"{prefix}{name}.")  # pyright: ignore[reportArgumentType]
        else:
            found[prefix + name] = annotation
    return found


def sections(kind: type) -> set[str]:
    """Return the dotted keys that only hold further keys, e.g. ``train``, ``data.augment``."""
    keys = leaves(kind)
    return {".".join(key.split(".")[:n]) for key in keys for n in range(1, key.count(".") + 1)}


def is_free(annotation: Any) -> bool:
    """Return whether a value may be a mapping with any keys, such as ``heads``."""
    kinds, _ = _alternatives(annotation)
    return any(kind is Any or get_origin(kind) is dict for kind in kinds)


def conform(value: Any, annotation: Any) -> Any:
    """Return the value in the type of its key: 1 becomes 1.0 for a number, ``"10"`` becomes 10.

    Args:
        value: Plain YAML data, without interpolations.
        annotation: The type of a field: bool, int, float, str, list[T], dict[str, Any], Any, or
            one of these with None.

    Raises:
        MismatchError: The value is of another type, not finite, or a reference such as ``${x}``.
    """
    kinds, optional = _alternatives(annotation)
    if value is None and (optional or Any in kinds):
        return None
    kind = kinds[0]
    try:
        return _conform(value, kind)
    except MismatchError as mismatch:
        text = f"{mismatch} or null" if optional else str(mismatch)
        raise MismatchError(text) from None


def build(kind: type[T], values: Mapping[Any, Any], refusals: Refusals) -> T:
    """Make the dataclass with these values; keys that are not given keep their defaults.

    Args:
        kind: A dataclass of sections and values.
        values: Nested plain data.
        refusals: Takes unknown keys and wrong types; their fields keep their defaults.
    """
    return _build(kind, values, refusals, "", leaves(kind))


def _build(
    kind: type[T], values: Mapping[Any, Any], refusals: Refusals, prefix: str, known: Mapping
) -> T:
    annotations = get_type_hints(kind)
    given: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        annotation = annotations.get(name)
        if name not in annotations:
            refusals.add(key, value, f"there is no such key{closest(key, known)}")
        elif isinstance(annotation, type) and is_dataclass(annotation):
            if isinstance(value, Mapping):
                given[name] = _build(annotation, value, refusals, f"{key}.", known)
            else:
                refusals.add(key, value, "this is a section; expected a mapping of its keys")
        else:
            try:
                given[name] = conform(value, annotation)
            except MismatchError as mismatch:
                refusals.add(key, value, f"expected {mismatch}")
    return kind(**given)


def _alternatives(annotation: Any) -> tuple[list[Any], bool]:
    """Return the types of a union without None, and whether None is one of them."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = get_args(annotation)
        return [kind for kind in kinds if kind is not NoneType], NoneType in kinds
    return [annotation], False


def _conform(value: Any, kind: Any) -> Any:
    if kind is Any:
        return _plain(value)
    if get_origin(kind) is list:
        return _list(value, get_args(kind)[0])
    if get_origin(kind) is dict:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise MismatchError("a mapping, such as {key: value}")
        return _plain(value)
    return _scalar(value, kind)


def _list(value: Any, item: Any) -> list[Any]:
    if not isinstance(value, list):
        raise MismatchError(f"a list of {_MANY.get(item, 'values')}")
    try:
        return [conform(entry, item) for entry in value]
    except MismatchError as mismatch:
        raise MismatchError(f"a list of {_MANY.get(item, f'values, each {mismatch}')}") from None


def _scalar(value: Any, kind: type) -> Any:
    """Apply OmegaConf's conversions, without its references and without infinite numbers."""
    if isinstance(value, str):
        _text(value)
    try:
        converted = _NODES[kind](value=value, is_optional=False)._value()
    except (OmegaConfBaseException, ValueError, OverflowError):
        raise MismatchError(_ONE[kind]) from None
    return _plain(converted)


def _plain(value: Any, depth: int = 0) -> Any:
    """Copy plain data: what YAML can write and read back unchanged.

    Raises:
        MismatchError: Something else is in it.
    """
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > 63:
            raise MismatchError("an integer of at most 63 bits")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise MismatchError("a finite number")
        return value
    if depth == DEEPEST:
        raise MismatchError(f"values that are nested at most {DEEPEST} deep")
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str | int) for key in value):
            raise MismatchError("a mapping whose keys are words")
        return {_plain(key): _plain(item, depth + 1) for key, item in value.items()}
    raise MismatchError(f"plain data, not a {type(value).__name__}")


def _text(text: str) -> str:
    # OmegaConf gives ${x} and ??? a meaning; a value that is read back must not have one.
    if "${" in text or text == "???":
        raise MismatchError("a text without references such as ${x} or ???")
    # YAML folds some line breaks, and a terminal obeys some codes.
    if not text.isprintable():
        raise MismatchError("a text of printable characters on one line")
    return text
