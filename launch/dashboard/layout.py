"""What the workspace shows: stages side by side, speed, accuracy, searches, comparisons.

    Speed        bars of the last values        | speed-up over the steps
    Accuracy     of each split                  | of each block
    Stages       one panel per figure, one line per stage: side by side
    Replay       the same of what stages learn from again
    GPUs         the same of the GPU that a stage has
    Replicas     a table: a row for each rank
    Partition    L_ML | every hyperparameter | each rank's losses, speed and ages | pictures
    Ensembles    members and the whole: accuracy, likelihood, calibration, sharing
    Search       alpha by layer | beta by head, a line per layer | pictures
    Federation   losses, hyperparameters, bytes and clients over rounds
    Bench        the table, its pictures, bars by method

A key stands here once. The tests hold the keys of the panels equal to those that runs record, so
that no panel stays empty and no figure stays unseen.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...search.settings import SearchSettings
from ..bench.lineup import ENTRIES
from .panel import Bars, Family, Lines, Media, Panel, Section, Table

__all__ = ["COLUMNS", "LAYOUT"]

PICTURES = ("alpha", "course", "heads", "tradeoff")
"""What a search draws."""

FOUND = ("mask", "augmentation")
"""What a partitioned training draws, one of them."""

COLUMNS = ("test_accuracy", "images_per_second", "speedup_vs_backprop", "efficiency")
"""Figures of a run's summary that stand beside its name in the list of runs."""


def _stages(title: str, figure: str) -> Panel:
    """One figure of every stage."""
    return Family(title, pattern=rf"^stage/\d+/{figure}$")


def _bench(title: str, figure: str) -> Panel:
    """One figure of every method of a comparison."""
    return Bars(title, tuple(f"bench/{figure}/{method}" for method in ENTRIES))


def _betas() -> Sequence[Panel]:
    """A panel for each head of the usual pool, and one for pools with heads of one's own."""
    heads = [head for head in SearchSettings().heads if isinstance(head, str)]
    own = [Family(f"beta of {head}, by layer", pattern=rf"^beta/{head}/") for head in heads]
    return [*own, Family("beta of all heads, by layer", pattern="^beta/")]


SPEED = Section(
    "Speed",
    [
        Bars("images per second", ("images_per_second",)),
        Bars("speed-up over backpropagation on one device", ("speedup_vs_backprop",)),
        Bars("efficiency: 1 is the slowest stage never waiting", ("efficiency",)),
        Lines("speed-up over backpropagation, by step", ("speedup/vs_backprop",)),
        Bars(
            "backpropagation on one device, images per second",
            ("speedup/backprop_images_per_second",),
        ),
        Bars("bytes that ranks send each other per step", ("bytes_per_step",)),
    ],
)

ACCURACY = Section(
    "Accuracy",
    [
        Lines("validation accuracy", ("validation/accuracy",)),
        Family("validation accuracy of each block", pattern=r"^validation/stage_\d+_accuracy$"),
        Lines("validation accuracy of the blocks' ensemble", ("validation/ensemble_accuracy",)),
        Bars("test accuracy", ("test/accuracy",)),
        Family("test accuracy of each block", pattern=r"^test/stage_\d+_accuracy$"),
        Bars("test accuracy of the blocks' ensemble", ("test/ensemble_accuracy",)),
        Lines("validation loss", ("validation/loss",)),
        Bars("test loss", ("test/loss",)),
    ],
)

STAGES = Section(
    "Stages side by side",
    [
        _stages("loss", "loss"),
        _stages("accuracy", "accuracy"),
        _stages("images per second", "images_per_second"),
        _stages("busy, seconds per step", "busy"),
        _stages("waiting for input, seconds per step", "wait_in"),
        _stages("waiting for room in the next link, seconds per step", "wait_out"),
        _stages("messages in the queue", "queue_depth"),
        _stages("bytes in the queue", "queue_bytes"),
        _stages("staleness of the input, steps", "staleness"),
        _stages("delay of the error signal, steps", "error_delay"),
        _stages("memory of the process, bytes", "memory_bytes"),
        _stages("learning rate", "lr"),
    ],
    columns=4,
)

REPLAY = Section(
    "Learning again while the link is empty",
    [
        _stages("batches learned from again", "replayed"),
        _stages("their age, steps", "replay_staleness"),
        _stages("learning again, seconds per step", "replay"),
    ],
    is_open=False,
)

GPUS = Section(
    "GPUs",
    [
        _stages("utilization, %", "gpu_utilization"),
        _stages("memory, bytes", "gpu_memory_bytes"),
        _stages("power, watts", "gpu_power_watts"),
        _stages("temperature, Celsius", "gpu_temperature"),
    ],
    columns=4,
    is_open=False,
)

REPLICAS = Section("Replicas", [Table("every rank of every run", ("replicas",))], columns=1)

