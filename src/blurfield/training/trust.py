"""What there is to know about training the network that judges restored images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from blurfield.restoration.learned_trust import (
    ARCHITECTURE,
    CAUTION,
    TrustNetwork,
    limited,
    log_odds,
    views,
)

from .kernels import turn
from .trust_samples import BLOCK, read_samples

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from .trust_samples import TrustSample

#: The loss of an image that became worse by x dB, beyond the first ones, is the first number times
#: ln(1 + x / second): a large loss is much worse than a small one, but no sample decides alone.
_HARM, _USUAL_HARM, _FREE = 6.0, 0.3, 0.05
#: Gains count up to this many dB, and weight of the gains of single places.
_MOST_GAIN, _LOCAL = 12.0, 0.3
#: Squared error for each number below which a place is as good as can be.
_LEAST_ERROR = 1e-4
#: For each orientation, the one that leads back.
_INVERSE = (0, 1, 2, 3, 4, 6, 5, 7)
#: Images that became worse by more than this many dB are counted.
_WORSE = 0.3


@dataclass(frozen=True)
class TrustBatch:
    """Samples of one size, in one of the eight orientations of the square.

    Attributes
    ----------
    samples : sequence of TrustSample
        At least one.
    orientation : int
        See `blurfield.training.kernels.turn`.
    """

    samples: Sequence[TrustSample]
    orientation: int = 0

    def __len__(self) -> int:
        return len(self.samples)


class TrustTask:
    """Data, network, loss and validation of the network that judges restored images.

    What is maximised is the gain in PSNR of images of which a part is given back, less what images
    that become worse cost.

    Parameters
    ----------
    folder : path-like
        Samples, see `blurfield.training.trust_samples.make_samples`.
    batch : int
        Samples in a step.
    device : torch.device
        Where everything happens.
    config : mapping, optional
        Parameters of `TrustNetwork`.

    Raises
    ------
    ValueError
        If there are no samples.
    """

    architecture = ARCHITECTURE
    #: The network gets linear light, which it encodes for itself.
    gamma = 1.0

    def __init__(
        self,
        folder: str | os.PathLike[str],
        batch: int,
        device: torch.device,
        *,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = TrustNetwork(**(config or {})).config
        self._batch, self._device = batch, device
        self._train, self._held = (read_samples(folder, split) for split in ("train", "val"))

    def network(self) -> nn.Module:
        """A new network, which leaves the doubts of the rules as they are."""
        return TrustNetwork(**self.config)

    def make(self, generator: torch.Generator, number: int) -> TrustBatch:
        """Draw the samples of a step: one, and others of its size."""
        del number
        # Which samples they are is needed on the host.
        order = torch.randperm(len(self._train), generator=generator, device=self._device).tolist()
        first = self._train[order[0]]
        alike = (self._train[i] for i in order if self._train[i].sharp.shape == first.sharp.shape)
        chosen = [sample for sample, _ in zip(alike, range(self._batch), strict=False)]
        turned = torch.randint(8, (), generator=generator, device=self._device)
        return TrustBatch(chosen, int(turned))

    def losses(
        self, network: nn.Module, batch: TrustBatch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """What is minimised (``loss``), the mean ``gain`` in dB, and what harm has cost."""
        del generator
        trust = self._trust(network, batch)
        gains, local = [], []
        for sample, share in zip(batch.samples, trust, strict=True):
            gains.append(gain(sample, share))
            local.append(_local_loss(sample, share))
        gained = torch.stack(gains)
        harm = _HARM * torch.log1p(functional.relu(-gained - _FREE) / _USUAL_HARM)
        loss = harm - gained.clamp_max(_MOST_GAIN) + _LOCAL * torch.stack(local)
        return {"loss": loss.mean(), "gain": gained.mean(), "harm": harm.mean()}

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Mean and worst gain in dB on held-out photographs, and the share that became worse.

        The odds are those of the finished network, with its `CAUTION`.
        ``rules`` and ``rules_worst`` are the gains of the rules alone, ``undoubted`` those of the
        restored images.
        """
        found = [
            (
                gain(sample, self._trust(network, TrustBatch([sample]), CAUTION)[0]),
                gain(sample, _shares(log_odds(sample.doubt.float()))),
                gain(sample, torch.ones(sample.errors.shape[-2:])),
            )
            for sample in self._held
        ]
        learned, rules, undoubted = torch.tensor(found).T
        return {
            "gain": float(learned.mean()),
            "worst": float(learned.min()),
            "worse": float((learned < -_WORSE).float().mean()),
            "rules": float(rules.mean()),
            "rules_worst": float(rules.min()),
            "undoubted": float(undoubted.mean()),
        }

    def _trust(self, network: nn.Module, batch: TrustBatch, caution: float = 0.0) -> Tensor:
        """Shares of the restored images in each block, (N, h, w)."""

        def together(name: str) -> Tensor:
            values = torch.stack([getattr(sample, name) for sample in batch.samples])
            return values.to(self._device).float()

        with torch.autocast(self._device.type, enabled=False):
            seen = views(together("sharp"), together("blurry"))
        turned = [turn(v, batch.orientation, ((-2, -1),)) for v in (seen, together("told"))]
        shift = network(*turned, [sample.size for sample in batch.samples]).float()
        back = _INVERSE[batch.orientation]
        change = limited(turn(shift, back, ((-2, -1),)), together("told"), caution)
        odds = log_odds(together("doubt")) + change
        return _shares(odds).cpu()


def gain(sample: TrustSample, share: Tensor) -> Tensor:
    """Gain in dB of a sample's image of which the restored one has some share in each block."""
    errors = _squared(sample.errors, share).sum((-2, -1)) / sample.values
    return (-10 * torch.log10(errors.clamp_min(1e-8))).amax() - sample.before


def _squared(errors: Tensor, share: Tensor) -> Tensor:
    change, product, error = errors.unbind(-3)
    return error - 2 * share * product + share.square() * change


def _local_loss(sample: TrustSample, share: Tensor) -> Tensor:
    """Loss in dB of single places, on average."""
    least = _LEAST_ERROR * BLOCK**2
    after, before = (
        functional.avg_pool2d(values[None], 3, stride=1, padding=1)[0] + least
        for values in (_squared(sample.errors[0], share), sample.errors[0, 2])
    )
    return 10 * torch.log10(after / before).mean()


def _shares(odds: Tensor) -> Tensor:
    """From logarithms of odds in cells (..., h, w) to shares in blocks (..., 2h, 2w)."""
    cells = odds.reshape(-1, 1, *odds.shape[-2:])
    blocks = functional.interpolate(cells, scale_factor=2, mode="bilinear", align_corners=False)
    return blocks.sigmoid().reshape(*odds.shape[:-2], *blocks.shape[-2:])
