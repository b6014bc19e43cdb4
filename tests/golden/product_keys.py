"""Writes product_keys.json: memories with product keys whose every value is scored, by torch.

queries  = x @ projection + bias, cut into heads and halves [tokens, heads, 2, half], normalized
score    = of value n * i + j: first half query . key i + second half query . key j; here for all n * n values
reads    = the k best of a head, by torch.topk over all scores
weights  = softmax of a head's scores ("head"), of all heads' ("joint"), or their relu ("relu")
output   = sum over heads and reads of weight * value

The gradients are of sum(output * cotangent), through the scores of all values.
"""

import numpy as np
import torch
from torch.nn import functional

from fixture_json import draw, tensor, write
from torch_tools import leaf

TOKENS, WIDTH, HEADS, HALF_KEYS, HALF, READS = 6, 5, 2, 7, 3, 3
FEATURES = HEADS * 2 * HALF
EPSILON = 1e-5


def normalized(queries, norm, scale, bias):
    if norm == "layerNorm":
        return functional.layer_norm(queries, (HALF,), scale, bias, EPSILON)
    flat = functional.batch_norm(
        queries.reshape(TOKENS, FEATURES), None, None, scale.reshape(-1), bias.reshape(-1), True, 0.0, EPSILON
    )
    return flat.reshape(queries.shape)


def weigh(scores, rule):
    if rule == "relu":
        return torch.relu(scores)
    if rule == "joint":
        return torch.softmax(scores.reshape(TOKENS, -1), dim=-1).reshape(scores.shape)
    return torch.softmax(scores, dim=-1)


def assert_clear(scores):
    """Refuses inputs whose reads, or their order, could change by rounding in float32."""
    ranked = torch.sort(scores, dim=-1, descending=True).values[..., : READS + 1]
    gap = (ranked[..., :-1] - ranked[..., 1:]).min().item()
    assert gap > 1e-3, f"a read is decided by only {gap}"


def case(generator, norm, rule):
    features = (HALF,) if norm == "layerNorm" else (HEADS, 2, HALF)
    leaves = {
        "x": leaf(draw(generator, (TOKENS, WIDTH))),
        "projection": leaf(draw(generator, (WIDTH, FEATURES), 0.5)),
        "bias": leaf(draw(generator, (FEATURES,), 0.3)),
        "normScale": leaf(1 + draw(generator, features, 0.1)),
        "normBias": leaf(draw(generator, features, 0.1)),
        "keys": leaf(draw(generator, (HEADS, 2, HALF_KEYS, HALF))),
        "values": leaf(draw(generator, (HALF_KEYS**2, WIDTH))),
    }
    raw = (leaves["x"] @ leaves["projection"] + leaves["bias"]).reshape(TOKENS, HEADS, 2, HALF)
    queries = normalized(raw, norm, leaves["normScale"], leaves["normBias"])
    halves = torch.einsum("thpf,hpnf->thpn", queries, leaves["keys"])
    scores = (halves[:, :, 0, :, None] + halves[:, :, 1, None, :]).reshape(TOKENS, HEADS, HALF_KEYS**2)
    assert_clear(scores)
    best = torch.topk(scores, READS, dim=-1)
    weights = weigh(best.values, rule)
    output = torch.einsum("thk,thkd->td", weights, leaves["values"][best.indices])
    cotangent = draw(generator, (TOKENS, WIDTH), 1.0, 2)
    (output * torch.from_numpy(cotangent)).sum().backward()
    return {
        "norm": norm,
        "rule": rule,
        "inputs": {name: tensor(each.detach().numpy()) for name, each in leaves.items()},
        "rows": tensor(best.indices.reshape(TOKENS, -1).numpy().astype(np.uint32)),
        "weights": tensor(weights.reshape(TOKENS, -1).detach().numpy()),
        "output": tensor(output.detach().numpy()),
        "cotangent": tensor(cotangent),
        "gradients": {name: tensor(each.grad.numpy()) for name, each in leaves.items()},
    }


generator = np.random.default_rng(13)
settings = [("layerNorm", "head"), ("layerNorm", "relu"), ("batchNorm", "joint")]
write(
    __file__,
    {"torch": torch.__version__, "numpy": np.__version__, "computedIn": "float64"},
    {
        "sizes": {"width": WIDTH, "heads": HEADS, "halfKeys": HALF_KEYS, "half": HALF, "k": READS},
        "cases": [case(generator, norm, rule) for norm, rule in settings],
    },
)
