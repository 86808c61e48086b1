"""Processes that train together, and the collective operations among them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gradood._io.warning_filters import ignored
from gradood.errors import ConfigError

__all__ = ["Processes", "averaged_gradients", "joined"]


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that train together; a single process is a group of size 1.

    Attributes:
        rank: from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @staticmethod
    def current() -> "Processes":
        """The default process group of torch, if it is initialized; else a single process."""
        if dist.is_available() and dist.is_initialized():
            return Processes(dist.get_rank(), dist.get_world_size())
        return Processes()

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def concatenated(self, rows: Tensor) -> Tensor:
        """Rows (n, …) of all processes in the order of their ranks; n may differ."""
        if self.size == 1:
            return rows
        counts = self.stacked(torch.tensor([len(rows)], device=rows.device))[:, 0].tolist()
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        blocks = self.stacked(padded)
        return torch.cat([block[:count] for block, count in zip(blocks, counts, strict=True)])

    def stacked(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, which have one shape, (size, …)."""
        if self.size == 1:
            return tensor[None]
        tensors = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(tensors, tensor.contiguous())
        return torch.stack(tensors)

    def broadcast(self, tensor: Tensor) -> Tensor:
        """The tensor of the first process, written into `tensor`."""
        if self.size > 1:
            dist.broadcast(tensor, 0)
        return tensor

    def average_buffers(self, model: nn.Module) -> None:
        """Set floating-point buffers (running statistics) to their mean over the processes.

        With equal parts, running means become those of the whole batch; running variances lack
        the variance between the parts' means.
        """
        if self.size == 1:
            return
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer /= self.size

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


def averaged_gradients(module: nn.Module) -> nn.Module:
    """The module, whose gradients are averaged over the processes."""
    # The option that is to replace it is not in every torch that this library runs on.
    with ignored(Warning, message=".*broadcast_buffers.*is deprecated"):
        # Buffers are averaged after each step instead, and the device is chosen already.
        return DistributedDataParallel(module, broadcast_buffers=False)


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that torchrun started, if it did; yields this process's device.

    Args:
        device: as asked for; of several CUDA devices each process takes its own.

    Raises:
        ConfigError: torchrun started this process, and this torch has no distributed training.
    """
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        yield device
        return
    if not dist.is_available():
        raise ConfigError("this torch has no distributed training; start a single process.")
    options: dict[str, Any] = {"backend": "gloo"}
    if device.startswith("cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
        options = {"backend": "nccl", "device_id": torch.device(device)}
    dist.init_process_group(**options)
    try:
        yield device
    finally:
        dist.destroy_process_group()
