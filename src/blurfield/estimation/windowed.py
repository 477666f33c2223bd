"""Estimation on overlapping windows, which needs no trained weights."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional

from blurfield.compute import Reporter, part_of
from blurfield.field import KernelField
from blurfield.no_blur import no_blur
from blurfield.support import cut_off, padded
from blurfield.windows import Windows

from .blind import BlindSettings, Hypothesis, estimate_kernels, work
from .camera import estimate_camera
from .contest import Contest
from .layout import WindowSettings
from .learned_gradients import load_gradients
from .local_power import choose_locally
from .reduced import lifted, reduced_copy, reduction
from .windows import in_place

if TYPE_CHECKING:
    import os

    from torch import Tensor

    from blurfield.compute import ProgressCallback

    from .learned_gradients import LearnedGradients

#: Largest kernel size that is chosen by default.
DEFAULT_KERNEL_SIZE = 33
#: Pixels below which the shorter side of an image is not cut.
_NARROW = 192
#: Differences of brightness below this, relative to white, are no texture.
_LEAST_TEXTURE = 1e-4
#: Kernels that weigh no more than this in any window are left out.
_LEAST_WEIGHT = 0.01
#: Side of kernels in reduced copies, at least.
_LEAST_REDUCED = 9

#: Windows start from what was found in the overview, too, so that fewer starts do.
_WINDOW_HYPOTHESES = (
    Hypothesis(1.0, 6e-3, 0.05),
    Hypothesis(1.0, 6e-3, 0.2),
)
_WHOLE = BlindSettings()
_LOCAL = replace(_WHOLE, hypotheses=_WINDOW_HYPOTHESES)
#: Kernels of the default size are too small for an image where more than this of them, on average,
#: lies on the rim of their support. It is then looked at anew, first in a copy reduced by the
#: factor; if its shorter side has at least so many pixels.
_CUT_OFF, _FACTOR, _LEAST_FOR_LONGER = 0.02, 2, 132
#: Kernels larger than this share of the shorter side are not believed: hardly an edge could be seen
#: whole.
_MOST_OF_SIDE = 0.5
#: Parts of the time: all, those of the first look, and the one of the copy.
_LOOKS, _FIRST_LOOK, _COPY = 10, 7, 1


def estimate_windowed(
    planes: Tensor,
    *,
    kernel_size: int | None = None,
    max_kernels: int = 25,
    edges: str | os.PathLike[str] = "auto",
    progress: ProgressCallback | None = None,
) -> KernelField:
    """Estimate a kernel field with a blind estimator on windows.

    Kernels are estimated by `blurfield.estimation.blind.estimate_kernels` for an overview of the
    image and for windows on it, and by `blurfield.estimation.camera.estimate_camera` for all of it,
    as if only the camera had moved. Then all kernels compete in smaller, overlapping windows, where
    they are weighted by their `Evidence`: the power spectrum, and the sparsity of what they lead
    to. No blur competes, too, where there are details finer than the noise. So windows without
    texture, or where the estimation failed, are filled in by kernels from elsewhere. The kernels,
    in a common frame, become the basis of the field; those that weigh nearly nothing everywhere are
    left out. The mixing maps begin with the weights, and are finer than the windows: where between
    kernels of like weight the power of the image close by tells which it is, it decides
    (`blurfield.estimation.local_power.choose_locally`).

    Of images with a side of more than 2400 pixels, a reduced copy is estimated first: means of so
    many pixels that its longer side has at most 1600. What it tells, at full resolution, is in the
    place of the overview and is what windows begin with; it also tells how large kernels have to
    be. Smaller images, too, are looked at again in this way, in a copy of half the size, if what
    was found reaches the rim of kernels of the default size; both times' kernels then compete, and
    the motion of the camera is sought in the copy only. If the copy asks for kernels larger than
    half the shorter side, there is no second look.

    Parameters
    ----------
    planes : Tensor
        Blurry image in linear light with white 1, (C, H, W), at least 32×32 pixels.
    kernel_size : int, optional
        Side K of the kernels in pixels, odd, at least 3 and at most the image's shorter side. By
        default 33, or less for images of less than 66 pixels, and more where a reduced copy of the
        image shows longer blur: up to half the shorter side, or in images of more than 2400 pixels
        up to all of it.
    max_kernels : int
        Largest number B of basis kernels, at least 1.
    edges : str or path-like
        How sharp edges are found, from which kernels follow: ``"L0"``, as the strong gradients of
        a latent image with few of them. With the name of installed weights, or a file, a network
        of `blurfield.estimation.learned_gradients` finds them, too, at coarse scales, and what
        either leads to competes. ``"auto"`` takes a network if its weights are installed.
    progress : callable, optional
        See `blurfield.estimate`.

    Returns
    -------
    KernelField
        On the device of `planes`, with a mixing grid of about four cells for each side of the
        kernels. Its metadata hold ``parameters``, of which ``edges`` says how
        they were found, ``"L0"`` or ``"L0 and network"``; ``weights`` with name, origin and hash of
        the network's, if there is one; ``confidence``, from 0 to 1, how much independent estimates
        agree on average; ``camera``, how much of the kernels follows from one motion of the camera
        (0 where a reduced copy has told of it); and ``windows`` with the confidence of each window
        and their positions. The map ``confidence`` has it for each place. An image without texture
        gets kernels without blur and confidence 0.

    Raises
    ------
    ValueError
        If an option is out of its range, or the weights do not exist or are for another network.
    """
    shape = (int(planes.shape[-2]), int(planes.shape[-1]))
    size = _kernel_size(kernel_size, min(shape))
    if max_kernels < 1:
        raise ValueError(f"max_kernels must be at least 1, got {max_kernels}")
    learned = load_gradients(edges, planes.device)
    facts: dict[str, Any] = {
        "parameters": {
            "kernel_size": size,
            "max_kernels": max_kernels,
            "edges": "L0" if learned is None else "L0 and network",
            **asdict(WindowSettings()),
        }
    }
    if learned is not None:
        facts["weights"] = learned.weights.identity()
    grey = planes.mean(0)
    if float(grey.std()) < _LEAST_TEXTURE:
        Reporter(progress, 1, "Estimating the blur of the whole image").advance()
        note = "the image has no texture that could show blur"
        facts.update(confidence=0.0, note=note)
        return KernelField.uniform(no_blur(size, grey.device, grey.dtype), shape, facts)
    search = _Search(grey, learned, max_kernels, facts)

    def start_from_copy(factor: int, progress: ProgressCallback | None) -> _Start:
        copy = reduced_copy(planes, factor)
        coarse = estimate_windowed(
            copy,
            kernel_size=_reduced_size(kernel_size, factor, min(copy.shape[1:])),
            max_kernels=max_kernels,
            edges=edges,
            progress=progress,
        )
        return _Start.lifted(lifted(coarse, factor, shape, size, kernel_size), factor)

    factor = reduction(shape)
    if factor > 1:
        start = start_from_copy(factor, part_of(progress, 0, 2))
        return search.field(start, part_of(progress, 1, 2))
    start = _Start(WindowSettings(), size)
    if kernel_size is not None or min(shape) < _LEAST_FOR_LONGER:
        return search.field(start, progress)
    reporter = search.reporter(start, part_of(progress, 0, _LOOKS, _FIRST_LOOK))
    contest = search.contest(search.kernels(start, reporter), start, reporter)
    field = search.choose(contest, start, reporter)
    rest = part_of(progress, _FIRST_LOOK, _LOOKS, _LOOKS - _FIRST_LOOK)
    if float(cut_off(field).mean()) > _CUT_OFF:
        longer = start_from_copy(_FACTOR, part_of(rest, 0, _LOOKS, _COPY))
        rest = part_of(rest, _COPY, _LOOKS, _LOOKS - _COPY)
        if size < longer.size <= _MOST_OF_SIDE * min(shape):
            reporter = search.reporter(longer, rest)
            more = search.kernels(longer, reporter)
            kernels = torch.cat([padded(contest.kernels[1:], longer.size), more])
            return search.choose(search.contest(kernels, longer, reporter), longer, reporter)
    return search.with_camera(contest, start, rest)


class _Start(NamedTuple):
    """What is known before kernels are estimated in windows.

    Attributes
    ----------
    layout : WindowSettings
        How windows lie.
    size : int
        Side of the kernels in pixels.
    field : KernelField or None
        What a reduced copy of the image has told. Without it, an overview tells how to begin.
    factor : int
        Pixels of the image along each axis that are one in that copy.
    """

    layout: WindowSettings
    size: int
    field: KernelField | None = None
    factor: int = 1

    @classmethod
    def lifted(cls, field: KernelField, factor: int) -> _Start:
        """Start from the field of a reduced copy, with windows that don't take too much memory."""
        size = field.kernel_size
        return cls(WindowSettings().limited(size), size, field, factor)

    def kernels(
        self,
        grey: Tensor,
        windows: Windows,
        settings: BlindSettings,
        learned: LearnedGradients | None,
        reporter: Reporter,
    ) -> tuple[Tensor, Tensor]:
        """Return kernels (C, K, K) of the image, and guesses (N, P, K, K) for its windows."""
        if self.field is not None:
            at = self.field.kernels_at(windows.centres())
            return self.field.basis.flip(-2, -1), at.flip(-2, -1)[:, None]
        overview = _middle(grey, self.layout.overview)[None]
        mean, found, _ = estimate_kernels(overview, self.size, settings, reporter, learned=learned)
        guesses = torch.stack([mean[0], found[0, 0]])
        count = len(windows.rows) * len(windows.columns)
        return torch.cat([mean, found[0]]), guesses.expand(count, -1, -1, -1)


