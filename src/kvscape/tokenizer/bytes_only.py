"""A tokenizer without a model: one token for each byte, the others are never found in a text."""

from kvscape.tokenizer.byte_level import BYTE_OF_CHARACTER
from kvscape.tokenizer.gguf import gguf_tokenizer
from kvscape.tokenizer.gguf_vocabulary import NORMAL, UNUSED


def byte_tokenizer(vocab_size: int) -> str:
    """Return the ``tokenizer.json`` of ``vocab_size`` tokens, at least 256: token i < 256 is the byte i."""
    spelled = sorted(BYTE_OF_CHARACTER, key=BYTE_OF_CHARACTER.__getitem__)
    unused = vocab_size - len(spelled)
    return gguf_tokenizer(
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.ggml.tokens": [*spelled, *(f"<{number}>" for number in range(unused))],
            "tokenizer.ggml.token_type": [NORMAL] * len(spelled) + [UNUSED] * unused,
            "tokenizer.ggml.merges": [],
        }
    )
