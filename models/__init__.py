"""Networks as lists of layers, and the heads that train their blocks. It knows no process."""

from .cost import flops, macs_thop, parameters
from .head import HEADS, HeadSpec, make_head
from .network import Network, check_whole, layer_shapes, network_of
from .partitioned import PartitionedModule, partition
from .superweight import superweights
from .zoo import MIN_SIZES, NETWORKS, make_network

__all__ = [
    "HEADS",
    "MIN_SIZES",
    "NETWORKS",
    "HeadSpec",
    "Network",
    "PartitionedModule",
    "check_whole",
    "flops",
    "layer_shapes",
    "macs_thop",
    "make_head",
    "make_network",
    "network_of",
    "parameters",
    "partition",
    "superweights",
]
