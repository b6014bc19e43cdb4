"""Shared by the fixture scripts that run torch modules: filling weights and reading gradients."""

import numpy as np
import torch

from fixture_json import draw, tensor


def fill(parameter, generator, scale):
    """Overwrites a parameter with drawn values that JSON holds exactly."""
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(draw(generator, tuple(parameter.shape), scale)))


def leaf(values):
    return torch.from_numpy(np.array(values)).requires_grad_()


def stacked(linears, read):
    """Stacks one array per expert, each turned so that y = x @ w (torch keeps the transpose)."""
    return tensor(np.stack([read(linear.weight).detach().numpy().T for linear in linears]))


def value(parameter):
    return parameter


def gradient(parameter):
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def assert_clear_choice(probabilities, chosen, margin=0.01):
    """Refuses inputs whose chosen experts could change by rounding in float32."""
    ranked = torch.sort(probabilities.reshape(-1, probabilities.shape[-1]), dim=-1, descending=True).values
    for place in range(chosen):
        gap = (ranked[:, place] - ranked[:, place + 1]).min().item()
        assert gap > margin, f"place {place} is decided by only {gap}"
