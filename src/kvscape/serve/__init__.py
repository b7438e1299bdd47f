"""An OpenAI-compatible server on one engine: a ``Service`` is a model, a running engine and settings."""

from kvscape.serve.app import make_app
from kvscape.serve.served_model import ServedModel, served_name
from kvscape.serve.server import ApiServer, address, bind, run_server
from kvscape.serve.service import Service
from kvscape.serve.settings import ServeSettings

__all__ = [
    "ApiServer",
    "ServeSettings",
    "ServedModel",
    "Service",
    "address",
    "bind",
    "make_app",
    "run_server",
    "served_name",
]
