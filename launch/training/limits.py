"""Which values only a training has."""

from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path

from ..config import PipelineConfig, PredSimConfig, TrainConfig
from ..limits import CHOICES, COUNT, OR_NONE, RANGES, Limits, Range, at, check, check_heads
from ..refusal import Refusals, closest, shown
from .method import METHODS
from .runtime import RUNTIMES, method_of, runtime_of

__all__ = ["LIMITS", "check_train", "infer_train"]

ABLATIONS = ("alpha", "beta")


def infer_train(config: TrainConfig, given: set[str]) -> None:
    """Settle the number of blocks where other keys fix it and it was not typed."""
    if "blocks" not in given:
        if config.cuts is not None:
            config.blocks = len(config.cuts) + 1
        elif method_of(config).whole:
            config.blocks = 1
        elif isinstance(config.pipeline.replicas, list) and config.pipeline.replicas:
            config.blocks = len(config.pipeline.replicas)
        elif config.decoupling is not None and Path(config.decoupling).is_file():
            # Imported here: everything else is checked without loading torch.
            from ...search.decoupling import Decoupling, DecouplingError

            # A file that cannot be read is refused later, with its reason.
            with suppress(DecouplingError):
                config.blocks = Decoupling.load(config.decoupling).blocks
        elif runtime_of(config).schedule:
            # The fewest blocks that take several ranks.
            config.blocks = max(config.blocks, 2 * runtime_of(config).chunks)


def check_train(config: TrainConfig, refusals: Refusals) -> None:
    """Note every impossible value of a configuration whose types are right."""
    check(config, LIMITS, refusals)


def _blocks(config: TrainConfig, refusals: Refusals) -> None:
    if method_of(config).whole and (config.blocks != 1 or config.cuts):
        key = "cuts" if config.cuts else "blocks"
        refusals.add(
            key,
            at(config, key),
            f"method={config.method} trains the whole network as one block; leave blocks and cuts"
            f" out, or choose {'runtime=gpipe or ' if config.method == 'backprop' else ''}"
            "method=decoupled",
        )


def _cuts(config: TrainConfig, refusals: Refusals) -> None:
    cuts = config.cuts
    if cuts is None:
        return
    if any(cut < 1 for cut in cuts) or any(a >= b for a, b in itertools.pairwise(cuts)):
        refusals.add("cuts", cuts, "must be strictly increasing layers, counted from 1")
    if len(cuts) != config.blocks - 1 and not method_of(config).whole:
        refusals.add(
            "cuts",
            cuts,
            f"{len(cuts)} cuts make {len(cuts) + 1} blocks, but blocks={config.blocks};"
            f" give {config.blocks - 1} cuts or blocks={len(cuts) + 1}",
        )
    if config.decoupling is not None:
        refusals.add(
            "cuts", cuts, f"decoupling={config.decoupling} also says where to cut; give one of them"
        )


def _decoupling(config: TrainConfig, refusals: Refusals) -> None:
    known = ("balanced", "uniform", "random")
    value = config.decoupling
    if value is None:
        return
    # A bare word without .json is taken for a misspelt choice, not for a file.
    if not (value in known or "/" in value.strip("/") or value.endswith(".json")):
        refusals.add(
            "decoupling",
            value,
            f"choose one of {', '.join(known)}, sedona/NAME, or a file such as DIR/decoupling.json"
            f"{closest(value, known)}",
        )


def _learned(config: TrainConfig, refusals: Refusals) -> None:
    """Check what only works with what a search learned."""
    kind = config.decoupling
    learned = kind is not None and kind not in ("balanced", "uniform", "random")
    if config.method == "sedona_continuous":
        if kind is None or not learned or kind.startswith("sedona/"):
            refusals.add(
                "decoupling",
                kind,
                "method=sedona_continuous mixes by learned alpha and beta; give the"
                " decoupling.json of a search",
            )
        for key in ("heads", "ablation"):
            if at(config, key) is not None:
                refusals.add(
                    key,
                    at(config, key),
                    "method=sedona_continuous takes cuts and heads as the search left them, mixed;"
                    " leave it out",
                )
    if config.ablation is None:
        return
    if config.ablation not in ABLATIONS:
        refusals.add("ablation", config.ablation, f"choose one of {', '.join(ABLATIONS)}, or null")
    if not learned:
        refusals.add(
            "ablation",
            config.ablation,
            "replaces half of what a search found by chance; give decoupling=sedona/NAME or the"
            f" decoupling.json of a search, not {shown(kind)}",
        )
    if config.ablation == "beta" and method_of(config).feedback:
        refusals.add("ablation", "beta", f"draws heads, but method={config.method} has none")
    if config.ablation == "beta" and config.heads is not None:
        refusals.add("heads", config.heads, "ablation=beta draws the heads; give one of them")


