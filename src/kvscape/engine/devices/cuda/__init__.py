"""NVIDIA GPUs."""

from kvscape.engine.devices.cuda.device import CudaDevice as CudaDevice
