"""Devices: their names, and what work takes of their memory."""

from __future__ import annotations

import sys

import psutil
import torch


def device_name(device: torch.device) -> str:
    """The device as a person knows it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type


def free_memory(device: torch.device) -> int:
    """Bytes that new tensors can have on a device: what is free, and on a GPU what PyTorch keeps in reserve."""
    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


class PeakMemory:
    """The most memory that work takes from now on.

    On a CPU the process's peak resident size counts, which systems do not reset: what it had before is in it.

    Args:
        device: Whose memory.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        else:
            self._before = int(psutil.Process().memory_info().rss)

    def peak(self) -> int:
        """Bytes in use at most."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else _peak_resident()

    def taken(self) -> int:
        """Bytes that came on top of what was in use at the start."""
        return max(0, self.peak() - self._before)


def _peak_resident() -> int:
    """The process's peak resident size in bytes. psutil has it on Windows alone."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
