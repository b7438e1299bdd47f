"""Models as Relax modules: one file for each Hugging Face ``model_type``, shared layers, a registry."""

from kvscape.models.registry import MODELS, check_model, find_model

__all__ = ["MODELS", "check_model", "find_model"]
