import pytest

from kvscape.config import cuda_architecture, cuda_index
from kvscape.errors import DeviceError


@pytest.mark.parametrize(("device", "index"), [("cpu", None), ("cpu:0", None), ("cuda", 0), ("cuda:3", 3)])
def test_a_device_is_the_processor_or_a_gpu_by_its_number(device: str, index: int | None) -> None:
    assert cuda_index(device) == index and cuda_architecture(device) is None


def test_an_architecture_is_compiled_for_and_nothing_runs_on_it() -> None:
    assert cuda_architecture("cuda:sm_90") == "sm_90"
    with pytest.raises(DeviceError, match=r"^device 'cuda:sm_90' cannot run here: it names GPUs to compile.*cuda:0$"):
        cuda_index("cuda:sm_90")


@pytest.mark.parametrize("device", ["", "cuda:", "cuda:x", "sm_90", "cuda:sm_", "tpu"])
def test_another_name_is_refused(device: str) -> None:
    assert cuda_architecture(device) is None
    with pytest.raises(DeviceError, match="cannot run here"):
        cuda_index(device)
