"""Writes threefry.json: the Random123 known answers and what jax.random makes of the same generator."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from fixture_json import tensor, write

jax.config.update("jax_enable_x64", False)
jax.config.update("jax_threefry_partitionable", True)

# Published in Random123's kat_vectors file as "threefry2x32 20": counter, key, answer.
KNOWN_ANSWERS = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]
SEEDS = [0, 1, 42, 2**31 - 1, 2**31, 2**32 - 1, -1]
SHAPES = [(7,), (3, 5)]
KEYS = {
    "seed0": jax.random.PRNGKey(0),
    "seed42": jax.random.PRNGKey(42),
    "words": jnp.array([0x13198A2E, 0x3707344], jnp.uint32),
}


def known_answers():
    rows = []
    for counter, key, answer in KNOWN_ANSWERS:
        got = jax.extend.random.threefry_2x32(jnp.array(key, jnp.uint32), jnp.array(counter, jnp.uint32))
        assert tuple(int(x) for x in got) == answer
        rows.append({"counter": list(counter), "key": list(key), "answer": list(answer)})
    return rows


def words(array):
    return [int(x) for x in np.asarray(array).ravel()]


def sample(function, key, args, call):
    """One case: `call` names what was evaluated, `args` holds what it was given besides the key."""
    return {"function": function, "key": words(key), **args, "call": call, "output": tensor(eval_call(call, key, args))}


def eval_call(call, key, args):
    scope = {
        name: jnp.asarray(a["data"], jnp.float32).reshape(a["shape"]) if isinstance(a, dict) else a
        for name, a in args.items()
    }
    scope = {name: tuple(a) if isinstance(a, list) else a for name, a in scope.items()}
    return eval(call, {"random": jax.random, "jnp": jnp, "key": key, **scope})


def splits():
    rows = []
    for key in KEYS.values():
        for count in (2, 5):
            rows.append({"key": words(key), "count": count, "keys": tensor(jax.random.split(key, count))})
    rows.append(
        {"key": words(KEYS["seed42"]), "count": [2, 3], "keys": tensor(jax.random.split(KEYS["seed42"], (2, 3)))}
    )
    return rows


def folds():
    return [
        {"key": words(key), "number": number, "folded": words(jax.random.fold_in(key, number))}
        for key in KEYS.values()
        for number in (0, 1, 7, 1_000_003, 2**32 - 1)
    ]


def samples():
    rows = []
    for key in KEYS.values():
        for shape in SHAPES:
            size = {"shape": list(shape)}
            ranged = {**size, "minval": -2.5, "maxval": 3.0}
            rows += [
                sample("bits", key, size, "random.bits(key, shape)"),
                sample("uniform", key, size, "random.uniform(key, shape)"),
                sample("uniform", key, ranged, "random.uniform(key, shape, minval=minval, maxval=maxval)"),
                sample("normal", key, size, "random.normal(key, shape)"),
                sample(
                    "truncatedNormal",
                    key,
                    {**size, "lower": -2, "upper": 2},
                    "random.truncated_normal(key, lower, upper, shape)",
                ),
                sample("bernoulli", key, {**size, "p": 0.3}, "random.bernoulli(key, p, shape)"),
                sample("gumbel", key, {**size, "mode": "low"}, "random.gumbel(key, shape, mode=mode)"),
                sample(
                    "randint", key, {**size, "minval": 0, "maxval": 10}, "random.randint(key, shape, minval, maxval)"
                ),
                sample(
                    "randint", key, {**size, "minval": -5, "maxval": 1000}, "random.randint(key, shape, minval, maxval)"
                ),
            ]
        rows.append(categorical(key, {}))
        rows.append(categorical(key, {"shape": [6, 4]}))
    long = {"shape": [64]}
    rows.append(sample("normal", KEYS["seed42"], long, "random.normal(key, shape)"))
    rows.append(sample("gumbel", KEYS["seed42"], {**long, "mode": "high"}, "random.gumbel(key, shape, mode=mode)"))
    for count in (10, 257, 1700):
        rows.append(sample("permutation", KEYS["seed42"], {"count": count}, "random.permutation(key, count)"))
    return rows


def categorical(key, args):
    logits = np.array([[0.5, -1, 2, 0, 0.25], [0, 0, 0, 0, 0], [3, -3, 1.5, 0.5, -0.5], [-1, -2, -3, 4, 0]], np.float32)
    call = (
        "random.categorical(key, logits, axis=-1, shape=shape)" if args else "random.categorical(key, logits, axis=-1)"
    )
    shape = tuple(args.get("shape", [4])) + (5,)
    scores = np.sort(np.asarray(jax.random.gumbel(key, shape, mode="low")) + logits, axis=-1)
    assert (scores[..., -1] - scores[..., -2]).min() > 1e-3, "a winner is too close to call in float32"
    return sample("categorical", key, {"logits": tensor(logits), **args}, call)


write(
    __file__,
    {"jax": jax.__version__, "numpy": np.__version__, "jax_threefry_partitionable": True, "jax_enable_x64": False},
    {
        "knownAnswers": known_answers(),
        "seeds": [{"seed": seed, "key": words(jax.random.PRNGKey(seed))} for seed in SEEDS],
        "splits": splits(),
        "folds": folds(),
        "samples": samples(),
    },
)
