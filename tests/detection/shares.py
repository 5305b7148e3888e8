"""What principal components explain of the variance."""

from __future__ import annotations

import torch
from torch import Tensor

from filterwatch.detection import components


def principal_components(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Return points [P, N, 2] and the share that each explains [P, 2], 0 without variance."""
    largest = samples.double().abs().amax((1, 2), keepdim=True).clamp(min=1e-300)
    unit = samples.double() / largest
    total = (unit - unit.mean(1, keepdim=True)).square().sum((1, 2))
    points, _ = components.principal_components(samples)
    explained = (points / largest).square().sum(1)
    return points, explained / total.clamp(min=torch.finfo(torch.float64).tiny).unsqueeze(1)
