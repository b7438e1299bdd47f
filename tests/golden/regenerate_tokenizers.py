"""Write ``tokenizers.json`` again: ``PYTHONPATH=src:tests python tests/golden/regenerate_tokenizers.py``.

Needs llama.cpp (the ``peers`` extra): small vocabularies, trained here, and the ids that llama.cpp finds with them.
"""

import json
import tempfile
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import gguf
import llama_cpp
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

FILE = Path(__file__).with_name("tokenizers.json")
WORDS = (
    "Grüße aus Köln, 你好世界 今天 мир Привет 🙂 the  two   spaces I'll say it's DON'T we've HELLO'S helloWorld 12345 "
    "1234567 x**2 1_000.5 // a/b!!\n\n a \r\n\r\n\t\tü Hello 2024年3月15日\n"
)
CORPUS = "\n".join(list(topics.values())[:20]) + WORDS * 400
TEXTS = (
    "I'll say it's DON'T, we've; HELLO'S helloWorld",
    " \u00a0\u3000 a \r\n\n\t\tb\u200b  ",
    "1234567 ²½Ⅷ ٣٤ 3.14 x = 12345\n",
    "def f(x):\n\treturn x**2  # it's 1_000.5 // a/b\n",
    "你好，世界。今天是2024年3月15日",  # noqa: RUF001
    "👩‍👩‍👧‍👦 and 🏳️‍🌈, Grüße!!\n\n",
    "  leading, trailing  ",
    "<start>two   spaces<start>",
    "<0x41> <s>",
    "",
)
PRE_TOKENIZERS = ("default", "gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "gpt-4o")


def main() -> None:
    tokens, merges = trained(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), alphabet=True)
    bpe = {"model": "gpt2", "tokens": tokens, "token_type": [1] * len(tokens), "merges": merges}
    golden = {
        "llama_cpp_python": llama_cpp.__version__,
        "bpe": {**bpe, "ids": {pre: ids({**bpe, "pre": pre}) for pre in PRE_TOKENIZERS}},
        "spm": spm(),
    }
    FILE.write_text(json.dumps(golden, ensure_ascii=False) + "\n")


def spm() -> dict[str, Any]:
    """Pieces whose scores fall with the order in which they were found, as SentencePiece gives them."""
    tokens, merges = trained(pre_tokenizers.Metaspace(prepend_scheme="never", split=True), alphabet=False)
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    made = ["".join(merge.split(" ")) for merge in merges]
    letters = [token for token in tokens if len(token) == 1 and token not in "²½Ⅷ"]
    pieces = ["<unk>", "<s>", "</s>", "<start>", "   ", *bytes_, *dict.fromkeys([*made, *letters])]
    scores = [0.0] * 261 + [-float(rank) for rank in range(len(pieces) - 261)]
    types = [2, 3, 3, 4, 4] + [6] * 256 + [1] * (len(pieces) - 261)
    fields = {"model": "llama", "tokens": pieces, "scores": scores, "token_type": types, "unknown_token_id": 0}
    prefixes = {str(prefix).lower(): ids({**fields, "add_space_prefix": prefix}) for prefix in (True, False)}
    return {**fields, "ids": prefixes}


def trained(pre_tokenizer: Any, alphabet: bool) -> tuple[list[str], list[str]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    first = pre_tokenizers.ByteLevel.alphabet() if alphabet else []
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=first, show_progress=False)
    lines = [line[at : at + 40] for line in CORPUS.splitlines(keepends=True) for at in range(0, len(line), 40)]
    tokenizer.train_from_iterator(lines, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [" ".join(merge) for merge in model["merges"]]


def ids(fields: dict[str, Any]) -> dict[str, list[int]]:
    """The ids that llama.cpp finds in each text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        write(path, fields)
        llama = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
        return {text: llama.tokenize(text.encode(), add_bos=False, special=False) for text in TEXTS}


def write(path: Path, fields: dict[str, Any]) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(fields["model"])
    writer.add_token_list(fields["tokens"])
    writer.add_token_types(fields["token_type"])
    writer.add_add_bos_token(False)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if fields["model"] == "gpt2":
        writer.add_token_merges(fields["merges"])
        writer.add_tokenizer_pre(fields["pre"])
    else:
        writer.add_token_scores(fields["scores"])
        writer.add_unk_token_id(fields["unknown_token_id"])
        writer.add_add_space_prefix(fields["add_space_prefix"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


if __name__ == "__main__":
    main()
