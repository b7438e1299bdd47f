"""A conversation with a model in the terminal."""

from kvscape.chat.screen import open_screen
from kvscape.chat.session import ChatSession
from kvscape.chat.talker import Talker
from kvscape.chat.terminal import Terminal

__all__ = ["ChatSession", "Talker", "Terminal", "open_screen"]
