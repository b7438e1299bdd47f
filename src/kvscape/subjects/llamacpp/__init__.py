"""llama.cpp as a subject, through llama-cpp-python (``pip install kvscape[peers]``)."""

from kvscape.subjects.llamacpp.library import package_version
from kvscape.subjects.llamacpp.memory import predict
from kvscape.subjects.llamacpp.model_file import source_model
from kvscape.subjects.llamacpp.names import LACKED, check_point
from kvscape.subjects.llamacpp.prepare import prepare_llamacpp
from kvscape.subjects.llamacpp.subject import LlamaCppSubject, load_llamacpp

__all__ = [
    "LACKED",
    "LlamaCppSubject",
    "check_point",
    "load_llamacpp",
    "package_version",
    "predict",
    "prepare_llamacpp",
    "source_model",
]
