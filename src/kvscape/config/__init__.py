"""What a user chooses, as frozen data: the model's shape, the build, the engine's knobs, the workload."""

from kvscape.config.calibration import BUILT_IN, CALIBRATION_METHOD, SELF, Calibration, CalibrationMethod
from kvscape.config.device import AdapterName, adapter_name, cuda_architecture, cuda_index, is_gpu
from kvscape.config.endpoint import ROUTES, EndpointConfig
from kvscape.config.engine import EngineConfig
from kvscape.config.model import FULL, SLIDING, LayerGroup, ModelConfig
from kvscape.config.overrides import parse_overrides
from kvscape.config.point import BuildConfig, DesignPoint
from kvscape.config.precision import (
    GPU_KV_DTYPES,
    KEY_GROUP,
    KV_DTYPES,
    KVPrecision,
    library_kv_dtypes,
)
from kvscape.config.rope import ROPE_TYPES, UNSCALED, RopeScaling
from kvscape.config.share import parse_share
from kvscape.config.slo import SLO_NAMES, parse_slo
from kvscape.config.window import Window
from kvscape.config.workload import ASKED, Asked, Workload, asked_flags, asked_of

__all__ = [
    "ASKED",
    "BUILT_IN",
    "CALIBRATION_METHOD",
    "FULL",
    "GPU_KV_DTYPES",
    "KEY_GROUP",
    "KV_DTYPES",
    "ROPE_TYPES",
    "ROUTES",
    "SELF",
    "SLIDING",
    "SLO_NAMES",
    "UNSCALED",
    "AdapterName",
    "Asked",
    "BuildConfig",
    "Calibration",
    "CalibrationMethod",
    "DesignPoint",
    "EndpointConfig",
    "EngineConfig",
    "KVPrecision",
    "LayerGroup",
    "ModelConfig",
    "RopeScaling",
    "Window",
    "Workload",
    "adapter_name",
    "asked_flags",
    "asked_of",
    "cuda_architecture",
    "cuda_index",
    "is_gpu",
    "library_kv_dtypes",
    "parse_overrides",
    "parse_share",
    "parse_slo",
]