def _heads(config: TrainConfig, refusals: Refusals) -> None:
    if config.heads is None:
        return
    if method_of(config).heads == "none":
        refusals.add("heads", config.heads, f"method={config.method} has no heads; leave it out")
        return
    listed = isinstance(config.heads, list)
    wanted = config.heads if listed else [config.heads]
    needed = method_of(config)
    if needed.fixed_heads and any(head != needed.heads for head in wanted):
        refusals.add(
            "heads",
            config.heads,
            f"method={config.method} needs what the head {needed.heads} has; leave heads out, or"
            " choose method=decoupled",
        )
        return
    check_heads("heads", config.heads, wanted, "heads._target_=package.Head", refusals)
    if listed and len(config.heads) != config.blocks - 1:
        refusals.add(
            "heads",
            config.heads,
            f"{len(config.heads)} heads for {config.blocks} blocks; give {config.blocks - 1}, one"
            " per cut (the last block's head is the classifier), or one name for all",
        )


def _predsim(config: TrainConfig, refusals: Refusals) -> None:
    if config.method == "predsim":
        if config.ablation == "beta":
            refusals.add(
                "ablation",
                config.ablation,
                "draws heads, but method=predsim needs its own; choose alpha, or leave it out",
            )
        if config.train.chunk is not None:
            refusals.add(
                "train.chunk",
                config.train.chunk,
                "method=predsim compares all examples of a batch with each other, and parts would"
                " lose pairs; leave it out, and lower train.batch_size where memory is short",
            )
        return
    for name, default in vars(PredSimConfig()).items():
        value = getattr(config.predsim, name)
        if value != default:
            refusals.add(
                f"predsim.{name}",
                value,
                f"is for method=predsim, not for method={config.method}; leave it out",
            )


def _feedback(config: TrainConfig, refusals: Refusals) -> None:
    """Check what does not go together with errors that travel back."""
    if not method_of(config).feedback:
        return
    train, method = config.train, f"method={config.method}"
    if train.chunk is not None:
        refusals.add(
            "train.chunk",
            train.chunk,
            f"{method} sends one error signal back for each whole batch; leave it out",
        )
    if train.compile:
        refusals.add(
            "train.compile",
            True,
            f"{method} does not compile blocks: a step of theirs has two halves; leave it out",
        )
    if train.precision == "float16":
        refusals.add(
            "train.precision",
            "float16",
            f"needs loss scaling, which differs between the blocks of {method}; take bfloat16 or"
            " float32",
        )


def _replay(config: TrainConfig, refusals: Refusals) -> None:
    """Check whether there is a link that can be empty, and whether a batch can be used again."""
    batches, key = config.replay.batches, "replay.batches"
    if not batches:
        if config.replay.reuse is not None:
            refusals.add(
                "replay.reuse",
                config.replay.reuse,
                f"limits how often one of {key} is used, which is 0; give both, or leave it out",
            )
        return
    method = method_of(config)
    if method.whole or method.feedback or runtime_of(config).schedule:
        why = (
            "trains the network as one block, which has no link"
            if method.whole
            else "sends the error of each batch back, once"
        )
        refusals.add(
            key, batches, f"method={config.method} {why}; leave it out, or choose method=dgl"
        )
        return
    if config.blocks == 1:
        refusals.add(key, batches, "one block has no link; give blocks=2 or more, or leave it out")
    if config.runtime == "sequential":
        refusals.add(
            key,
            batches,
            "with runtime=sequential stages take turns and never wait for a link; leave it out, or"
            " choose runtime=pipeline",
        )
    wanted = config.pipeline.replicas
    later = wanted[1:] if isinstance(wanted, list) else [wanted]
    if any(count not in (None, 1) for count in later):
        refusals.add(
            "pipeline.replicas",
            wanted,
            f"with {key}={batches} only the first stage may have several, such as [3,1]: replicas"
            " would not find their links empty at the same moment",
        )


