"""Calibrations are kept: one for each machine with its GPU, number of threads and set of library versions."""

import hashlib
import json
from pathlib import Path

from kvscape.analysis.cpu import default_threads
from kvscape.analysis.device import Device
from kvscape.bench.calibrate import calibrate
from kvscape.config import is_gpu
from kvscape.files import write_text
from kvscape.hub.cache import cache_dir
from kvscape.results import current_environment


def stored_device(threads: int | None = None, device: str = "cpu") -> Device | None:
    """The calibration of this machine, or of its GPU; None where there is none yet, or none that can be read."""
    try:
        return Device.from_json(json.loads(_path(threads, device).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def calibrate_device(threads: int | None = None, device: str = "cpu") -> Device:
    """Measure this machine and keep what was found. Raises KvscapeError when the cache cannot be written."""
    measured = calibrate(threads, device)
    write_text(_path(threads, device), json.dumps(measured.to_json()) + "\n")
    return measured


def _path(threads: int | None, device: str) -> Path:
    environment = current_environment(device)
    threads = 1 if is_gpu(device) else threads
    facts = (environment.machine, threads or default_threads(), environment.kvscape_version, environment.packages)
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return cache_dir() / "calibrations" / f"{key}.json"
