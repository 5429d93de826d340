"""Whether a network knows the flow that it is shown: how far that is from the flows in which it was seen to work.

A state operator answers whatever it is asked, and on a grid, a Reynolds number or a laminar flow that it never saw the
answer is wrong without being large. What tells such flows from its own are statistics of single fields: mean, energies
and scales on a few planes. Of those the network's flows have a Gaussian distribution; Mahalanobis' distance from it is
the measure (Lee, Lee, Lee & Shin 2018, NeurIPS, use it for features of a classifier).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from closures.operators.artefact import CARD, FAMILIAR, ArtefactError, digest, read_card
from closures.operators.domain import Domain, Line
from closures.operators.spectral import along
from solver.files.folder import write_atomically, write_json

HEIGHTS = (0.04, 0.12, 0.3, 0.6, 0.95)  # above a wall, of the distance to the middle
LEAST = 1e-12  # of a share of energy: what a coarser grid does not have at all
SHRINK = 0.3  # correlations are that much weaker than samples say: they are few, and follow one another in time
ROUND_OFF = 1e-3  # of a feature: no smaller deviation counts
MARGIN = 1.1  # over the largest distance of a run from the distribution of the others


def features(velocity: Tensor, domain: Domain) -> Tensor:
    """What is known of one field, float64: on each of `HEIGHTS`, or over a box, 5 numbers and 3 or 6 a direction.

    Of a field of which this rank has a part that is collective, and the same on every rank.

    Mean of u; logarithms of the rms of u', v', w'; the correlation of u' and v'. Along an evenly spaced period, the
    logarithms of the shares of the energy in the upper third of the modes; along other lines those of the rms of the
    first and the second derivative over that of the field.

    Parameters
    ----------
    velocity : (3, nx, ny, nz) at cell centres.
    domain : its points.
    """
    u, layered = velocity.double(), not domain.y.periodic
    where = domain.like(u)
    weight = where.volumes / (where.y.weights[None, :, None] if layered else 1.0)

    def mean(f: Tensor) -> Tensor:
        """Over planes across y, or over all, as rows over y."""
        total = (f * weight).sum((-3, -1) if layered else (-3, -2, -1))
        return total if layered else where.y.total(total)[..., None]

    average = mean(u)
    f = u - (average[:, None, :, None] if layered else average[..., None, None])
    energy = mean(f * f).clamp_min(LEAST**2)
    rows = [average[:1], 0.5 * energy.log(), (mean(f[0] * f[1]) / (energy[0] * energy[1]).sqrt())[None]]
    for d, line in enumerate(where.lines):
        rows += [0.5 * (size / energy).clamp_min(LEAST).log() for size in _scales(f, line, d, mean)]
    table = torch.cat(rows)
    return (_at_heights(where.y.joined(table), where.y.complete, odd=4) if layered else table).flatten()


def _scales(f: Tensor, line: Line, d: int, mean: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Mean squares that tell how fine a field is along a direction, rows as of `mean`."""
    if line.complete.n < 5:
        return []
    if line.is_spectral:
        kept = line.across(f, partial(_upper_third, dim=d + 1))
        return [mean(kept * kept)]
    derivative = partial(along, matrix=line.sent(line.derivative, f), direction=d)
    first = line.across(line.extended(f[None]), derivative)
    second = line.across(line.extended(first), derivative)
    return [mean(g[0] * g[0]) for g in (first, second)]


def _upper_third(f: Tensor, dim: int) -> Tensor:
    """Of the modes along one dimension of four."""
    modes = torch.fft.rfft(f, dim=dim)
    fine = torch.arange(modes.shape[dim], device=f.device) >= 2 * (modes.shape[dim] - 1) // 3
    shape = [1, 1, 1, 1]
    shape[dim] = -1
    kept: Tensor = torch.fft.irfft(modes * fine.reshape(shape), n=f.shape[dim], dim=dim)
    return kept


def _at_heights(table: Tensor, line: Line, odd: int) -> Tensor:
    """Rows over y at `HEIGHTS` above both ends, averaged; row `odd` has the other sign at the upper end."""
    known: list[Tensor] = line.__dict__.setdefault("_at_heights", [])  # kept where the line is kept
    if not known:
        place, below = line.unit.double().cpu().numpy(), 0.5 * np.array(HEIGHTS)
        for heights in (below, 1.0 - below):
            weights = np.stack([np.interp(heights, place, unit) for unit in np.eye(line.n)])
            known.append(torch.from_numpy(weights).to(table))
    lower, upper = (table @ weights for weights in known)
    upper[odd] = -upper[odd]
    return 0.5 * (lower + upper)


