"""An OpenAI-compatible server as a subject, over HTTP."""

from kvscape.subjects.endpoint.answer import Answer
from kvscape.subjects.endpoint.client import API_KEY, served_model
from kvscape.subjects.endpoint.names import KNOBS, LACKED, check_endpoint, check_local
from kvscape.subjects.endpoint.subject import EndpointSubject, load_endpoint

__all__ = [
    "API_KEY",
    "KNOBS",
    "LACKED",
    "Answer",
    "EndpointSubject",
    "check_endpoint",
    "check_local",
    "load_endpoint",
    "served_model",
]
