"""A study from Python: a space goes in; a data frame, charts and a recommendation come out."""

from kvscape.notebook.charts import Charts
from kvscape.notebook.frame import study_frame
from kvscape.notebook.study import Study

__all__ = ["Charts", "Study", "study_frame"]
