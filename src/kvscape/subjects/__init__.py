"""Subjects: what can be measured."""

from kvscape.subjects.registry import SUBJECTS, find_subject, loaded_subject
from kvscape.subjects.subject import Serves, Subject, Token

__all__ = ["SUBJECTS", "Serves", "Subject", "Token", "find_subject", "loaded_subject"]
