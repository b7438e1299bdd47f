"""Subjects: what can be measured."""

from kvscape.subjects.registry import SUBJECTS, find_subject, loaded_subject
from kvscape.subjects.subject import Subject, Token

__all__ = ["SUBJECTS", "Subject", "Token", "find_subject", "loaded_subject"]
