"""A study: a space of design points, measured once each, and what follows from them."""

from kvscape.study.budget import Budget, parse_bytes, parse_increase
from kvscape.study.device import find_device
from kvscape.study.executor import Executor, ProcessExecutor
from kvscape.study.export import export_study
from kvscape.study.live import LiveView
from kvscape.study.model_facts import ModelFacts
from kvscape.study.pareto import OBJECTIVES, pareto_front
from kvscape.study.predictor import Predictor
from kvscape.study.progress import StudyProgress
from kvscape.study.recommend import Recommendation, recommend
from kvscape.study.run import Study
from kvscape.study.search import SEARCHES, SearchSettings
from kvscape.study.space import Quality, Space, parse_space, read_space, space_of_axes
from kvscape.study.store import Store

__all__ = [
    "OBJECTIVES",
    "SEARCHES",
    "Budget",
    "Executor",
    "LiveView",
    "ModelFacts",
    "Predictor",
    "ProcessExecutor",
    "Quality",
    "Recommendation",
    "SearchSettings",
    "Space",
    "Store",
    "Study",
    "StudyProgress",
    "export_study",
    "find_device",
    "pareto_front",
    "parse_bytes",
    "parse_increase",
    "parse_space",
    "read_space",
    "recommend",
    "space_of_axes",
]
