"""Measurements of networks that do not exist, with numbers that are easy to add."""

from __future__ import annotations

from collections.abc import Sequence

from blockstep.search import Profile
from blockstep.search.prediction.measurements import Measurements, Storage

__all__ = ["measurements", "profile", "storage"]

HEADS = ("aux1", "mlp_sr")


def profile(
    layers: int,
    *,
    batch: int = 32,
    seconds: float = 1.0,
    parameters: int = 100,
    heads: Sequence[str] = HEADS,
    fixed: float = 0.0,
) -> Profile:
    """Make a profile of equal layers: forward 1, backward 2, update 1/4; heads 3/8 with update.

    Args:
        layers: How many.
        batch: Examples.
        seconds: Of a layer's forward pass, per example.
        parameters: Of each layer and of the classifier.
        heads: Those that were measured.
        fixed: Seconds of a forward pass that do not depend on the batch.
    """
    one = seconds * batch + fixed
    return Profile(
        network="net",
        layers=layers,
        batch_size=batch,
        device="cpu",
        threads=1,
        heads=tuple(heads),
        forward=(one,) * layers,
        inner=(3 * one,) * layers,
        entry=(2 * one,) * layers,
        update=(0.25,) * layers,
        head_seconds=((0.25 * one,) * (layers - 1),) * len(heads),
        head_update=((0.125,) * (layers - 1),) * len(heads),
        classifier_seconds=0.75 * one,
        classifier_update=0.125,
        boundary_bytes=(64 * batch,) * layers,
        parameters=(parameters,) * layers,
        classifier_parameters=parameters,
    )


def storage(layers: int, *, heads: Sequence[str] = HEADS) -> Storage:
    """Make the storage of equal layers: 1,000 bytes each, a head 100, the classifier 10."""
    return Storage(
        inputs=7,
        layers=(1000,) * layers,
        classifier=10,
        heads=((100,) * (layers - 1),) * len(heads),
        head_parameters=((30,) * (layers - 1),) * len(heads),
    )


def measurements(layers: int, *, sizes: Sequence[int] = (32,), **options: float) -> Measurements:
    """Make measurements at some batch sizes; the options are those of :func:`profile`."""
    profiles = tuple(profile(layers, batch=size, **options) for size in sizes)  # pyright: ignore
    return Measurements(profiles, storage(layers))
