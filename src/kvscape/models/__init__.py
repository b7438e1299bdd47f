"""Models as Relax modules: one file for each Hugging Face ``model_type``, shared layers, a registry."""

from kvscape.models.registry import MODELS, find_model

__all__ = ["MODELS", "find_model"]
