"""What a benchmark reports, and on what machine it ran."""

import json
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

Ticks: TypeAlias = Callable[[], float]
"""A clock that only goes forward, in seconds; it measures and never dates anything."""

IN_MEMORY: Final = "not used"
ticks: Final[Ticks] = time.perf_counter


class BenchError(Exception):
    """A benchmark could not be carried out; the text says why."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured rate beside its baseline; bigger is better.

    ``baseline`` None: the peer was not there, and ``baseline_name`` says what is missing. ``more`` holds
    what else was seen, for people.
    """

    name: str
    value: float
    unit: str
    baseline: float | None
    baseline_name: str
    peak_rss_mb: float | None
    disk: str
    more: Mapping[str, object] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Return value / baseline."""
        return self.value / self.baseline if self.baseline else None

    def line(self) -> str:
        """Return the figure as one line of JSON."""
        fields = {
            "name": self.name,
            "value": _short(self.value),
            "unit": self.unit,
            "baseline": _short(self.baseline),
            "baseline_name": self.baseline_name,
            "ratio": _short(self.ratio),
            "peak_rss_mb": _short(self.peak_rss_mb),
            "disk": self.disk,
        }
        return json.dumps(fields | dict(self.more), ensure_ascii=False)


def own_peak_rss_mb() -> float:
    """Return the largest resident size this process ever had, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # kibibytes on Linux


def machine() -> str:
    """Return the machine in one line: processor, cores, Python."""
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release()}"
    return f"{_processor()}, {cores} cores, {system}, Python {platform.python_version()}"


def disk_kind(path: Path) -> str:
    """Return file system and disk below a path, such as ``ext4 on nvme0n1, solid state``."""
    best = ("", "unknown", "0:0", "")
    for line in _text(Path("/proc/self/mountinfo")).splitlines():
        left, _, right = line.partition(" - ")  # spec: proc(5), mountinfo
        place, device, (kind, source) = left.split()[4], left.split()[2], right.split()[:2]
        if path.resolve().is_relative_to(place) and len(place) >= len(best[0]):
            best = (place, kind, device, source)
    _, kind, device, source = best
    folder = Path("/sys/dev/block") / device
    flag = _text(folder / "queue" / "rotational") or _text(folder.resolve().parent / "queue" / "rotational")
    if flag.strip() not in {"0", "1"}:
        return kind
    disk = Path(source).name
    if disk.startswith(("vd", "xvd")):  # what a hypervisor says about rotation means nothing
        return f"{kind} on {disk}, virtual"
    return f"{kind} on {disk}, {'rotating' if flag.strip() == '1' else 'solid state'}"


def _processor() -> str:
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _short(value: float | None) -> float | None:
    """Keep four digits that count: the rest is noise."""
    return None if value is None else float(f"{value:.4g}")
