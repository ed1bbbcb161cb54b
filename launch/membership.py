"""A process's place among the ranks of a run, and its way to the shared key-value store.

    blockstep train       the parent hosts the store on the loopback interface and tells its
                          workers where; nothing listens on the network
    torchrun -m ...       torchrun's own store; rank, size and address come from its environment

Every thread that talks to the store has a client of its own: a store client answers one call at
a time, and a call may wait.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist

__all__ = ["Membership", "host_store", "under_torchrun"]

STORE_VARIABLE = "BLOCKSTEP_STORE"


@dataclass(frozen=True)
class Membership:
    """One rank of a run.

    Attributes:
        rank: Its number among all ranks.
        world: Number of ranks.
        local_rank: Its number on this machine.
        local_world: Number of ranks on this machine.
        host: Address of the store.
        port: Port of the store.
        prefix: Before every key: runs and restarts that share a store do not see each other.
        torchrun: Whether torchrun started it.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int
    host: str
    port: int
    prefix: str
    torchrun: bool

    def store(self) -> dist.Store:
        """Return a new client of the store."""
        client = dist.TCPStore(
            self.host,
            self.port,
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=300),
        )
        return dist.PrefixStore(self.prefix, client)

    @classmethod
    def from_environment(cls) -> Membership:
        """Read the place that the launcher gave to this process."""
        environment = os.environ
        own = environment.get(STORE_VARIABLE)
        if own is not None:
            host, _, port = own.rpartition(":")
            prefix = "blockstep"
        else:
            host, port = environment["MASTER_ADDR"], environment["MASTER_PORT"]
            run = environment.get("TORCHELASTIC_RUN_ID", "none")
            prefix = f"blockstep/{run}/{environment.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        return cls(
            rank=rank,
            world=world,
            local_rank=int(environment.get("LOCAL_RANK", rank)),
            local_world=int(environment.get("LOCAL_WORLD_SIZE", world)),
            host=host,
            port=int(port),
            prefix=prefix,
            torchrun=own is None,
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that :meth:`from_environment` reads, for a worker of our own."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_world),
            STORE_VARIABLE: f"{self.host}:{self.port}",
        }


def under_torchrun() -> bool:
    """Whether torchrun (or something that sets the same variables) started this process."""
    return "RANK" in os.environ and "MASTER_ADDR" in os.environ


def host_store() -> tuple[dist.TCPStore, int]:
    """Host a key-value store that listens on the loopback interface only.

    A TCPStore that is told 127.0.0.1 still listens on every interface, so it is handed a socket
    that is bound already.

    Returns:
        The server, which lives as long as the object, and its port.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    port = listener.getsockname()[1]
    server = dist.TCPStore(
        "127.0.0.1",
        port,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    return server, port
