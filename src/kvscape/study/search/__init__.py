"""Searches: which points of a space are measured, and in which order."""

from kvscape.study.search.choose import SEARCHES, SearchSettings, make_search
from kvscape.study.search.search import Search

__all__ = ["SEARCHES", "Search", "SearchSettings", "make_search"]
