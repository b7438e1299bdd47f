"""The facade: find or build the artefact, then generate, stream, chat and score."""

from kvscape.engine.request import SamplingParams
from kvscape.llm.build import Built, build_artifact
from kvscape.llm.completion import Choice, Completion
from kvscape.llm.llm import LLM

__all__ = ["LLM", "Built", "Choice", "Completion", "SamplingParams", "build_artifact"]
