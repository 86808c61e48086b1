"""The processes that train together; one process alone is a world of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gradood.errors import ConfigError

__all__ = ["World", "joined"]


@dataclass(frozen=True, slots=True)
class World:
    """This process among those that train together.

    Attributes:
        rank: from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @staticmethod
    def current() -> "World":
        """The default process group, if there is one; else a world of one."""
        if dist.is_available() and dist.is_initialized():
            return World(dist.get_rank(), dist.get_world_size())
        return World()

    @property
    def leads(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> Tensor:
        """Rows (n, …) of all processes in the order of their ranks; n may differ."""
        if self.size == 1:
            return rows
        counts = self.all(torch.tensor([len(rows)], device=rows.device))[:, 0].tolist()
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        every = self.all(padded)
        return torch.cat([part[:count] for part, count in zip(every, counts, strict=True)])

    def all(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, which have one shape, (size, …)."""
        if self.size == 1:
            return tensor[None]
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(found, tensor.contiguous())
        return torch.stack(found)

    def lead(self, tensor: Tensor) -> Tensor:
        """The tensor of the first process."""
        if self.size > 1:
            dist.broadcast(tensor, 0)
        return tensor

    def agree(self, model: nn.Module) -> None:
        """Give all processes the mean of each other's running statistics.

        With equal parts, running means become those of the whole batch; running variances lack
        the variance between the parts' means.
        """
        if self.size == 1:
            return
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer /= self.size

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that torchrun started, if it did; gives this process's device.

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
