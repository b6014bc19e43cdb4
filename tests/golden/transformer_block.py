"""Writes transformer_block.json: one pre-LN block with a tied cross-entropy head, loss and gradients, in float64.

embedded = embedding[ids]                                          [B, S, D], no scaling, no position embedding
normed1  = layerNorm(embedded) * norm1Scale + norm1Bias            epsilon 1e-5, biased variance
q, k, v  = normed1 @ wq, normed1 @ wk, normed1 @ wv                no biases; split [B, S, D] -> [B, S, H, D / H]
q, k     = rotary(q), rotary(k)                                    rotate-half pairs, base 10000, positions 0..S-1
attended = softmax(q . k / sqrt(D / H), causal) . v                heads merged back in order to [B, S, D]
middle   = embedded + attended @ wo
normed2  = layerNorm(middle) * norm2Scale + norm2Bias
hidden   = middle + gelu_tanh(normed2 @ w1 + b1) @ w2 + b2
logits   = hidden @ transpose(embedding)                           no final norm
loss     = mean over all B * S of -log_softmax(logits)[target]
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fixture_json import draw, exact, number, tensor, write

jax.config.update("jax_enable_x64", True)

BATCH, SEQUENCE, WIDTH, HEADS, INNER, VOCABULARY = 2, 7, 12, 3, 20, 11
EPSILON, BASE = 1e-5, 10000.0


def layer_norm(x, scale, bias):
    return jax.nn.standardize(x, axis=-1, epsilon=EPSILON) * scale + bias


def rotary(x):
    """x is [B, S, H, head]; pair i joins channels i and i + head / 2 and turns by position * base^(-2 i / head)."""
    half = x.shape[-1] // 2
    frequency = BASE ** (-2.0 * jnp.arange(half) / x.shape[-1])
    angle = jnp.arange(x.shape[1])[:, None, None] * frequency
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate(
        [first * jnp.cos(angle) - second * jnp.sin(angle), second * jnp.cos(angle) + first * jnp.sin(angle)], axis=-1
    )


def attention(x, params):
    q, k, v = ((x @ params[name]).reshape(BATCH, SEQUENCE, HEADS, WIDTH // HEADS) for name in ("wq", "wk", "wv"))
    # jax.nn.dot_product_attention would take its softmax in float32.
    scores = jnp.einsum("bqhc,bkhc->bhqk", rotary(q), rotary(k)) / np.sqrt(WIDTH // HEADS)
    shares = jax.nn.softmax(jnp.where(np.tri(SEQUENCE, dtype=bool), scores, -jnp.inf), axis=-1)
    return jnp.einsum("bhqk,bkhc->bqhc", shares, v).reshape(x.shape) @ params["wo"]


def forward(params, ids, targets):
    embedded = params["embedding"][ids]
    middle = embedded + attention(layer_norm(embedded, params["norm1Scale"], params["norm1Bias"]), params)
    normed = layer_norm(middle, params["norm2Scale"], params["norm2Bias"])
    inner = jax.nn.gelu(normed @ params["w1"] + params["b1"], approximate=True)
    hidden = middle + inner @ params["w2"] + params["b2"]
    logits = hidden @ params["embedding"].T
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
    return loss, {"middle": middle, "hidden": hidden, "logits": logits}


def make_params(generator):
    shapes = {
        "embedding": (VOCABULARY, WIDTH),
        "norm1Scale": (WIDTH,),
        "norm1Bias": (WIDTH,),
        "wq": (WIDTH, WIDTH),
        "wk": (WIDTH, WIDTH),
        "wv": (WIDTH, WIDTH),
        "wo": (WIDTH, WIDTH),
        "norm2Scale": (WIDTH,),
        "norm2Bias": (WIDTH,),
        "w1": (WIDTH, INNER),
        "b1": (INNER,),
        "w2": (INNER, WIDTH),
        "b2": (WIDTH,),
    }
    params = {name: draw(generator, shape, 0.4) for name, shape in shapes.items()}
    for name in ("norm1Scale", "norm2Scale"):
        params[name] = exact(np.round(1 + params[name] / 2, 3))
    return params


generator = np.random.default_rng(20240)
params = make_params(generator)
ids = generator.integers(0, VOCABULARY, (BATCH, SEQUENCE))
targets = generator.integers(0, VOCABULARY, (BATCH, SEQUENCE))
(loss, stages), gradients = jax.value_and_grad(forward, has_aux=True)(jax.tree.map(jnp.asarray, params), ids, targets)

write(
    __file__,
    {"jax": jax.__version__, "optax": optax.__version__, "numpy": np.__version__, "computedIn": "float64"},
    {
        "sizes": {
            "batch": BATCH,
            "sequence": SEQUENCE,
            "width": WIDTH,
            "heads": HEADS,
            "inner": INNER,
            "vocabulary": VOCABULARY,
        },
        "epsilon": EPSILON,
        "rotaryBase": BASE,
        "ids": tensor(ids.astype(np.uint32)),
        "targets": tensor(targets.astype(np.uint32)),
        "params": {name: tensor(value) for name, value in params.items()},
        "loss": number(loss),
        "stages": {name: tensor(value) for name, value in stages.items()},
        "gradients": {name: tensor(gradients[name]) for name in params},
    },
)
