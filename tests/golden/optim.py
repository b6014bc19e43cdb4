"""Writes optim.json: five steps of each optax optimizer on one problem, gradient clipping and schedules, in float64.

The problem has parameters matrix [3, 5] and vector [4]; the gradient of every step is
    curvature * (parameter - target)     elementwise
that is, of the loss sum(curvature * (parameter - target)^2) / 2 over both.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fixture_json import draw, exact, number, tensor, write

jax.config.update("jax_enable_x64", True)

STEPS = 5
generator = np.random.default_rng(11)
SHAPES = {"matrix": (3, 5), "vector": (4,)}
params = {name: draw(generator, shape) for name, shape in SHAPES.items()}
target = {name: draw(generator, shape) for name, shape in SHAPES.items()}
curvature = {name: exact(np.round(generator.uniform(0.2, 3.0, shape), 2)) for name, shape in SHAPES.items()}


def tensors(tree):
    return {name: tensor(value) for name, value in tree.items()}


def gradient(params):
    return {name: jnp.asarray(curvature[name]) * (params[name] - target[name]) for name in params}


def steps(name, transform, options, state_of=None):
    """Runs the optimizer; `state_of` picks the named parts of its state to keep after the last step."""
    current = {key: jnp.asarray(value) for key, value in params.items()}
    state = transform.init(current)
    trail = []
    for _ in range(STEPS):
        updates, state = transform.update(gradient(current), state, current)
        current = optax.apply_updates(current, updates)
        trail.append(tensors(current))
    kept = {key: tensors(tree) for key, tree in state_of(state).items()} if state_of else {}
    return {"name": name, "options": options, "paramsAfterStep": trail, "stateAfterLastStep": kept}


def adam_state(state):
    return {"mean": state[0].mu, "variance": state[0].nu}


def factored_state(state):
    return {"row": state[0].v_row, "column": state[0].v_col, "full": state[0].v}


def optimizers():
    moments = {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8}
    adam_options = {"b1": 0.9, "b2": 0.99, "eps": 1e-8}
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.2, 2, 5, 0.02)
    return [
        steps("sgd", optax.sgd(0.1), {"learningRate": 0.1}),
        steps(
            "sgd momentum",
            optax.sgd(0.1, momentum=0.9),
            {"learningRate": 0.1, "momentum": 0.9, "nesterov": False},
            lambda state: {"trace": state[0].trace},
        ),
        steps(
            "sgd nesterov",
            optax.sgd(0.1, momentum=0.9, nesterov=True),
            {"learningRate": 0.1, "momentum": 0.9, "nesterov": True},
            lambda state: {"trace": state[0].trace},
        ),
        steps("adam", optax.adam(0.1, **adam_options), {"learningRate": 0.1, **moments}, adam_state),
        steps(
            "adamw",
            optax.adamw(0.1, weight_decay=0.1, **adam_options),
            {"learningRate": 0.1, "weightDecay": 0.1, **moments},
            adam_state,
        ),
        steps(
            "adamw, decay on matrix only",
            optax.adamw(0.1, weight_decay=0.1, mask={"matrix": True, "vector": False}, **adam_options),
            {"learningRate": 0.1, "weightDecay": 0.1, "decayed": ["matrix"], **moments},
            adam_state,
        ),
        steps(
            "adafactor, factored", optax.adafactor(0.1, min_dim_size_to_factor=2), adafactor_options(2), factored_state
        ),
        steps("adafactor, not factored", optax.adafactor(0.1), adafactor_options(128), factored_state),
        steps(
            "adafactor, absolute step, momentum and decay",
            optax.adafactor(
                0.1,
                min_dim_size_to_factor=2,
                multiply_by_parameter_scale=False,
                momentum=0.9,
                dtype_momentum=jnp.float64,
                weight_decay_rate=0.01,
            ),
            {**adafactor_options(2), "multiplyByParameterScale": False, "momentum": 0.9, "weightDecayRate": 0.01},
            factored_state,
        ),
        steps(
            "clip 1.0, adamw, warmup-cosine schedule",
            optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.1, **adam_options)),
            {
                "maxNorm": 1.0,
                "weightDecay": 0.1,
                **moments,
                "schedule": {"initial": 0, "peak": 0.2, "warmupSteps": 2, "decaySteps": 5, "end": 0.02},
            },
        ),
    ]


def adafactor_options(smallest):
    return {
        "learningRate": 0.1,
        "minDimSizeToFactor": smallest,
        "decayRate": 0.8,
        "decayOffset": 0,
        "multiplyByParameterScale": True,
        "clippingThreshold": 1.0,
        "momentum": None,
        "weightDecayRate": None,
        "epsilon": 1e-30,
    }


def clips():
    gradients = gradient({name: jnp.asarray(value) for name, value in params.items()})
    gradients = {name: jnp.asarray(exact(value)) for name, value in gradients.items()}
    rows = []
    for limit in (0.5, 1.0, 100.0):
        transform = optax.clip_by_global_norm(limit)
        clipped, _ = transform.update(gradients, transform.init(gradients))
        rows.append({"maxNorm": limit, "clipped": tensors(clipped)})
    return {"gradients": tensors(gradients), "globalNorm": number(optax.tree.norm(gradients)), "cases": rows}


def schedules():
    at = [0, 1, 4, 5, 9, 10, 11, 30, 55, 99, 100, 101, 500]
    table = [
        (
            "warmupCosineDecay",
            {"initial": 0, "peak": 0.001, "warmupSteps": 10, "decaySteps": 100, "end": 0.0001},
            optax.warmup_cosine_decay_schedule(0.0, 1e-3, 10, 100, 1e-4),
        ),
        (
            "cosineDecay",
            {"initial": 0.01, "decaySteps": 100, "alpha": 0.1},
            optax.cosine_decay_schedule(0.01, 100, 0.1),
        ),
        ("linear", {"initial": 0.01, "end": 0.002, "steps": 100}, optax.linear_schedule(0.01, 0.002, 100)),
        (
            "exponentialDecay",
            {"initial": 0.01, "transitionSteps": 10, "rate": 0.5},
            optax.exponential_decay(0.01, 10, 0.5),
        ),
        ("constant", {"value": 0.003}, optax.constant_schedule(0.003)),
    ]
    return [
        {"name": name, "options": options, "steps": at, "values": [number(f(step)) for step in at]}
        for name, options, f in table
    ]


write(
    __file__,
    {"jax": jax.__version__, "optax": optax.__version__, "numpy": np.__version__, "computedIn": "float64"},
    {
        "params": tensors(params),
        "target": tensors(target),
        "curvature": tensors(curvature),
        "optimizers": optimizers(),
        "clipping": clips(),
        "schedules": schedules(),
    },
)
