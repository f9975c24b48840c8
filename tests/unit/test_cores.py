"""Cores are counted as the container or the batch system limits them."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from sefar_serve import cores
from sefar_serve.cores import available_cores, cpu_quota
from sefar_serve.settings import Settings


def test_version_2_takes_the_smallest_limit_on_the_way_up(tmp_path: Path) -> None:
    (tmp_path / "self").write_text("0::/pod/container\n")
    root = tmp_path / "cgroup"
    (root / "pod" / "container").mkdir(parents=True)
    assert cpu_quota(tmp_path / "self", root) == math.inf
    (root / "pod" / "container" / "cpu.max").write_text("max 100000\n")
    (root / "pod" / "cpu.max").write_text("250000 100000\n")
    assert cpu_quota(tmp_path / "self", root) == 2.5
    (root / "cpu.max").write_text("150000 100000\n")
    assert cpu_quota(tmp_path / "self", root) == 1.5


def test_version_1(tmp_path: Path) -> None:
    (tmp_path / "self").write_text("4:memory:/a\n3:cpu,cpuacct:/a\n")
    group = tmp_path / "cgroup" / "cpu" / "a"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(tmp_path / "self", tmp_path / "cgroup") == math.inf
    (group / "cpu.cfs_quota_us").write_text("50000\n")
    assert cpu_quota(tmp_path / "self", tmp_path / "cgroup") == 0.5


def test_other_systems_have_no_groups(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "nothing", tmp_path) == math.inf


@pytest.mark.parametrize(("quota", "affinity", "expected"), [(0.2, 8, 1), (2.5, 8, 3), (math.inf, 8, 8), (16.0, 2, 2)])
def test_the_smaller_of_quota_and_affinity(
    monkeypatch: pytest.MonkeyPatch, quota: float, affinity: int, expected: int
) -> None:
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert available_cores() == expected
    assert Settings().decode_threads == expected


def test_nothing_else_counts_cores() -> None:
    root = Path(cores.__file__).parent.parent
    found = [
        str(file.relative_to(root))
        for folder in ("sefar_serve", "training", "clients", "benchmarks")
        for file in (root / folder).rglob("*.py")
        if file.name != "cores.py" and "os.cpu_count" in file.read_text(encoding="utf-8")
    ]
    assert found == []
