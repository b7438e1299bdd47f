"""GPTQ as the paper derives it: after each column the inverse of what is left of the Hessian says how to go on."""

import numpy as np
import numpy.typing as npt

from kvscape.quantization.arrays import F32, U8, Array
from kvscape.quantization.encode import nearest_codes
from kvscape.quantization.format import Format

F64 = npt.NDArray[np.float64]


def slow_gptq(weight: F32, constants: list[Array], fmt: Format, hessian: F64, damping: float) -> U8:
    columns = weight.shape[1]
    damped = hessian + damping * hessian.diagonal().mean() * np.eye(columns)
    left = sorted(range(columns), key=lambda column: -hessian[column, column])
    scale, *minimum = (np.repeat(c.astype(np.float64), fmt.group_size, axis=1)[:, :columns] for c in constants)
    values, codes = weight.astype(np.float64), np.zeros(weight.shape, np.uint8)
    while left:
        column = left[0]
        inverse = np.linalg.inv(damped[np.ix_(left, left)])
        codes[:, column] = nearest_codes(values.astype(np.float32), constants, fmt)[:, column]
        code = codes[:, column].astype(np.float64)
        low = minimum[0][:, column] if minimum else -fmt.max_int * scale[:, column]
        error = values[:, column] - (code * scale[:, column] + low)
        values[:, left] -= np.outer(error, inverse[0] / inverse[0, 0])
        left = left[1:]
    return codes