@dataclass(frozen=True)
class Familiarity:
    """The flows that a network knows.

    Parameters
    ----------
    means : of the features of each, (flows, features).
    factors : whose products with deviations from these have unit covariance, (flows, features, features).
    """

    means: Tensor
    factors: Tensor

    def distance(self, velocity: Tensor, domain: Domain) -> Tensor:
        """Of a field from the nearest of the flows, a number where the field is: 1 is as far as their own reach."""
        return self.of(features(velocity, domain))

    def of(self, found: Tensor) -> Tensor:
        """`distance` of features; infinite for those of another kind of flow, or not finite."""
        if found.shape != self.means.shape[1:]:
            return found.new_full((), torch.inf)
        means, factors = self._on(found.device)
        deviation = torch.einsum("fij,fj->fi", factors, found - means)
        return deviation.square().mean(1).sqrt().min().nan_to_num(nan=torch.inf)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Means and factors there, sent once."""
        sent: dict[torch.device, tuple[Tensor, Tensor]] = self.__dict__.setdefault("_sent", {})
        if device not in sent:
            sent[device] = self.means.to(device), self.factors.to(device)
        return sent[device]

    def save(self, folder: Path) -> None:
        """Write `FAMILIAR` beside the weights and its checksum into their card.

        Raises
        ------
        ArtefactError : there is no card.
        RunFolderError : the folder cannot be written.
        """
        card, path = read_card(folder / CARD), folder / FAMILIAR
        tensors = {"means": self.means.float().contiguous(), "factors": self.factors.float().contiguous()}
        write_atomically(path, lambda target: save_file(tensors, target))
        write_json(folder / CARD, card.model_copy(update={"familiar_sha256": digest(path)}).model_dump())

    @classmethod
    def load(cls, folder: Path, checksum: str | None) -> Familiarity | None:
        """What lies beside the weights in `folder`, whose card has that checksum of it; None without.

        Raises
        ------
        ArtefactError : the file is not the one that the card names, or not what this class wrote.
        """
        path = folder / FAMILIAR
        if checksum is None and not path.exists():
            return None
        if checksum is None:
            raise ArtefactError(f"{path}: {CARD} has no checksum of it: copy both files again, or remove this one")
        try:
            found = digest(path)
        except OSError as error:
            raise ArtefactError(f"{path}: cannot be read ({error}), and {CARD} names it: copy both again") from None
        if found != checksum:
            raise ArtefactError(f"{path}: not the file that {CARD} describes (checksum): copy both again")
        try:
            with safe_open(path, framework="pt") as file:
                means, factors = (file.get_tensor(name).double() for name in ("means", "factors"))
        except (OSError, SafetensorError) as error:
            raise ArtefactError(f"{path}: damaged, or another file ({error}): copy it and {CARD} again") from None
        whole = means.ndim == 2 and factors.shape == (*means.shape, means.shape[-1])
        if not (whole and bool(torch.isfinite(means).all()) and bool(torch.isfinite(factors).all())):
            raise ArtefactError(f"{path}: not the means and factors of some flows: copy it and {CARD} again")
        return cls(means, factors)


def fitted(flows: Mapping[str, Sequence[Tensor]]) -> Familiarity:
    """From the features of some runs, (samples, features) each, of every flow.

    The length of a distance is set by runs that had no part in the distribution: each by those of the others.
    """
    found = [_gaussian(runs) for runs in flows.values()]
    return Familiarity(*(torch.stack(parts) for parts in zip(*found, strict=True)))


def _gaussian(runs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    farthest = 0.0
    for i, run in enumerate(runs):
        mean, factor = _whitened(torch.cat([other for j, other in enumerate(runs) if j != i]))
        farthest = max(farthest, float(((run - mean) @ factor.T).square().mean(1).sqrt().max()))
    mean, factor = _whitened(torch.cat(list(runs)))
    return mean, factor / (MARGIN * farthest)


def _whitened(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and the factor that makes the shrunk covariance one."""
    covariance = samples.T.cov()
    own = covariance.diagonal().diag()
    total = (1.0 - SHRINK) * covariance + SHRINK * own + ROUND_OFF**2 * torch.eye(len(own), dtype=own.dtype)
    return samples.mean(0), torch.linalg.inv(torch.linalg.cholesky(total))
