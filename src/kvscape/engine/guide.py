"""What says which tokens may come next."""

from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

BoolArray: TypeAlias = npt.NDArray[np.bool_]


class Guide(Protocol):
    """Follows one answer token by token; whatever it raises ends its request alone, with finish_reason "error"."""

    def allowed(self) -> BoolArray:
        """Which tokens may come next: [v]; those beyond v may not. End-of-sequence tokens are not its concern."""

    def accept(self, token_id: int) -> None:
        """Go on behind ``token_id``, which is allowed."""

    @property
    def may_end(self) -> bool:
        """Whether the answer may end here: end-of-sequence tokens are allowed, too."""

    @property
    def complete(self) -> bool:
        """Whether nothing may follow: the answer ends."""
