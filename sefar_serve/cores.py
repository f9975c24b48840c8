"""How many CPU cores this process may use, which in a container or a batch system is fewer than the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows control groups."""

MEMBERSHIP = Path("/proc/self/cgroup")
"""The control groups of this process."""


def available_cores() -> int:
    """Number of cores that this process may keep busy, at least 1.

    The smallest of: the cores that it may run on (`taskset`, Slurm, `docker --cpuset-cpus`), and the CPU time that its
    control groups allow (`docker --cpus`, Kubernetes' `limits.cpu`), rounded up.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cpu_quota())))


def limited_cores() -> int:
    """`available_cores`, or 0 if that is the whole machine; libraries take 0 for their own choice."""
    cores = available_cores()
    return 0 if cores >= (os.cpu_count() or 1) else cores


def cpu_quota(membership: Path = MEMBERSHIP, root: Path = CGROUPS) -> float:
    """The CPU time that control groups allow, in cores; infinity without a limit.

    Args:
        membership: lists the groups, one ``NUMBER:CONTROLLERS:PATH`` per line.
        root: folder of the groups; of version 2 itself, of version 1 with a folder for each controller.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return math.inf
    quotas = [math.inf]
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            quotas += [_version_2(folder) for folder in _upwards(root, path)]
        elif "cpu" in controllers.split(","):
            quotas += [_version_1(folder) for folder in _upwards(root / "cpu", path)]
    return min(quotas)


def _upwards(root: Path, path: str) -> list[Path]:
    """The folders of a group and of those above it, each of which may set a limit; a container sees only its root."""
    below = PurePosixPath(path.lstrip("/"))
    return [root / folder for folder in (below, *below.parents)]


def _version_2(folder: Path) -> float:
    quota, period = [*_words(folder / "cpu.max"), "max", "100000"][:2]
    return math.inf if quota == "max" else int(quota) / int(period)


def _version_1(folder: Path) -> float:
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    return int(quota[0]) / int(period[0]) if quota and period and int(quota[0]) > 0 else math.inf


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").split()
    except OSError:  # this group sets no limit
        return []
