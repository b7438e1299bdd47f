"""A conversation with a model in the terminal."""

from kvscape.chat.session import ChatSession
from kvscape.chat.terminal import Talker, Terminal

__all__ = ["ChatSession", "Talker", "Terminal"]
