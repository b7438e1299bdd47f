"""Hugging Face transformers as a subject: the reference (``pip install 'kvscape[reference]'``)."""

from kvscape.subjects.transformers.library import package_version
from kvscape.subjects.transformers.memory import predict
from kvscape.subjects.transformers.names import LACKED, check_point
from kvscape.subjects.transformers.prepare import prepare_transformers
from kvscape.subjects.transformers.source import source_model
from kvscape.subjects.transformers.subject import TransformersSubject, load_transformers

__all__ = [
    "LACKED",
    "TransformersSubject",
    "check_point",
    "load_transformers",
    "package_version",
    "predict",
    "prepare_transformers",
    "source_model",
]