PARTITION = Section(
    "Partitioned networks",
    [
        Lines("L_ML, nats", ("objective/L_ML",)),
        Family("terms of L_ML by chunk", pattern=r"^objective/chunk_\d+$"),
        Family("hyperparameters", pattern="^psi/"),
        *(
            Family(title, pattern=rf"^partition/\d+/{figure}$")
            for title, figure in (
                ("loss of the weights, by rank", "loss"),
                ("loss of the hyperparameters, by rank", "hyper_loss"),
                ("images per second, by rank", "images_per_second"),
                ("busy, seconds per step", "busy"),
                ("waiting, seconds per step", "wait_in"),
                ("age of psi, steps", "psi_age"),
                ("age of copies of weights, steps", "weights_age"),
                ("memory of the process, bytes", "memory_bytes"),
                ("learning rate", "lr"),
            )
        ),
        Media("what was found", tuple(f"psi_{name}" for name in FOUND)),
    ],
    is_open=False,
)

SEARCH = Section(
    "Search",
    [
        Family("softmaxed alpha: whether to cut, by layer", pattern="^alpha/"),
        *_betas(),
        Family("losses of both phases", pattern="^(pretrain|search)/loss$"),
        Family("accuracies of both phases", pattern="^(pretrain|search)/accuracy$"),
        Lines("learning rate of the pretraining", ("pretrain/lr",)),
        Lines("norm of the gradient of alpha and beta", ("search/gradient_norm",)),
        Lines("gradients skipped so far", ("search/skipped",)),
        Family("seconds per step", pattern="^(pretrain|search)/seconds$"),
        Family("memory of the process, bytes", pattern="^(pretrain|search)/memory_bytes$"),
        Media("what was learned", tuple(f"pictures/{name}" for name in PICTURES)),
    ],
    is_open=False,
)

FEDERATION = Section(
    "Federation",
    [
        Lines("loss of clients while they learn", ("federation/loss",)),
        Lines("loss that judges hyperparameters", ("federation/psi_loss",)),
        Family("hyperparameters, by round", pattern="^federation/psi/"),
        Lines("bytes up, since the last record", ("federation/bytes_up",)),
        Lines("bytes down, since the last record", ("federation/bytes_down",)),
        Lines("bytes up and down so far", ("federation/total_bytes",)),
        Lines("clients drawn", ("federation/clients",)),
        Lines("clients without an answer", ("federation/lost",)),
        Lines("seconds per round", ("federation/seconds",)),
        Lines("memory of the process, bytes", ("federation/memory_bytes",)),
        Bars("upload beside federated averaging", ("upload_share",)),
        Bars("mean accuracy of the last evaluations", ("averaged_accuracy",)),
    ],
    is_open=False,
)

ENSEMBLE = Section(
    "Ensembles",
    [
        Lines("validation accuracy of the ensemble", ("ensemble/validation/accuracy",)),
        Lines("test accuracy of the ensemble", ("ensemble/test/accuracy",)),
        Family("accuracy of each member", pattern=r"^ensemble/\w+/member_\d+_accuracy$"),
        Family("likelihood: NLL of the ensemble", pattern=r"^ensemble/\w+/nll$"),
        Family("NLL of each member", pattern=r"^ensemble/\w+/member_\d+_nll$"),
        Family("calibration: ECE of the ensemble", pattern=r"^ensemble/\w+/ece$"),
        Family("disagreement of two members", pattern=r"^ensemble/\w+/disagreement$"),
        Family("diversity, over an error rate", pattern=r"^ensemble/\w+/by_(member|ensemble)$"),
        *(
            Family(title, pattern=rf"^member/\d+/{name}$")
            for title, name in (
                ("training loss of each member", "loss"),
                ("training accuracy of each member", "accuracy"),
                ("images per second of each member", "images_per_second"),
                ("seconds per step", "seconds"),
                ("busy, seconds per step of a rank", "busy"),
                ("waiting for other ranks, seconds per step", "wait_in"),
                ("memory of a rank, bytes", "memory_bytes"),
                ("learning rate", "lr"),
            )
        ),
        Bars("clusters", ("sharing/clusters",)),
        Bars("threshold of the clusters, tau", ("sharing/tau",)),
        Bars("sets of coefficients", ("sharing/coefficient_groups",)),
        Media("what members share", ("pictures/sharing",)),
    ],
    is_open=False,
)

BENCH = Section(
    "Bench",
    [
        Table("the comparison, a row for each method", ("bench",)),
        Media("error over seconds; throughput and memory", ("error", "rates")),
        _bench("images per second", "images_per_second"),
        _bench("speed-up over backpropagation on one device", "speedup_vs_backprop"),
        _bench("speed-up over DDP on as many devices", "speedup_vs_ddp"),
        _bench("efficiency", "efficiency"),
        _bench("test error after the same steps", "error"),
        _bench("error after the same seconds", "error_at"),
        _bench("peak memory of the rank that needs most, bytes", "peak_memory_bytes"),
        _bench("bytes sent per step", "bytes_per_step"),
        _bench("parameters of the heads", "head_params"),
    ],
    is_open=False,
)

LAYOUT: Sequence[Section] = (
    SPEED,
    ACCURACY,
    STAGES,
    REPLAY,
    GPUS,
    REPLICAS,
    PARTITION,
    ENSEMBLE,
    SEARCH,
    FEDERATION,
    BENCH,
)
"""The sections, from the top."""
