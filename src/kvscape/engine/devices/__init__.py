"""The only modules that touch a compiled library; each is a ``Device``."""

from kvscape.engine.devices.device import Device, KVPools, Logits, StepInput

__all__ = ["Device", "KVPools", "Logits", "StepInput"]