def _delay(config: TrainConfig, refusals: Refusals) -> None:
    delay, key = config.pipeline.delay, "pipeline.delay"
    if delay is None:
        return
    if any(seconds < 0 for seconds in delay):
        refusals.add(key, delay, "must be seconds, each at least 0")
    if len(delay) != config.blocks:
        refusals.add(
            key,
            delay,
            f"names {len(delay)} stages, but blocks={config.blocks}; give one number for each",
        )
    if any(seconds >= config.pipeline.timeout for seconds in delay):
        refusals.add(
            key,
            delay,
            f"must stay below pipeline.timeout={config.pipeline.timeout:g}, or a slow stage counts"
            " as hanging",
        )


def _schedule(config: TrainConfig, refusals: Refusals) -> None:
    """Check what torch's pipelining needs, and what does not go together with it."""
    runtime, train = f"runtime={config.runtime}", config.train
    parts, key = config.pipeline.microbatches, "pipeline.microbatches"
    if not runtime_of(config).schedule:
        if parts > 0 and parts != PipelineConfig().microbatches:
            others = ", ".join(name for name, one in RUNTIMES.items() if one.schedule)
            refusals.add(key, parts, f"is for runtime={others}, not for {runtime}; leave it out")
        return
    if config.method != "backprop":
        refusals.add(
            "runtime",
            config.runtime,
            "trains by backpropagation alone; choose method=backprop, or runtime=pipeline for"
            f" method={config.method}",
        )
    _shape(config, refusals)
    if parts > 0 and train.batch_size % parts:
        fits = max(one for one in range(1, parts) if train.batch_size % one == 0)
        refusals.add(
            key,
            parts,
            f"must divide train.batch_size={train.batch_size} into equal parts; give {fits}, or"
            " another batch",
        )
    if train.chunk is not None:
        refusals.add("train.chunk", train.chunk, f"{runtime} divides a batch by {key}; give that")
    if train.compile:
        refusals.add("train.compile", True, f"{runtime} does not compile blocks; leave it out")
    if train.precision == "float16":
        refusals.add(
            "train.precision",
            "float16",
            f"needs loss scaling, which {runtime} has not; take bfloat16 or float32",
        )
    if config.pipeline.link == "local":
        refusals.add(
            "pipeline.link", "local", f"{runtime} has a process for each rank; choose auto"
        )


