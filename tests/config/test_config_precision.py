"""Names of KV precisions, and which of them a library has."""

import pytest

from kvscape.config import GPU_KV_DTYPES, KV_DTYPES, KVPrecision, library_kv_dtypes
from kvscape.errors import ConfigError


def test_a_name_is_one_precision_or_two() -> None:
    assert KVPrecision.parse("fp8") == KVPrecision("fp8", "fp8")
    assert KVPrecision.parse("k = int8, v=int4") == KVPrecision("int8", "int4")
    assert KVPrecision.parse("k=int4,v=int4").name == "int4"
    with pytest.raises(ConfigError, match="unknown kv_dtype 'int3'; did you mean 'int"):
        KVPrecision.parse("int3")


def test_a_library_has_all_that_its_kernels_know_but_pairs() -> None:
    assert library_kv_dtypes("int8") == KV_DTYPES
    assert library_kv_dtypes("k=int8,v=int4") == ("k=int8,v=int4",)
    assert library_kv_dtypes("fp8", GPU_KV_DTYPES) == GPU_KV_DTYPES


@pytest.mark.parametrize("name", ["fp8", "k=int8,v=fp8", "k=fp8,v=f16"])
def test_what_the_kernels_do_not_know_is_one_clear_line(name: str) -> None:
    why = "the kernels of this device have f32, f16, int8 and int4; choose one of them, or another --device"
    with pytest.raises(ConfigError, match=f"^kv_dtype = {name}: {why}$"):
        library_kv_dtypes(name)
