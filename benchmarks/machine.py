"""The machine: which processors, how much memory and time a process takes, what else runs."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


class Processors:
    """One processor for the server and another for the load, where there are two."""

    def __init__(self) -> None:
        available = sorted(os.sched_getaffinity(0))
        self.server = available[0]
        others = [cpu for cpu in available[1:] if not _same_core(cpu, self.server)]
        self.load = (others or available[1:] or available)[0]

    @property
    def shared(self) -> bool:
        return self.server == self.load


def _same_core(one: int, other: int) -> bool:
    try:
        return Path(_SIBLINGS.format(one)).read_text() == Path(_SIBLINGS.format(other)).read_text()
    except OSError:
        return False


@contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """What is started in this block runs on one processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def favour(pid: int) -> None:
    """Let a session of processes (`pid` leads it) run before others, where root may do that."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PGRP, pid, -20)
        # Linux weighs sessions against each other, and niceness inside of them only.
        Path(f"/proc/{pid}/autogroup").write_text("-20")


def waited(pid: int) -> float:
    """How long the first thread of a process has been kept from running by others, in seconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def memory(pid: int) -> int:
    """The proportional set size of a process, in bytes."""
    return parse_pss(Path(f"/proc/{pid}/smaps_rollup").read_text())


def parse_pss(rollup: str) -> int:
    """The `Pss` of a smaps_rollup, in bytes.  Raises `ValueError` when there is none."""
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no Pss in smaps_rollup")


def family(pid: int) -> list[int]:
    """A process and all that it started, and they did."""
    found = [pid]
    for process in found:
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def raise_file_limit() -> int:
    """Allow as many open files as the system lets us; how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def conditions(processors: Processors, directory: Path) -> dict[str, str]:
    """What the numbers depend on, for the report."""
    return {
        "processor": f"{_cpu_model()}, {os.cpu_count()} processors",
        "pinned": (
            "server and load on the SAME processor: the rates are of both together"
            if processors.shared
            else f"server on processor {processors.server}, load on {processors.load}"
        ),
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": _file_system(directory),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(directory: Path) -> str:
    """The kind of file system that a directory is on: fsync is free on some."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, name, *_ = line.split()
        inside = directory.resolve().is_relative_to(mount)
        if inside and len(mount) >= len(best):
            best, kind = mount, name
    return kind