def _shape(config: TrainConfig, refusals: Refusals) -> None:
    """Check that blocks and micro-batches make a schedule."""
    runtime, chunks = f"runtime={config.runtime}", runtime_of(config).chunks
    blocks, parts = config.blocks, config.pipeline.microbatches
    if blocks < 2 * chunks or blocks % chunks:
        each = f" {chunks} of them on each rank, so it" if chunks > 1 else ""
        fits = max(2 * chunks, -(-blocks // chunks) * chunks)
        kind = "an even number of blocks from 4" if chunks > 1 else "2 blocks or more"
        refusals.add("blocks", blocks, f"{runtime} has{each} needs {kind}; give blocks={fits}")
        return
    ranks = blocks // chunks
    if parts < 1:
        return
    if config.runtime == "1f1b" and parts < ranks:
        wanted = f"at least blocks={blocks}, or it has nothing to alternate with"
    elif chunks > 1 and parts % ranks:
        wanted = f"a multiple of its {ranks} ranks"
    else:
        return
    fits = max(1, -(-parts // ranks)) * ranks
    refusals.add("pipeline.microbatches", parts, f"with {runtime} must be {wanted}; give {fits}")


def _psi(config: TrainConfig, refusals: Refusals) -> None:
    if config.psi == "":
        refusals.add("psi", "", "must not be empty")
    if config.psi_samples is not None and config.psi is None:
        refusals.add(
            "psi_samples",
            config.psi_samples,
            "is of what psi=FILE has, which is null; give that too, or leave it out",
        )


def _profile(config: TrainConfig, refusals: Refusals) -> None:
    stage = config.profile.stage
    if stage is not None and stage > config.blocks:
        refusals.add("profile.stage", stage, f"must be at most blocks={config.blocks}")
        return
    chunks = runtime_of(config).chunks
    ranks = config.blocks // chunks
    if stage is not None and chunks > 1 and stage <= config.blocks - ranks:
        refusals.add(
            "profile.stage",
            stage,
            f"runtime={config.runtime} computes in the loop of each rank's last stage; give"
            f" {(stage - 1) % ranks + 1 + config.blocks - ranks}, on the same rank",
        )


def _replicas(config: TrainConfig, refusals: Refusals) -> None:
    """Check how many processes share a stage."""
    wanted, key = config.pipeline.replicas, "pipeline.replicas"
    if config.pipeline.ranks is not None and wanted != "auto":
        refusals.add(
            "pipeline.ranks",
            config.pipeline.ranks,
            f"is what pipeline.replicas=auto divides, and {key}={shown(wanted)}; leave it out",
        )
    if wanted is None:
        return
    counts = wanted if isinstance(wanted, list) else [1 if wanted == "auto" else wanted]
    if not counts or any(type(count) is not int or count < 1 for count in counts):
        refusals.add(
            key, wanted, "must be auto, a number from 1, or a list of one for each block, as [3,1]"
        )
        return
    if isinstance(wanted, list) and len(wanted) != config.blocks:
        refusals.add(
            key,
            wanted,
            f"names {len(wanted)} stages, but blocks={config.blocks}; give {config.blocks} numbers"
            f" or blocks={len(wanted)}",
        )
    if wanted == "auto" or max(counts) > 1:
        _shared(config, counts, refusals)


def _shared(config: TrainConfig, counts: list[int], refusals: Refusals) -> None:
    """Check what stages with several processes need."""
    key, wanted, train = "pipeline.replicas", config.pipeline.replicas, config.train
    for other, value in (("runtime", "sequential"), ("pipeline.link", "local")):
        if at(config, other) == value:
            refusals.add(
                key,
                wanted,
                f"{other}={value} runs all stages in one process; leave {key} out, or choose"
                f" {'runtime=pipeline' if other == 'runtime' else 'pipeline.link=auto'}",
            )
    if not method_of(config).replicas:
        what = "runtime" if runtime_of(config).schedule else "method"
        refusals.add(
            key, wanted, f"{what}={at(config, what)} has one process for each stage; leave it out"
        )
    if max(counts) > train.batch_size:
        refusals.add(
            key,
            wanted,
            f"{max(counts)} processes share train.batch_size={train.batch_size} examples; give at"
            f" most {train.batch_size}, or a larger batch",
        )
    most = -(-train.batch_size // min(counts))
    if train.chunk is not None and most < train.chunk <= train.batch_size:
        refusals.add(
            "train.chunk",
            train.chunk,
            f"with {key}={shown(wanted)} no process has more than {most} examples of"
            f" train.batch_size={train.batch_size}; give at most {most}",
        )
    ranks = config.pipeline.ranks
    if ranks is not None and ranks < config.blocks:
        refusals.add(
            "pipeline.ranks", ranks, f"must be at least blocks={config.blocks}: one for each stage"
        )


LIMITS = Limits(
    choices={
        **CHOICES,
        "method": tuple(METHODS),
        "runtime": tuple(RUNTIMES),
        "pipeline.link": ("auto", "local", "gloo", "nccl"),
    },
    ranges={
        **RANGES,
        "blocks": COUNT,
        "psi_samples": COUNT,
        "predsim.beta": Range(low=0, high=1),
        "predsim.inputs": COUNT,
        "replay.batches": OR_NONE,
        "replay.reuse": COUNT,
        "pipeline.queue_messages": COUNT,
        "pipeline.queue_bytes": COUNT,
        "pipeline.microbatches": COUNT,
        "pipeline.ranks": COUNT,
        "evaluate.every": OR_NONE,
        "evaluate.batch_size": COUNT,
        "measure.backprop": OR_NONE,
        "measure.alone": OR_NONE,
        "profile.stage": COUNT,
        "profile.start": OR_NONE,
        "profile.steps": COUNT,
    },
    relations=(
        _blocks,
        _cuts,
        _decoupling,
        _learned,
        _heads,
        _predsim,
        _feedback,
        _replay,
        _delay,
        _schedule,
        _psi,
        _profile,
        _replicas,
    ),
)
