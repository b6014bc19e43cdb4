"""Writes assignment.json: balanced assignments by a linear-assignment solver, and Sinkhorn plans by an optimal-transport one.

balanced: scores [T, E]; the best sum of scores where every expert has exactly T / E tokens (scipy, each expert repeated
T / E times as a column), and the experts of that assignment, which is unique: the scores are random.
sinkhorn: logits [T, E]; the transport plan with rows 1 / T and columns 1 / E for the cost -logits and regularization 1
(POT, in logarithms, to convergence).
"""

import numpy as np
import ot
import scipy
from scipy.optimize import linear_sum_assignment

from fixture_json import draw, number, tensor, write


def balanced(generator, tokens, experts, skew):
    scores = draw(generator, (tokens, experts)) + draw(generator, (experts,), skew)
    room = tokens // experts
    rows, slots = linear_sum_assignment(np.repeat(scores, room, axis=1), maximize=True)
    chosen = slots[np.argsort(rows)] // room
    assert (np.bincount(chosen, minlength=experts) == room).all()
    return {
        "scores": tensor(scores),
        "experts": tensor(chosen.astype(np.uint32)),
        "best": number(scores[np.arange(tokens), chosen].sum()),
        "greedy": number(scores.max(axis=1).sum()),
    }


def transport(generator, tokens, experts, scale):
    logits = draw(generator, (tokens, experts), scale)
    rows, columns = np.full(tokens, 1 / tokens), np.full(experts, 1 / experts)
    plan = ot.sinkhorn(rows, columns, -logits, 1, method="sinkhorn_log", numItermax=20_000, stopThr=1e-13)
    return {"logits": tensor(logits), "plan": tensor(plan)}


generator = np.random.default_rng(7)
write(
    __file__,
    {"numpy": np.__version__, "scipy": scipy.__version__, "POT": ot.__version__, "computedIn": "float64"},
    {
        "balanced": [
            balanced(generator, 24, 4, 0.0),
            balanced(generator, 32, 8, 1.0),
            balanced(generator, 15, 5, 3.0),
        ],
        "sinkhorn": [transport(generator, 12, 4, 1.0), transport(generator, 9, 3, 3.0)],
    },
)
