"""The keys that may be typed, where their values go, and of which type they are."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .overrides import Assignment
from .refusal import Refusals, closest, shown
from .schema import MismatchError, conform, is_free, leaves, sections

__all__ = ["TARGET", "Keys", "flatten"]

TARGET = "_target_"


class UnknownKeyError(Exception):
    """No such key may be typed. The message says why, and what to type instead."""


class Keys:
    """The keys of one command, once it is known which groups a user's own class replaces.

    Args:
        config: The dataclass of the command.
        groups: Keys that choose a file: a free mapping (``model``) or a section with the fields
            ``name`` and, where it may be a user's own class, ``target`` (``data``).
        base: The composed values before anything that was typed.
        replaced: The groups for which ``GROUP._target_`` was typed. Their other keys go to the
            class, except those that the section has itself.
    """

    def __init__(
        self, config: type, groups: Iterable[str], base: Mapping[str, Any], replaced: set[str]
    ) -> None:
        self._kinds = leaves(config)
        self._sections = sections(config)
        self._homes: dict[str, str] = {}  # replaced group -> where the class's own keys go
        self._hints: dict[str, str] = {}
        for group in groups:
            if group in self._sections:
                self._add_section(group, group in replaced)
            else:
                self._add_mapping(group, base.get(group, {}), group in replaced)

    def _add_section(self, group: str, replaced: bool) -> None:
        target = f"{group}.target"
        self._kinds.pop(target, None)
        self._hints[target] = f"write {group}.{TARGET}=package.Class"
        if replaced:
            self._homes[group] = target
        else:
            self._choose_only(f"{group}.name", group)

    def _add_mapping(self, group: str, base: Mapping[str, Any], replaced: bool) -> None:
        del self._kinds[group]
        if replaced:
            self._homes[group] = group
            return
        self._kinds |= {f"{group}.{key}": _kind_of(default) for key, default in base.items()}
        self._choose_only(f"{group}.name", group)

    def _choose_only(self, name: str, group: str) -> None:
        self._kinds.pop(name, None)
        self._hints[name] = f"write {group}=NAME, which also brings the keys of that choice"

    def locate(self, key: str) -> tuple[str, Any]:
        """Return where the value of a key goes, as a dotted path, and its type.

        Raises:
            UnknownKeyError: The key may not be typed.
        """
        if key in self._kinds:
            return key, self._kinds[key]
        if key.startswith("hydra.") or "/" in key or "@" in key:
            raise UnknownKeyError(
                "Hydra's own settings, nested groups and packages are not used here"
            )
        for path, hint in self._hints.items():
            if key == path or key.startswith(f"{path}."):
                raise UnknownKeyError(hint)
        group, _, rest = key.partition(".")
        parent = key.rpartition(".")[0]
        if rest and group in self._homes and (parent == group or parent not in self._sections):
            return f"{self._homes[group]}.{rest}", str if rest == TARGET else Any
        for free, kind in self._kinds.items():
            if key.startswith(f"{free}.") and is_free(kind):
                return key, Any
        if key in self._sections:
            example = next(known for known in self._kinds if known.startswith(f"{key}."))
            raise UnknownKeyError(f"this is a section; set its keys, such as {example}")
        raise UnknownKeyError(f"there is no such key{closest(key, self._kinds)}")

    def assign(
        self, base: Mapping[str, Any], assignments: Sequence[Assignment], refusals: Refusals
    ) -> tuple[dict[str, Any], set[str]]:
        """Return the base with the assignments applied in their order, and the paths that were set.

        References such as ``${model.width}`` and ``${oc.env:HOME}`` see everything that was
        typed. A refused assignment leaves the base as it was.
        """
        raw, values = copy.deepcopy(dict(base)), copy.deepcopy(dict(base))
        located = []
        for assignment in assignments:
            try:
                path, kind = self.locate(assignment.key)
                _refuse_malformed_reference(assignment)
            except (UnknownKeyError, MismatchError) as problem:
                refusals.add(assignment.key, assignment.text, str(problem))
            else:
                _put(raw, path, assignment.value)
                located.append((path, kind, assignment))
        given = set()
        for path, kind, assignment in located:
            try:
                _put(values, path, conform(_value(raw, path, kind, assignment), kind))
            except MismatchError as mismatch:
                refusals.add(assignment.key, assignment.text, f"expected {mismatch}")
            else:
                given.add(path)
        return values, given


def flatten(assignments: Iterable[Assignment], inner: set[str]) -> list[Assignment]:
    """Split assignments of mappings, such as ``train={lr: 0.1}``, into one for each key.

    Args:
        assignments: In the order they were typed.
        inner: The keys that only hold further keys: sections and groups.
    """
    flat = []
    for assignment in assignments:
        if assignment.key in inner and isinstance(assignment.value, Mapping):
            parts = (
                Assignment(f"{assignment.key}.{name}", value, shown(value))
                for name, value in assignment.value.items()
            )
            flat += flatten(parts, inner)
        else:
            flat.append(assignment)
    return flat


def _kind_of(default: Any) -> Any:
    """Return the type of a key of a group file, which has no dataclass."""
    return str | None if default is None else type(default) if _scalar(default) else Any


def _scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)


def _value(raw: Mapping[str, Any], path: str, kind: Any, assignment: Assignment) -> Any:
    """Return what was typed, with references resolved."""
    if assignment.interpolated:
        try:
            found = OmegaConf.select(OmegaConf.create(dict(raw)), path)
            is_plain = not OmegaConf.is_config(found)
            return found if is_plain else OmegaConf.to_container(found, resolve=True)
        except (OmegaConfBaseException, RecursionError, ValueError) as error:
            first = str(error).partition("\n")[0] or "it refers to itself"
            raise MismatchError(f"a reference that can be resolved ({first})") from None
    if str in getattr(kind, "__args__", (kind,)) and _scalar(assignment.value):
        # name=1_000 is the text 1_000, although Hydra reads a number.
        return assignment.word
    return assignment.value


def _refuse_malformed_reference(assignment: Assignment) -> None:
    if assignment.interpolated:
        try:
            OmegaConf.create({"value": assignment.value})
        except (OmegaConfBaseException, ValueError) as error:
            first = str(error).partition("\n")[0]
            raise MismatchError(f"a reference such as ${{seed}} ({first})") from None


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted path; what is in the way and is no mapping is replaced by one."""
    *parents, last = path.split(".")
    for name in parents:
        child = tree.get(name)
        if not isinstance(child, dict):
            child = tree[name] = {}
        tree = child
    tree[last] = copy.deepcopy(value)