@dataclass(frozen=True)
class _Search:
    """The search for the kernels of an image.

    Attributes
    ----------
    grey : Tensor
        The image, (H, W).
    learned : LearnedGradients or None
        A network that finds sharp edges.
    max_kernels : int
        Largest number of basis kernels.
    facts : dict
        For the metadata.
    """

    grey: Tensor
    learned: LearnedGradients | None
    max_kernels: int
    facts: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image."""
        return int(self.grey.shape[0]), int(self.grey.shape[1])

    def field(self, start: _Start, progress: ProgressCallback | None) -> KernelField:
        """Estimate kernels in windows, and of a camera, and let all of them compete."""
        if start.field is not None:  # what a camera does is in there
            reporter = self.reporter(start, progress)
            contest = self.contest(self.kernels(start, reporter), start, reporter)
            return self.choose(contest, start, reporter)
        reporter = self.reporter(start, part_of(progress, 0, 2))
        contest = self.contest(self.kernels(start, reporter), start, reporter)
        return self.with_camera(contest, start, part_of(progress, 1, 2))

    def reporter(self, start: _Start, progress: ProgressCallback | None) -> Reporter:
        """Reporter for both steps."""
        steps = work(start.size, _LOCAL)
        if start.field is None:
            steps += work(start.size, _WHOLE)
        return Reporter(progress, steps + 1, "Estimating the blur of the whole image")

    def kernels(self, start: _Start, reporter: Reporter) -> Tensor:
        """Estimate kernels (C, K, K) of the whole image and in windows."""
        layout, size = start.layout, start.size
        stride = round(layout.stride * size)
        windows = Windows.on(self.shape, round(layout.side * size), stride, layout.most)
        first, guesses = start.kernels(self.grey, windows, _WHOLE, self.learned, reporter)
        reporter.advance(0, "Estimating the blur of parts of the image")
        cut = windows.cut(self.grey)
        means, own, _ = estimate_kernels(cut, size, _LOCAL, reporter, guesses, self.learned)
        return torch.cat([first, means, own.flatten(0, 1)])

    def contest(self, kernels: Tensor, start: _Start, reporter: Reporter) -> Contest:
        """Let kernels (C, K, K) compete in each part of the image."""
        reporter.advance(0, "Comparing the kernels")
        layout, size = start.layout, start.size
        stride = round(layout.trial_stride * size)
        trials = Windows.on(self.shape, round(layout.trial_side * size), stride, layout.most_trials)
        return Contest.of(self.grey, kernels, trials, reporter.poll)

    def with_camera(
        self, contest: Contest, start: _Start, progress: ProgressCallback | None
    ) -> KernelField:
        """Let the kernels of a motion of the camera compete, too."""
        steps = work(start.size, BlindSettings()) + 1
        reporter = Reporter(progress, steps, "Estimating the motion of the camera")
        camera = estimate_camera(self.grey, start.size, reporter)
        return self.choose(contest.with_camera(camera, reporter.poll), start, reporter)

    def choose(self, contest: Contest, start: _Start, reporter: Reporter) -> KernelField:
        """Make a field of what has won in each place."""
        grey, trials = self.grey, contest.windows
        stride = round(start.layout.trial_stride * start.size)
        kernels, weights = contest.shares(start.layout.tolerance)
        followed = float(weights[:, len(contest.kernels) :].sum(1).mean())
        used = weights.amax(0) > _LEAST_WEIGHT
        kernels, weights = kernels[used], weights[:, used] / weights[:, used].sum(1, keepdim=True)
        confidence = _agreement(kernels, weights)
        mixing = _shares(trials.on_cells(weights, stride))
        coarse = KernelField(kernels.flip(-2, -1), mixing, self.shape)
        if coarse.num_kernels > self.max_kernels:
            coarse = coarse.compress(self.max_kernels, progress=lambda *_: reporter.poll())

        reporter.advance(0, "Choosing kernels for each place")
        mixing = choose_locally(grey, coarse.basis, coarse.mixing, contest.quiet, reporter.poll)
        basis = in_place(coarse.basis.flip(-2, -1), mixing.mean((1, 2))).flip(-2, -1)
        field = KernelField(
            basis,
            _shares(mixing),
            self.shape,
            {
                **self._facts(start),
                **coarse.metadata,
                "confidence": round(float(confidence.mean()), 4),
                "camera": round(followed, 4),
                "windows": {
                    "size": list(trials.size),
                    "rows": list(trials.rows),
                    "columns": list(trials.columns),
                    "confidence": [
                        [round(value, 4) for value in row]
                        for row in trials.grid(confidence[:, None])[0].tolist()
                    ],
                },
            },
            maps={"confidence": trials.on_cells(confidence[:, None], stride)[0]},
        )
        reporter.advance()
        return field

    def _facts(self, start: _Start) -> dict[str, Any]:
        """Metadata, with the parameters that followed from the image."""
        parameters = {**self.facts["parameters"], "kernel_size": start.size}
        if start.field is not None:
            parameters["reduction"] = start.factor
        return {**self.facts, "parameters": {**parameters, **asdict(start.layout)}}


def _shares(mixing: Tensor) -> Tensor:
    """Mixing maps (B, h, w) with sum 1 up to the last bit that there is."""
    return mixing / mixing.sum(0)


def _reduced_size(wanted: int | None, factor: int, shorter_side: int) -> int:
    """Side of the kernels in a reduced copy; the default one unless a size is wanted."""
    usual = _kernel_size(None, shorter_side)
    if wanted is None:
        return usual
    return min(max(_LEAST_REDUCED, 2 * (wanted // (2 * factor)) + 1), usual)


def _kernel_size(wanted: int | None, shorter_side: int) -> int:
    if wanted is None:
        return min(DEFAULT_KERNEL_SIZE, 2 * (shorter_side // 4) + 1)
    if wanted < 3 or wanted % 2 == 0:
        raise ValueError(f"kernel_size must be an odd number from 3 up, got {wanted}")
    if wanted > shorter_side:
        raise ValueError(
            f"the image is only {shorter_side} pixels high or wide, smaller than the kernels of "
            f"{wanted}×{wanted}; choose a smaller kernel_size"
        )
    return wanted


def _middle(image: Tensor, pixels: int) -> Tensor:
    """The middle of an image, of at most about so many pixels and similar proportions."""
    share = min(1.0, math.sqrt(pixels / image.numel()))
    # Narrow images keep their whole width.
    height, width = (min(n, max(round(n * share), _NARROW)) for n in image.shape)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _agreement(kernels: Tensor, weights: Tensor) -> Tensor:
    """How alike the kernels that make up each window's mixture are to it, (N,)."""
    taps = kernels.flatten(1)
    mixtures = weights @ taps
    cosines = functional.normalize(mixtures, dim=1) @ functional.normalize(taps, dim=1).T
    agreement: Tensor = (weights * cosines).sum(1)
    return agreement
