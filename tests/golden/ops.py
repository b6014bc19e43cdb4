"""Writes ops.json: values and gradients of single operations, in float64.

A case is {name, op, options, inputs, weights, output, gradients}: gradients are those of sum(output * weights) with
respect to each float input (for a scalar output, weights is a scalar). Cases of `indices` have outputs only.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fixture_json import draw, exact, tensor, write

jax.config.update("jax_enable_x64", True)

generator = np.random.default_rng(7)


def case(name, op, function, inputs, options=None, fixed=None):
    """`fixed` holds integer inputs, which have no gradient; `function` takes inputs and fixed by name."""
    fixed = fixed or {}
    inputs = {key: jnp.asarray(value) for key, value in inputs.items()}
    output, pull_back = jax.vjp(lambda given: function(**given, **fixed), inputs)
    weights = draw(generator, output.shape, 1.0, 2)
    (gradients,) = pull_back(jnp.asarray(weights))
    return {
        "name": name,
        "op": op,
        "options": options or {},
        "inputs": {key: tensor(value) for key, value in {**inputs, **fixed}.items()},
        "weights": tensor(weights),
        "output": tensor(output),
        "gradients": {key: tensor(value) for key, value in gradients.items()},
    }


def unary(name, function, x, op=None, options=None):
    return case(name, op or name, function, {"x": x}, options)


def norms():
    x, scale, bias = draw(generator, (3, 8), 2.0), draw(generator, (8,)), draw(generator, (8,))

    def layer_norm(x, scale, bias):
        return jax.nn.standardize(x, axis=-1, epsilon=1e-5) * scale + bias

    def rms_norm(x, scale):
        return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * scale

    return [
        case(
            "layerNorm", "layerNorm", layer_norm, {"x": x, "scale": scale, "bias": bias}, {"axis": -1, "epsilon": 1e-5}
        ),
        case(
            "layerNorm, nearly constant row",
            "layerNorm",
            layer_norm,
            {
                "x": exact([[3, 3, 3, 3.001], [0.001, 0, 0, 0]]),
                "scale": exact([1, 2, 1, 1]),
                "bias": exact([0, 0, 0.5, 0]),
            },
            {"axis": -1, "epsilon": 1e-5},
        ),
        case("rmsNorm", "rmsNorm", rms_norm, {"x": x, "scale": scale}, {"axis": -1, "epsilon": 1e-6}),
    ]


def softmaxes():
    x = draw(generator, (3, 6), 2.0)
    large = exact([[1000, 999, 0, -1000], [-1000, -1001, -1002, -1003]])
    labels = np.array([4, 0, 5], np.uint32)

    def cross_entropy(x, labels):
        return optax.softmax_cross_entropy_with_integer_labels(x, labels)

    return [
        unary("softmax", lambda x: jax.nn.softmax(x, axis=-1), x, options={"axis": -1}),
        unary("softmax, axis 0", lambda x: jax.nn.softmax(x, axis=0), x, "softmax", {"axis": 0}),
        unary("softmax, large values", lambda x: jax.nn.softmax(x, axis=-1), large, "softmax", {"axis": -1}),
        unary("logSoftmax", lambda x: jax.nn.log_softmax(x, axis=-1), x, options={"axis": -1}),
        unary("logSoftmax, large values", lambda x: jax.nn.log_softmax(x, axis=-1), large, "logSoftmax", {"axis": -1}),
        unary("logSumExp", lambda x: jax.nn.logsumexp(x, axis=-1), x, options={"axis": -1}),
        unary("logSumExp, large values", lambda x: jax.nn.logsumexp(x, axis=-1), large, "logSumExp", {"axis": -1}),
        case(
            "crossEntropy, each row", "crossEntropy", cross_entropy, {"x": x}, {"reduction": "none"}, {"labels": labels}
        ),
        case(
            "crossEntropy, mean",
            "crossEntropy",
            lambda x, labels: cross_entropy(x, labels).mean(),
            {"x": x},
            {"reduction": "mean"},
            {"labels": labels},
        ),
    ]


def activations():
    x = exact([-30, -6, -3, -1.5, -1, -0.5, -0.125, 0, 0.001, 0.25, 0.75, 1, 2, 3.5, 6, 30])
    return [
        unary("gelu, exact", lambda x: jax.nn.gelu(x, approximate=False), x, "gelu", {"approximate": "none"}),
        unary("gelu, tanh", lambda x: jax.nn.gelu(x, approximate=True), x, "gelu", {"approximate": "tanh"}),
        unary("silu", jax.nn.silu, x),
        unary("softplus", jax.nn.softplus, x),
        unary("erf", jax.scipy.special.erf, exact([-4, -3, -2, -1, -0.5, -0.01, 0, 0.001, 0.3, 0.9, 1, 1.5, 2.5, 4])),
    ]


def attentions():
    q, k, v = (draw(generator, (2, 2, 5, 3)) for _ in range(3))

    def attention(q, k, v):
        # jax.nn.dot_product_attention would take its softmax in float32.
        scores = jnp.einsum("bhqc,bhkc->bhqk", q, k) / np.sqrt(q.shape[-1])
        return jax.nn.softmax(jnp.where(np.tri(q.shape[2], dtype=bool), scores, -jnp.inf), axis=-1) @ v

    layout = {"causal": True, "scale": "1/sqrt(3)", "layout": "[batch, head, position, channel]"}
    return [case("causal attention", "attention", attention, {"q": q, "k": k, "v": v}, layout)]


def reductions():
    x = draw(generator, (3, 5))
    zeros = exact([[1.5, 0, -2, 0.5], [0, 3, 0, 2], [1, -1, 2, 0.25], [0, 0, 0, 0]])
    ties = exact([[1, 3, 3, 2], [5, 5, 5, 5], [-1, -2, -1, -3], [0, 1, 2, 3]])
    return [
        unary("cumsum, axis 0", lambda x: jnp.cumsum(x, axis=0), x, "cumsum", {"axis": 0}),
        unary("cumsum, last axis", lambda x: jnp.cumsum(x, axis=1), x, "cumsum", {"axis": 1}),
        unary("prod with zeros", lambda x: jnp.prod(x, axis=1), zeros, "prod", {"axis": 1}),
        unary("max with ties, gradient shared equally", lambda x: jnp.max(x, axis=1), ties, "max", {"axis": 1}),
        unary("max over all, ties", lambda x: jnp.max(x), ties, "max", {"axis": None}),
        unary("min with ties, gradient shared equally", lambda x: jnp.min(x, axis=0), ties, "min", {"axis": 0}),
    ]


def einsums():
    shapes = {
        "bij,bkj->bik": [(2, 3, 4), (2, 5, 4)],
        "ij,jk,kl->il": [(2, 3), (3, 4), (4, 5)],
        "bhqd,bhkd->bhqk": [(2, 2, 3, 4), (2, 2, 5, 4)],
        "ii->i": [(4, 4)],
        "ij->j": [(3, 4)],
        "ii->": [(4, 4)],
        "i,j->ij": [(3,), (4,)],
        "bij->bji": [(2, 3, 4)],
    }
    cases = []
    for equation, operands in shapes.items():
        inputs = {f"operand{index}": draw(generator, shape) for index, shape in enumerate(operands)}
        function = lambda equation=equation, **given: jnp.einsum(equation, *given.values(), precision="highest")
        cases.append(case(f"einsum {equation}", "einsum", function, inputs, {"equation": equation}))
    return cases


def indices():
    x = exact([[1, 3, 3, 2, 3, 0], [5, 5, 5, 5, 5, 5], [-1, -2, -1, 7, -3, 7], [0, 1, 2, 3, 4, 5]])
    values, places = jax.lax.top_k(x, 4)
    return [
        {
            "op": "topK",
            "options": {"k": 4, "axis": -1},
            "x": tensor(x),
            "values": tensor(values),
            "indices": tensor(places.astype(np.uint32)),
        },
        {
            "op": "argsort",
            "options": {"axis": -1, "descending": False, "stable": True},
            "x": tensor(x),
            "indices": tensor(jnp.argsort(x, axis=-1, stable=True).astype(np.uint32)),
        },
        {
            "op": "argsort",
            "options": {"axis": -1, "descending": True, "stable": True},
            "x": tensor(x),
            "indices": tensor(jnp.argsort(x, axis=-1, stable=True, descending=True).astype(np.uint32)),
        },
        {
            "op": "argsort",
            "options": {"axis": 0, "descending": False, "stable": True},
            "x": tensor(x),
            "indices": tensor(jnp.argsort(x, axis=0, stable=True).astype(np.uint32)),
        },
        {
            "op": "argmax",
            "options": {"axis": -1},
            "x": tensor(x),
            "indices": tensor(jnp.argmax(x, axis=-1).astype(np.uint32)),
        },
    ]


write(
    __file__,
    {"jax": jax.__version__, "optax": optax.__version__, "numpy": np.__version__, "computedIn": "float64"},
    {
        "cases": norms() + softmaxes() + activations() + attentions() + reductions() + einsums(),
        "indices": indices(),
    },
)
