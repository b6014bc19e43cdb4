"""Writes entropy.json: the entropy regularizer of sigma-MoE by its formula, with the gradient torch finds.

m = softmax(logits) by token; P = mean of m over the tokens that count; the loss is sum over experts of P log P. All by
logarithms, as a reference has to do where an expert is nearly dead: log P = logsumexp over tokens of log m - log tokens.
"""

import math

import numpy as np
import torch

from fixture_json import draw, number, tensor, write
from torch_tools import leaf


def regularizer(logits):
    log_shares = torch.log_softmax(logits, dim=-1)
    log_mean = torch.logsumexp(log_shares, dim=0) - math.log(len(logits))
    return (log_mean.exp() * log_mean).sum()


def case(name, values, mask=None):
    """Tokens that the mask leaves out are not there for the formula, and get no gradient."""
    kept = np.ones(len(values), dtype=bool) if mask is None else np.array(mask, dtype=bool)
    logits = leaf(values[kept])
    loss = regularizer(logits)
    loss.backward()
    gradient = np.zeros_like(values)
    gradient[kept] = logits.grad.numpy()
    return {
        "name": name,
        "logits": tensor(values),
        "mask": tensor(kept),
        "value": number(loss.item()),
        "gradient": tensor(gradient),
    }


generator = np.random.default_rng(12)
dead = np.array([0, 0, -60, 0, 0])
write(
    __file__,
    {"torch": torch.__version__, "numpy": np.__version__, "computedIn": "float64"},
    {
        "cases": [
            case("mild logits", draw(generator, (12, 6))),
            case("sharp logits", draw(generator, (9, 4), 8.0)),
            case("padding", draw(generator, (8, 3), 2.0), [1, 1, 0, 1, 0, 1, 1, 0]),
            case("an expert that is nearly dead", draw(generator, (7, 5)) + dead),
        ],
    },
)
