"""The worked example of the Switch router, in plain float64 numpy: 6 tokens, 3 experts, 2 slots an expert."""

import numpy as np

from fixture_json import exact, number, tensor

LOGITS = exact([[2, 1, 0], [1.5, 0, 0.5], [1, 0, 0], [0, 2, 1], [3, 0, 0], [0.2, 0.1, 0.9]])
CAPACITY = 2


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def ranks(expert, order):
    """Place of each token in its expert's queue when tokens arrive in `order`."""
    seen, rank = {}, np.zeros(len(expert), np.int64)
    for token in order:
        rank[token] = seen.get(expert[token], 0)
        seen[expert[token]] = rank[token] + 1
    return rank


def no_token_left_behind(probabilities):
    """Overflowing tokens retry their next choice, round after round, behind those already placed."""
    tokens, experts = probabilities.shape
    choice = np.argsort(-probabilities, axis=-1, kind="stable")
    placed, used = np.full(tokens, -1), np.zeros(experts, np.int64)
    for attempt in range(experts):
        for token in range(tokens):
            expert = choice[token, attempt]
            if placed[token] < 0 and used[expert] < CAPACITY:
                placed[token] = expert
                used[expert] += 1
    return placed


def renormalized_pair(probabilities):
    pair = np.argsort(-probabilities, axis=-1, kind="stable")[:, :2]
    weight = np.take_along_axis(probabilities, pair, -1)
    return pair, weight / weight.sum(-1, keepdims=True)


def worked_example():
    p = softmax(LOGITS)
    tokens, experts = p.shape
    expert = p.argmax(-1)
    rank = ranks(expert, range(tokens))
    keep = rank < CAPACITY
    gate = p[np.arange(tokens), expert]
    arrival = np.argsort(-gate, kind="stable")
    share, mean = np.bincount(expert, minlength=experts) / tokens, p.mean(0)
    lse = np.log(np.exp(LOGITS).sum(-1))
    chosen = np.eye(experts)[expert]
    pair, pair_weight = renormalized_pair(p)
    return {
        "capacity": CAPACITY,
        "logits": tensor(LOGITS),
        "probabilities": tensor(p),
        "experts": tensor(expert.astype(np.uint32)),
        "ranks": tensor(rank.astype(np.uint32)),
        "keep": tensor(keep),
        "weights": tensor(np.where(keep, gate, 0)),
        "shares": tensor(share),
        "meanProbabilities": tensor(mean),
        "balance": number(experts * (share * mean).sum()),
        "balanceGradient": tensor(experts / tokens * p * (share - (p * share).sum(-1, keepdims=True))),
        "logSumExp": tensor(lse),
        "zLoss": number((lse**2).mean()),
        "zLossGradient": tensor(2 / tokens * lse[:, None] * p),
        "constantExperts": {
            "expertOutputs": [1, 2, 3],
            "output": tensor(np.where(keep, gate * (expert + 1), 0)),
            "gradientOfSum": tensor(np.where(keep, gate * (expert + 1), 0)[:, None] * (chosen - p)),
        },
        "batchPrioritized": {
            "order": tensor(arrival.astype(np.uint32)),
            "keep": tensor(ranks(expert, arrival) < CAPACITY),
        },
        "noTokenLeftBehind": {"experts": tensor(no_token_left_behind(p).astype(np.uint32))},
        "topTwoRenormalized": {"experts": tensor(pair.astype(np.uint32)), "weights": tensor(pair_weight)},
    }
