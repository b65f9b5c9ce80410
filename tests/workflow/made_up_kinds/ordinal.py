"""Ordinal: a classification whose prediction is the rounded expectation of the class index."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from espalier.config.kinds import ordinal
from espalier.kinds.classification import Classification


class Ordinal(Classification):
    """Like classification, with another prediction."""

    rules = ordinal.RULES

    def predicted(self, logits: Float[Tensor, "rows classes"]) -> np.ndarray:
        """The class that the mean of the distribution lies nearest to."""
        places = torch.arange(logits.shape[1], dtype=logits.dtype)
        return (logits.softmax(dim=-1) * places).sum(dim=-1).round().long().numpy()
