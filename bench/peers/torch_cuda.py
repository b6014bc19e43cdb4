"""PyTorch's times for some of the workloads of `deno task bench`, as JSON on stdout.

Called by `torch.ts` with the names of this library's results; prints milliseconds for those it knows. f32 without tf32, like
the kernels it is compared with. A mixture of experts is a product for each expert over rows sorted by expert, the fastest
form that PyTorch has in f32; its plan is made beforehand, as in `execute_bench.ts`. The elementwise chain is compiled where
that works.

    python3 bench/peers/torch_cuda.py "matmul 4096x4096x4096, matmul"
    python3 bench/peers/torch_cuda.py --check      # compares small sizes with float64 on the CPU, times nothing
"""

import json
import re
import statistics
import sys


def skip(reason):
    print(json.dumps({"skipped": reason}))
    sys.exit(0)


try:
    import torch
except ImportError:
    skip("python3 has no torch")


def matmul(device, m, k, n):
    a, b = torch.rand(m, k, device=device), torch.rand(k, n, device=device)
    return {"matmul": lambda: a @ b}, {"matmul": lambda: a.double() @ b.double()}


def chain_of(x):
    return torch.nn.functional.gelu(x * 1.5 + 0.25, approximate="tanh") * x - 0.5


def chain(device, size):
    x = torch.rand(size, device=device) * 8 - 4
    apply, form = chain_of, "eager"
    if device == "cuda":
        try:
            apply, form = torch.compile(chain_of), "compiled"
            apply(x)
        except Exception:  # whatever its compiler lacks
            apply, form = chain_of, "eager"
    run = lambda: apply(x)
    run.form = form
    return {"fused": run}, {"fused": lambda: chain_of(x.double())}


def with_gradients(apply, given):
    leaves = [each.detach().clone().requires_grad_() for each in given]
    out = apply(*leaves)
    return (out, *torch.autograd.grad(out, leaves, torch.full_like(out, 1 / len(out))))


def experts(device, tokens, width, count, inner, k):
    """An even load: the rows of each expert are together, and a token's rows are added up."""
    gelu = lambda x: torch.nn.functional.gelu(x, approximate="tanh")
    rows = tokens * k
    expert_of = torch.arange(rows, device=device) % count
    token_of = torch.arange(rows, device=device) // k
    order = torch.argsort(expert_of, stable=True)
    token, sizes = token_of[order], torch.bincount(expert_of, minlength=count).tolist()
    draw = lambda *shape: torch.randn(*shape, device=device)
    hidden, weight = draw(tokens, width), torch.rand(rows, device=device)
    up, down = draw(count, width, inner) / width**0.5, draw(count, inner, width) / inner**0.5
    wide_up, wide_down = draw(width, k * inner) / width**0.5, draw(k * inner, width) / inner**0.5

    def mixture(hidden, weight, up, down):
        parts = hidden[token].split(sizes)
        made = torch.cat([gelu(part @ up[e]) @ down[e] for e, part in enumerate(parts)])
        weighted = made * weight[order].unsqueeze(1)
        return torch.zeros_like(hidden).index_add(0, token, weighted)

    def looped(hidden, weight, up, down):
        every = torch.stack([gelu(hidden @ up[e]) @ down[e] for e in range(count)])
        return (every[expert_of, token_of] * weight.unsqueeze(1)).view(tokens, k, width).sum(1)

    def dense(hidden, up, down):
        return gelu(hidden @ up) @ down

    given, layer = (hidden, weight, up, down), (hidden, wide_up, wide_down)
    wide = lambda values: [each.double() for each in values]
    return {
        "dense forward": lambda: dense(*layer),
        "dense forward+backward": lambda: with_gradients(dense, layer),
        "execute forward": lambda: mixture(*given),
        "execute forward+backward": lambda: with_gradients(mixture, given),
    }, {
        "dense forward": lambda: dense(*wide(layer)),
        "dense forward+backward": lambda: with_gradients(dense, wide(layer)),
        "execute forward": lambda: looped(*wide(given)),
        "execute forward+backward": lambda: with_gradients(looped, wide(given)),
    }


FORMS = [
    (r"matmul (\d+)x(\d+)x(\d+), ", lambda device, *sizes: matmul(device, *sizes)),
    (r"elementwise_chain (\d+)Mi, ", lambda device, millions: chain(device, millions * 2**20)),
    (r"execute T(\d+) D(\d+) E(\d+) F(\d+) K(\d+) uniform, ", lambda device, *sizes: experts(device, *sizes)),
]


def check(name, found, expected):
    """Raises where a result is not the one of float64."""
    found, expected = ([each] if torch.is_tensor(each) else each for each in (found, expected))
    for got, wanted in zip(found, expected, strict=True):
        error = (got.double() - wanted).norm() / wanted.norm()
        if not error < 1e-4:
            raise ValueError(f"{name} is wrong: relative error {error:.3g}")


def milliseconds(run):
    """The median of seven turns of at least 100 ms, by the device's own clock."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def turn(calls):
        begin.record()
        for _ in range(calls):
            run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    turn(3)
    calls = max(1, round(100 / max(turn(3) / 3, 1e-3)))
    return statistics.median(turn(calls) / calls for _ in range(7))


def main(names):
    if names == ["--check"]:
        for name, (runs, wanted) in {
            "matmul": matmul("cpu", 9, 17, 5),
            "chain": chain("cpu", 1000),
            "experts": experts("cpu", 24, 8, 5, 12, 2),
        }.items():
            for form in runs:
                check(f"{name}, {form}", runs[form](), wanted[form]())
                print(f"right: {name}, {form}")
        return
    if not torch.cuda.is_available():
        skip("torch sees no CUDA device")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    results, built = [], {}
    for name in names:
        for pattern, build in FORMS:
            match = re.match(pattern, name)
            if match is None:
                continue
            form = name[match.end():]
            if match.group() not in built:
                built.clear()
                built[match.group()] = build("cuda", *map(int, match.groups()))
            runs, _ = built[match.group()]
            if form in runs:
                results.append({"name": name, "ms": milliseconds(runs[form]), "form": getattr(runs[form], "form", "eager")})
    print(json.dumps({"device": torch.cuda.get_device_name(), "torch": torch.__version__, "results": results}))


main(sys.argv[1:])
