"""Subjects: what can be measured."""

from kvscape.subjects.registry import ENDPOINT, SUBJECTS, find_local, find_subject, is_remote, loaded_subject
from kvscape.subjects.subject import OnDevice, Serves, Subject, TextSubject, Token

__all__ = [
    "ENDPOINT",
    "SUBJECTS",
    "OnDevice",
    "Serves",
    "Subject",
    "TextSubject",
    "Token",
    "find_local",
    "find_subject",
    "is_remote",
    "loaded_subject",
]
