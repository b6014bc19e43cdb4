"""Writes gemma3n.json: transformers' token-dependent AltUp around a linear layer, alone and between the model's two ends.

stream   = K blocks of D values side by side, [batch, sequence, K * D] (transformers keeps [K, batch, sequence, D])
altUp    = Gemma3nTextAltUp: predict, a linear layer on the predicted active block, correct
ends     = Gemma3nTextModel with that as its only layer, read before the final norm: the projections that make blocks 1,
           2, .. of the embedding, and those whose mean is the result

Everything is differentiated for sum(output * weights). The modules cast up to float32 for norms; here that cast goes to
float64.
"""

import numpy as np
import torch
import transformers
from torch import nn
from transformers.models.gemma3n.configuration_gemma3n import Gemma3nTextConfig
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nTextAltUp, Gemma3nTextModel

from fixture_json import draw, tensor, write
from torch_tools import fill, gradient, leaf, stacked, value

BLOCKS, ACTIVE, WIDTH, BATCH, SEQUENCE, CLIP = 3, 1, 8, 2, 3, 1.0

torch.Tensor.float = torch.Tensor.double


def config(clip, active):
    return Gemma3nTextConfig(
        hidden_size=WIDTH,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        num_kv_shared_layers=0,
        head_dim=4,
        laurel_rank=2,
        vocab_size=4,
        vocab_size_per_layer_input=4,
        hidden_size_per_layer_input=2,
        layer_types=["full_attention"],
        activation_sparsity_pattern=[0.0],
        altup_num_inputs=BLOCKS,
        altup_active_idx=active,
        altup_coef_clip=clip,
        pad_token_id=0,
    )


class Layer(nn.Module):
    """AltUp around a linear layer, called as a decoder layer is."""

    attention_type, layer_idx = "full_attention", 0

    def __init__(self, settings, generator):
        super().__init__()
        self.alt_up, self.linear = Gemma3nTextAltUp(settings), nn.Linear(WIDTH, WIDTH)
        self.active = settings.altup_active_idx
        self.double()
        for parameter in self.parameters():
            fill(parameter, generator, 0.6)

    def forward(self, stream, *_, **__):
        predicted = self.alt_up.predict(stream)
        return (self.alt_up.correct(predicted, self.linear(predicted[self.active])),)


def arrays(layer, read):
    """Parameters or gradients under the names of this library, torch's matrices turned."""
    alt_up = layer.alt_up
    turned = {
        "features": alt_up.modality_router,
        "prediction": alt_up.prediction_coefs,
        "correction": alt_up.correction_coefs,
        "weight": layer.linear,
    }
    return {
        "scale": tensor(read(alt_up.router_norm.weight).detach().numpy()),
        **{name: tensor(read(linear.weight).detach().numpy().T) for name, linear in turned.items()},
        "bias": tensor(read(layer.linear.bias).detach().numpy()),
    }


def side_by_side(stream):
    """[K, batch, sequence, D] -> [batch, sequence, K * D]."""
    return stream.permute(1, 2, 0, 3).reshape(BATCH, SEQUENCE, BLOCKS * WIDTH)


def alt_up_case(generator, train):
    """With a bound that the drawn weights exceed: the prediction's counts while training, the correction's always."""
    layer = Layer(config(CLIP, ACTIVE), generator)
    params = arrays(layer, value)
    layer.train(train)
    x = leaf(draw(generator, (BATCH, SEQUENCE, BLOCKS * WIDTH)))
    weights = draw(generator, (BATCH, SEQUENCE, BLOCKS * WIDTH), 1.0, 2)
    output = side_by_side(layer(x.reshape(BATCH, SEQUENCE, BLOCKS, WIDTH).permute(2, 0, 1, 3))[0])
    (output * torch.from_numpy(weights)).sum().backward()
    return {
        "train": train,
        "x": tensor(x.detach().numpy()),
        "params": params,
        "weights": tensor(weights),
        "output": tensor(output.detach().numpy()),
        "gradients": {"x": tensor(x.grad.numpy()), **arrays(layer, gradient)},
    }


def ends_case(generator):
    """The whole path from embeddings to what the final norm reads; this model computes block 0."""
    settings = config(120.0, 0)
    model = Gemma3nTextModel(settings).double().eval()
    layer = Layer(settings, generator)
    model.layers = nn.ModuleList([layer])
    ends = {"widen": model.altup_projections, "narrow": model.altup_unembed_projections}
    for linears in ends.values():
        for linear in linears:
            fill(linear.weight, generator, 0.6)
    seen = []
    model.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = leaf(draw(generator, (BATCH, SEQUENCE, WIDTH)))
    weights = draw(generator, (BATCH, SEQUENCE, WIDTH), 1.0, 2)
    model(inputs_embeds=x, use_cache=False)
    (output,) = seen
    (output * torch.from_numpy(weights)).sum().backward()

    def of(read):
        return {**{name: stacked(linears, read) for name, linears in ends.items()}, **arrays(layer, read)}

    return {
        "x": tensor(x.detach().numpy()),
        "params": of(value),
        "weights": tensor(weights),
        "output": tensor(output.detach().numpy()),
        "gradients": {"x": tensor(x.grad.numpy()), **of(gradient)},
    }


generator = np.random.default_rng(11)
write(
    __file__,
    {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "computedIn": "float64",
    },
    {
        "sizes": {"blocks": BLOCKS, "active": ACTIVE, "width": WIDTH, "clip": CLIP},
        "altUp": [alt_up_case(generator, train) for train in (False, True)],
        "ends": ends_case(generator),
    },
)
