"""This machine's limits: those that were measured once, or measured now in a process of their own."""

import json
from collections.abc import Callable, Sequence

from kvscape.analysis.device import Device
from kvscape.bench.calibrated import stored_device
from kvscape.errors import DeviceError
from kvscape.study.child import run_child
from kvscape.study.flags import flags, kvscape_command

_TIMEOUT_S = 120.0


def find_device(
    threads: int | None = None,
    command: Callable[[Sequence[str]], list[str]] = kvscape_command,
    device: str = "cpu",
) -> Device:
    """Calibrate this machine, or its GPU, where that was not done; raise DeviceError when it cannot be."""
    if found := stored_device(threads, device):
        return found
    where = {"threads": threads, "device": None if device == "cpu" else device}
    arguments = ["doctor", "--calibrate", *flags(where.items()), "--json"]
    outcome = run_child(command(arguments), _TIMEOUT_S)
    if outcome.status != "ok":
        raise DeviceError("this machine cannot be calibrated", outcome.reason, "try 'kvscape doctor --calibrate'")
    return Device.from_json(json.loads(outcome.stdout)["calibration"])
