import subprocess
import sys

import numpy as np
import psutil
import pytest

from kvscape.bench.peak_memory import peak_rss_bytes

CHILD = "from kvscape.bench.peak_memory import peak_rss_bytes; print(peak_rss_bytes())"


def test_the_peak_stays_when_memory_is_freed() -> None:
    before = psutil.Process().memory_info().rss
    np.ones(20_000_000, np.float64)
    assert peak_rss_bytes() > before + 100_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of the program alone")
def test_a_large_parent_is_not_counted() -> None:
    ballast = np.ones(50_000_000, np.float64)
    out = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert int(out.stdout) < ballast.nbytes
