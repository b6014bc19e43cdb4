"""Writes mixtral.json: transformers' MixtralSparseMoeBlock, its output and the gradients of sum(output * weights).

scores   = softmax(x @ gate) over all experts; the block does this one step in float32, all else here is float64
weight   = the two largest scores of a token, divided by their sum
expert e = (silu(x @ w1[e]) * (x @ w3[e])) @ w2[e]
output   = sum over a token's two experts of weight * expert(x)
"""

import numpy as np
import torch
import transformers
from transformers.models.mixtral.configuration_mixtral import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock, load_balancing_loss_func

from fixture_json import draw, number, tensor, write
from torch_tools import assert_clear_choice, fill, gradient, leaf, stacked, value

WIDTH, INNER, EXPERTS, CHOSEN, BATCH, SEQUENCE = 8, 12, 4, 2, 2, 5
WEIGHTS = ("w1", "w2", "w3")


def linears(block, name):
    return [getattr(expert, name) for expert in block.experts]


def arrays(block, read):
    stacks = {name: stacked(linears(block, name), read) for name in WEIGHTS}
    return {"gate": tensor(read(block.gate.weight).detach().numpy().T), **stacks}


generator = np.random.default_rng(2)
config = MixtralConfig(
    hidden_size=WIDTH,
    intermediate_size=INNER,
    num_local_experts=EXPERTS,
    num_experts_per_tok=CHOSEN,
    num_attention_heads=1,
)
block = MixtralSparseMoeBlock(config).double().eval()
for parameter in block.parameters():
    fill(parameter, generator, 0.5)

x = leaf(draw(generator, (BATCH, SEQUENCE, WIDTH)))
weights = draw(generator, (BATCH, SEQUENCE, WIDTH), 1.0, 2)
output, logits = block(x)
scores = torch.softmax(logits, dim=-1)
assert_clear_choice(scores, CHOSEN)
chosen = torch.topk(scores, CHOSEN, dim=-1)
(output * torch.from_numpy(weights)).sum().backward()

tokens = (BATCH * SEQUENCE, WIDTH)
write(
    __file__,
    {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "computedIn": "float64",
    },
    {
        "sizes": {"tokens": BATCH * SEQUENCE, "width": WIDTH, "inner": INNER, "experts": EXPERTS, "chosen": CHOSEN},
        "x": tensor(x.detach().numpy().reshape(tokens)),
        "params": arrays(block, value),
        "weights": tensor(weights.reshape(tokens)),
        "logits": tensor(logits.detach().numpy()),
        "experts": tensor(chosen.indices.numpy().astype(np.uint32)),
        "routingWeights": tensor((chosen.values / chosen.values.sum(-1, keepdim=True)).detach().numpy()),
        "output": tensor(output.detach().numpy().reshape(tokens)),
        "gradients": {"x": tensor(x.grad.numpy().reshape(tokens)), **arrays(block, gradient)},
        "loadBalancing": number(load_balancing_loss_func((logits.detach(),), EXPERTS, CHOSEN)),
    },
)
