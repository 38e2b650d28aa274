"""Networks whose weights are sharded over the processes of a training (FSDP2).

Each process holds a part of every weight, its gradient and its moments, and gathers the weights of
a block while it computes with them (Zhao et al., "PyTorch FSDP", VLDB 2023). accelerate shards only
on GPUs; torch's own function also does on CPU processes, where it can be tested.
"""

import warnings

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from recon.errors import ConfigError
from recon.model.layers.attention import Block

# What accelerate would do with the network by itself; `Trainer` saves and averages other ones.
FOREIGN = ("FSDP", "DEEPSPEED", "MEGATRON_LM")


def check_distribution(kind: str) -> None:
    """Check the `distributed_type` of accelerate's configuration.

    Raises:
        ConfigError: It would shard the network in a way of its own.
    """
    if kind in FOREIGN:
        raise ConfigError(
            f"accelerate is configured for distributed_type {kind}, which recon does not use; "
            "take a configuration of configs/accelerate, and parallel=fsdp to shard the network"
        )


def shard(network: nn.Module, processes: int, device: torch.device) -> None:
    """Shard the weights of a network over all processes, in place.

    Every transformer block is gathered by itself, the other weights together.
    """
    # torch's remark on networks whose output is changed in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module")
    mesh = init_device_mesh(device.type, (processes,))
    for module in network.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(network, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor; all processes must call this for a sharded one."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds, if another one is sharded."""
    if not isinstance(other, DTensor):
        return tensor
    mesh = other.device_mesh
    on_device = tensor.to(mesh.device_type)
    return distribute_tensor(on_device, mesh, other.placements, src_data_rank=None)


def copy_whole(network: nn.Module, into: nn.Module) -> None:
    """Copy all weights of a sharded network into one that is not; all processes must call this."""
    values = {name: whole(value) for name, value in network.state_dict().items()}
    into.load_state_dict(values)
