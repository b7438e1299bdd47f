"""The readers of other people's files, each as a function of bytes: only a KvscapeError may come out of one."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from kvscape.errors import KvscapeError
from kvscape.tokenizer import ChatTemplate, Tokenizer
from kvscape.weights.readers.folder import ModelFolder
from kvscape.weights.readers.gguf import GgufSource
from kvscape.weights.readers.huggingface import HuggingFaceSource
from kvscape.weights.readers.safetensors_header import read_header
from kvscape.weights.readers.tensor_cache import read_cache
from tiny import CHAT_TEMPLATE, write_tiny_gguf
from tiny_architectures import ARCHITECTURES, write_architecture
from tiny_folder import write_tiny_folder

Target = Callable[[bytes], None]

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
# tmpfs where there is one: a fuzzer writes a file for each of its inputs.
_FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None


def read_gguf(content: bytes) -> None:
    """Header, shape, tokenizer and the first rows of every tensor."""
    with tempfile.NamedTemporaryFile(suffix=".gguf", dir=_FAST) as file:
        file.write(content)
        file.flush()
        source = GgufSource(Path(file.name))
        Tokenizer.from_json(source.tokenizer_json, source.config.bos_token_id).encode("Why?")
        for _, tensor in source.stream():
            tensor.part(slice(0, 1)).values()


def read_safetensors(content: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".safetensors", dir=_FAST) as file:
        file.write(content)
        file.flush()
        read_header(Path(file.name))


def read_config(content: bytes) -> None:
    """A folder whose config.json these bytes are."""
    with tempfile.TemporaryDirectory(dir=_FAST) as folder:
        write_tiny_folder(Path(folder))
        (Path(folder) / "config.json").write_bytes(content)
        HuggingFaceSource(Path(folder))


def read_table(content: bytes) -> None:
    """A folder whose tensor-cache.json these bytes are."""
    with tempfile.TemporaryDirectory(dir=_FAST) as folder:
        (Path(folder) / "tensor-cache.json").write_bytes(content)
        (Path(folder) / "params_shard_0.bin").write_bytes(bytes(64))
        read_cache(ModelFolder(Path(folder))).verify()


def render_chat(content: bytes) -> None:
    ChatTemplate(content.decode("utf-8", "replace"), "<s>", "</s>").render(MESSAGES)


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "gguf": read_gguf,
        "safetensors": read_safetensors,
        "config": read_config,
        "table": read_table,
        "chat": render_chat,
    }
)


def run(target: str, content: bytes) -> None:
    """Give ``content`` to a reader; whatever it raises beside a KvscapeError in one line is a fault."""
    try:
        TARGETS[target](content)
    except KvscapeError as error:
        assert "\n" not in str(error)


def seeds(target: str) -> list[bytes]:
    """Whole files that a fuzzer begins with."""
    with tempfile.TemporaryDirectory(dir=_FAST) as folder:
        path = Path(folder) / "seed.gguf"
        if target == "gguf":
            kinds = [write_architecture(path, name).read_bytes() for name in ARCHITECTURES]
            return [*kinds, write_tiny_gguf(path).read_bytes()]
        if target == "chat":
            return [CHAT_TEMPLATE.encode(), b"{% for m in messages %}{{ m.role }}{{ m['content'] | trim }}{% endfor %}"]
        if target == "table":
            record = {"name": "norm", "shape": [16], "dtype": "float32", "format": "raw", "nbytes": 64, "byteOffset": 0}
            md5 = hashlib.md5(bytes(64), usedforsecurity=False).hexdigest()
            shard = {"dataPath": "params_shard_0.bin", "format": "raw-shard", "nbytes": 64, "records": [record]}
            return [json.dumps({"metadata": {}, "records": [{**shard, "md5sum": md5}]}).encode()]
        tiny = write_tiny_folder(Path(folder) / "tiny")
        return [(tiny / {"config": "config.json", "safetensors": "model.safetensors"}[target]).read_bytes()]
