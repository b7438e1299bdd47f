from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_logits import KINDS, direct_kl, kinds, log_softmax, made_logits, seeds
from numpy.typing import NDArray

from kvscape.errors import ConfigError
from kvscape.quality.distributions import Distributions
from kvscape.quality.reference_format import REST_BITS, ReferenceFormat, check_limit
from kvscape.quality.reference_rows import KeptRows, WholeRows, kept

TARGETS = np.array([4, 0, 59])
formats = st.builds(ReferenceFormat, st.sampled_from([5, 12, 59]), st.sampled_from(list(REST_BITS)))
of_rest = pytest.mark.parametrize("rest", list(REST_BITS))


def compared(reference: NDArray[Any], candidate: NDArray[Any], form: ReferenceFormat) -> Any:
    return KeptRows(kept(reference, TARGETS, form)).divergences(Distributions.of(candidate))


@given(kinds, kinds, seeds, seeds, formats)
@settings(max_examples=250)
def test_the_divergence_lies_within_the_bounds_that_are_told(
    one: str, other: str, seed: int, other_seed: int, form: ReferenceFormat
) -> None:
    reference, candidate = made_logits(one, seed), made_logits(other, other_seed)
    truth, got = direct_kl(reference, candidate), compared(reference, candidate, form)
    rounding = 3e-6 * np.where(np.isfinite(truth), truth, 0)
    assert (got.low <= got.kl).all() and (got.kl <= got.high).all()
    assert (got.low - rounding <= truth).all() and (truth <= got.high + rounding).all()


@given(kinds, seeds, formats)
@settings(max_examples=80)
def test_a_model_against_its_own_reference_is_zero(kind: str, seed: int, form: ReferenceFormat) -> None:
    logits = made_logits(kind, seed)
    most = 1e-6 if form.rest != "8bit" else 0.02
    np.testing.assert_allclose(compared(logits, logits, form).kl, 0, atol=most)


def near(seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two models of a usual vocabulary that are nearly the same, as a quantized one and its original."""
    reference = made_logits("ordinary", seed, vocab_size=20_000)
    return reference, reference + made_logits("ordinary", seed + 1, vocab_size=20_000) * np.float32(0.05)


def test_codes_of_16_bits_lose_next_to_nothing() -> None:
    reference, candidate = near(1)
    got = compared(reference, candidate, ReferenceFormat(64, "16bit"))
    np.testing.assert_allclose(got.kl, direct_kl(reference, candidate), atol=3e-6)
    assert (got.high - got.low).max() < 2e-4


def test_codes_of_8_bits_lose_little() -> None:
    reference, candidate = near(1)
    got = compared(reference, candidate, ReferenceFormat(64, "8bit"))
    np.testing.assert_allclose(got.kl, direct_kl(reference, candidate), atol=1e-3)
    assert (got.high - got.low).max() < 0.05


def test_more_tokens_narrow_the_bounds() -> None:
    reference, candidate = near(1)
    bounds = [compared(reference, candidate, ReferenceFormat(top_k, "mass")) for top_k in (5, 500, 15_000)]
    widths = [(one.high - one.low).mean() for one in bounds]
    assert widths[0] > 3 * widths[1] > 3 * widths[2]
    assert bounds[0].kl.mean() < bounds[1].kl.mean() < bounds[2].kl.mean() < direct_kl(reference, candidate).mean()


def test_the_upper_bound_of_a_lumped_rest_is_reached() -> None:
    """The reference has all of its rest where the candidate has nearly nothing: no smaller bound would hold."""
    reference = np.log(np.array([[0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 1e-9, 1e-9]], np.float32))
    candidate = np.log(np.array([[0.3, 0.1, 0.1, 0.1, 0.1, 1e-9, 0.15, 0.15]], np.float32))
    arrays = kept(reference, np.array([0]), ReferenceFormat(5, "mass"))
    got = KeptRows(arrays).divergences(Distributions.of(candidate))
    assert got.high == pytest.approx(direct_kl(reference, candidate), abs=1e-5)
    assert got.low[0] < 0.2


@of_rest
@pytest.mark.parametrize("kind", KINDS)
def test_right_tokens_and_likeliest_ones_are_kept_exactly(kind: str, rest: str) -> None:
    logits = made_logits(kind, 5)
    rows = KeptRows(kept(logits, TARGETS, ReferenceFormat(7, rest)))
    np.testing.assert_allclose(rows.target_logprobs, log_softmax(logits)[np.arange(3), TARGETS], rtol=1e-6, atol=1e-6)
    whole = WholeRows(logits, TARGETS)
    np.testing.assert_array_equal(rows.top_ids[:, :5], whole.top_ids)
    np.testing.assert_allclose(rows.top_logprobs[:, :5], whole.top_logprobs, rtol=1e-6, atol=1e-6)


@of_rest
def test_its_size_is_known_before(rest: str) -> None:
    form = ReferenceFormat(7, rest)
    arrays = kept(made_logits("ordinary", 1), TARGETS, form)
    assert sum(array.nbytes for array in arrays.values()) == form.nbytes(3, 60)
    assert {name: (str(array.dtype), array.shape) for name, array in arrays.items()} == {
        name: (spec.dtype, spec.shape) for name, spec in form.specs(3, 60).items()
    }


def test_a_large_vocabulary_takes_wider_ids() -> None:
    dtypes = [ReferenceFormat().specs(1, size)["top_ids"].dtype for size in (2**16, 2**16 + 1)]
    assert dtypes == ["uint16", "uint32"]


def test_one_that_is_too_large_says_what_fits() -> None:
    with pytest.raises(ConfigError) as caught:
        check_limit(ReferenceFormat(256, "16bit"), 280_000, 49_152, 2 * 2**30)
    assert "would take 26.04 GiB" in str(caught.value) and "--reference-top-k 1276 fits" in str(caught.value)
    check_limit(ReferenceFormat(1276, "mass"), 280_000, 49_152, 2 * 2**30)
    with pytest.raises(ConfigError):
        check_limit(ReferenceFormat(1277, "mass"), 280_000, 49_152, 2 * 2**30)
    with pytest.raises(ConfigError, match="--reference-rest 8bit fits"):
        check_limit(ReferenceFormat(64, "16bit"), 30_000, 49_152, 2 * 2**30)
    with pytest.raises(ConfigError, match="score fewer windows"):
        check_limit(ReferenceFormat(5), 280_000, 49_152, 2**20)


def test_a_format_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean '16bit'"):
        ReferenceFormat(8, "16-bit")
    with pytest.raises(ConfigError, match="top_k = 4"):
        ReferenceFormat(4)


def test_a_small_vocabulary_has_fewer_likeliest_tokens() -> None:
    assert ReferenceFormat(256).fitted(60) == ReferenceFormat(59)
    assert ReferenceFormat(20).fitted(60) == ReferenceFormat(20)
