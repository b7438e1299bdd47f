"""Text to tokens and back: byte-level and SentencePiece's BPE, the model's own chat template, text that grows."""

from kvscape.tokenizer.bytes_only import byte_tokenizer
from kvscape.tokenizer.chat_template import ChatTemplate, with_tool_use
from kvscape.tokenizer.detokenizer import Detokenizer
from kvscape.tokenizer.gguf import gguf_tokenizer
from kvscape.tokenizer.message import Message, Tool, ToolMessage
from kvscape.tokenizer.tokenizer import Tokenizer

__all__ = [
    "ChatTemplate",
    "Detokenizer",
    "Message",
    "Tokenizer",
    "Tool",
    "ToolMessage",
    "byte_tokenizer",
    "gguf_tokenizer",
    "with_tool_use",
]
