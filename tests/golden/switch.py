"""Writes switch.json: a worked example in numpy and the Switch modules of transformers, all in float64.

transformers groups by sequence: ranks, capacity, and the shares of the balance loss are per batch row; the two losses
are then means over the rows. Neither loss carries a coefficient; the balance loss is experts * sum(share * mean).
"""

import numpy as np
import torch
import transformers
from transformers.models.switch_transformers.configuration_switch_transformers import SwitchTransformersConfig
from transformers.models.switch_transformers.modeling_switch_transformers import (
    SwitchTransformersSparseMLP,
    SwitchTransformersTop1Router,
    load_balancing_loss_func,
    router_z_loss_func,
)

from fixture_json import draw, number, tensor, write
from switch_example import worked_example
from torch_tools import assert_clear_choice, fill, gradient, leaf, stacked, value

BATCH, SEQUENCE, WIDTH, INNER, EXPERTS = 2, 6, 6, 10, 4


def config(capacity):
    return SwitchTransformersConfig(
        d_model=WIDTH, d_ff=INNER, num_experts=EXPERTS, expert_capacity=capacity, dropout_rate=0.0
    )


def in_float64(module, router):
    """The configuration refuses float64 as the router's dtype, so it is set on the router itself."""
    router.dtype = torch.float64
    return module.double().eval()


def losses(router, x):
    """Both auxiliary losses, with the choice of expert taken before capacity."""
    probabilities, logits = router._compute_router_probabilities(x)
    return load_balancing_loss_func(probabilities, probabilities.argmax(-1)), router_z_loss_func(logits)


def aux_gradients(router, values):
    """Value of each auxiliary loss and its gradients with respect to x and the router."""
    result = {}
    for place, name in enumerate(("balance", "zLoss")):
        x = leaf(values)
        router.zero_grad()
        loss = losses(router, x)[place]
        loss.backward()
        result[name] = {
            "value": number(loss.detach()),
            "gradients": {"x": tensor(x.grad.numpy()), "router": tensor(router.classifier.weight.grad.numpy().T)},
        }
    return result


def router_case(generator):
    """The router alone, with two slots an expert so that tokens are dropped."""
    router = SwitchTransformersTop1Router(config(capacity=2))
    in_float64(router, router)
    fill(router.classifier.weight, generator, 0.6)
    values = draw(generator, (BATCH, SEQUENCE, WIDTH))
    with torch.no_grad():
        mask, gate, logits = router(leaf(values))
        probabilities = torch.softmax(logits, dim=-1)
    assert_clear_choice(probabilities, 1)
    keep = mask.sum(-1)
    assert 2 <= (keep == 0).sum() <= 5, "some tokens should be dropped, most kept"
    return {
        "capacity": 2,
        "x": tensor(values),
        "router": tensor(router.classifier.weight.detach().numpy().T),
        "logits": tensor(logits.numpy()),
        "probabilities": tensor(probabilities.numpy()),
        "experts": tensor(probabilities.argmax(-1).numpy().astype(np.uint32)),
        "gates": tensor(gate.squeeze(-1).numpy()),
        "keep": tensor(keep.numpy().astype(np.bool_)),
        "aux": aux_gradients(router, values),
    }


def arrays(layer, read):
    experts = list(layer.experts.values())
    return {
        "router": tensor(read(layer.router.classifier.weight).detach().numpy().T),
        "wi": stacked([expert.wi for expert in experts], read),
        "wo": stacked([expert.wo for expert in experts], read),
    }


def layer_case(generator):
    """The sparse layer with room for every token: this version returns gate * x for a dropped one, not 0."""
    layer = SwitchTransformersSparseMLP(config(capacity=64))
    in_float64(layer, layer.router)
    for parameter in layer.parameters():
        fill(parameter, generator, 0.6)
    x = leaf(draw(generator, (BATCH, SEQUENCE, WIDTH)))
    weights = draw(generator, (BATCH, SEQUENCE, WIDTH), 1.0, 2)
    output, (logits, experts) = layer(x)
    assert_clear_choice(torch.softmax(logits, dim=-1), 1)
    (output * torch.from_numpy(weights)).sum().backward()
    task = {"x": tensor(x.grad.numpy()), **arrays(layer, gradient)}
    return {
        "activation": "relu",
        "x": tensor(x.detach().numpy()),
        "params": arrays(layer, value),
        "weights": tensor(weights),
        "experts": tensor(experts.numpy().astype(np.uint32)),
        "output": tensor(output.detach().numpy()),
        "gradients": task,
        "aux": aux_gradients(layer.router, x.detach().numpy()),
    }


generator = np.random.default_rng(6)
write(
    __file__,
    {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "computedIn": "float64",
    },
    {"workedExample": worked_example(), "router": router_case(generator), "layer": layer_case(generator)},
)
