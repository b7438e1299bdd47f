"""GPUs with a driver for Vulkan, Metal or DX12."""

from kvscape.engine.devices.webgpu.device import WebgpuDevice as WebgpuDevice
