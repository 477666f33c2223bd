"""The loop that all trainings share."""

from __future__ import annotations

import math
import signal
import time
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from blurfield.checkpoints import resolve
from blurfield.precision import memory_format, network_dtype

from .ahead import Ahead
from .curves import Curves
from .processes import Processes
from .record import Record, usage
from .state import load_state, require_run, save_state

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from .settings import RunSettings
    from .task import Task

#: Steps that may give a gradient that is not finite within one report.
_MOST_BAD_STEPS = 20
#: Gradients longer than the usual one by this factor are shortened to that. What is usual follows
#: the last steps with this decay; the first ones say what it is.
_SPIKE, _MEMORY, _FIRST_STEPS = 20.0, 0.99, 100
#: The learning rate follows time rather than steps when a call is limited by minutes.
_SEED_STRIDE = 1_000_003


class Trainer:
    """Trains a network, in as many calls as it takes.

    Every random number of a step follows from the seed, the number of the step and that of the
    process, so that a run which was stopped continues as if it had not been.

    Parameters
    ----------
    task : Task
        What to train.
    settings : RunSettings
        How.
    folder : path-like
        Where the state, the curves and the exported weights go; made if it does not exist.
    device : torch.device
        Where to compute; that of the task.
    resume : bool
        Continue what is in the folder.
    start : str or path-like, optional
        Weights to begin with: the name of installed ones, or a file. Random ones by default.
    say : callable
        Called with lines of text for people.

    Raises
    ------
    ValueError
        If there is nothing to resume, something would be overwritten, or the network in the folder
        is another one.
    """

    def __init__(
        self,
        task: Task,
        settings: RunSettings,
        folder: str | os.PathLike[str],
        *,
        device: torch.device,
        resume: bool = False,
        start: str | os.PathLike[str] | None = None,
        processes: Processes | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self._task, self._settings, self._device = task, settings, device
        self._folder = Path(folder)
        self._say = say
        self._processes = processes or Processes(device)
        self._folder.mkdir(parents=True, exist_ok=True)
        require_run(self._folder, resume)
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # shapes never change
        torch.manual_seed(settings.seed)
        network = task.network()
        if start is not None:
            network.load_state_dict(resolve(start, task.architecture).load())
        self.network = network.to(device)
        self.network.to(memory_format=memory_format(device))  # type: ignore[call-overload]
        self.average = {
            name: value.detach().float().clone()
            for name, value in self.network.state_dict().items()
        }
        schedule = settings.schedule
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=schedule.rate,
            betas=schedule.betas,
            weight_decay=schedule.decay,
            # One pass over the weights, several times faster than one for each operation.
            fused=device.type in {"cpu", "cuda"},
        )
        self.step, self.samples, self.seconds = 0, 0, 0.0
        self._usual_norm = torch.zeros((), device=device)
        if resume:
            self._restore(load_state(self._folder, device))
        self._curves = Curves(self._folder, self.step if resume else 0)
        self._precision = _precision(settings.precision, device)
        self._wrapped = self._processes.wrap(self._compiled())
        self._stop = ""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes the files."""
        return self._processes.first

    # ------------------------------------------------------------------ state

    def _restore(self, state: dict[str, Any]) -> None:
        if state["architecture"] != self._task.architecture or state["config"] != self._task.config:
            raise ValueError(
                f"{self._folder} holds a {state['architecture']} network {state['config']}, not a "
                f"{self._task.architecture} network {self._task.config}"
            )
        self.network.load_state_dict(state["network"])
        self.average = {name: value.float() for name, value in state["average"].items()}
        rate = self._optimizer.param_groups[0]["lr"]
        self._optimizer.load_state_dict(state["optimizer"])
        self._optimizer.param_groups[0]["lr"] = rate
        self.step, self.samples = int(state["step"]), int(state["samples"])
        self.seconds = float(state["seconds"])
        self._usual_norm.copy_(torch.as_tensor(state.get("gradient", 0.0)))

    def save(self) -> None:
        """Write the state of the run and the averaged weights, unless another process does."""
        if not self._processes.first:
            return
        save_state(
            self._folder,
            {
                "architecture": self._task.architecture,
                "config": self._task.config,
                "network": self.network.state_dict(),
                "average": self.average,
                "optimizer": self._optimizer.state_dict(),
                "step": self.step,
                "samples": self.samples,
                "seconds": self.seconds,
                "gradient": self._usual_norm,
                "settings": self._settings.plain(),
            },
        )
        self.export()

    def export(self) -> Path:
        """Write the averaged weights as half-precision safetensors and return where."""
        from blurfield.checkpoints import write_checkpoint

        path = self._folder / f"{self._task.architecture}.safetensors"
        current = self.network.state_dict()
        write_checkpoint(
            path,
            {
                # Counters are no averages.
                name: (
                    value.half() if current[name].is_floating_point() else current[name]
                ).contiguous()
                for name, value in self.average.items()
            },
            architecture=self._task.architecture,
            config=self._task.config,
            gamma=self._task.gamma,
            origin="blurfield train",
            samples=self.samples,
            steps=self.step,
            minutes=round(self.seconds / 60, 1),
        )
        return path

    # ------------------------------------------------------------------- loop

    def run(self) -> dict[str, Any]:
        """Train until the steps or minutes are over, or a signal comes.

        Returns
        -------
        dict
            ``step``, ``samples``, ``seconds`` (of all calls), ``stopped`` (why), ``export`` (the
            file) and the figures of the last validation.
        """
        settings = self._settings
        begun = time.monotonic()
        before = self.seconds
        self._next = {
            "report": begun + settings.report_seconds,
            "checkpoint": begun + 60 * settings.checkpoint_minutes,
            "validation": begun + 60 * settings.validation_minutes,
        }
        record = Record()
        figures: dict[str, float] = {}
        cooling = False
        first = self.step
        with self._signals(), closing(self._processes), closing(self._curves):
            batches = Ahead(self._make, self._device, self.step)
            while not self._finished(begun, first):
                progress = self._progress(begun, first)
                if not cooling and 1 - progress < settings.schedule.cooldown:
                    cooling = True
                    self.save()
                self._set_rate(progress)
                seen = self.samples
                terms = self._step(batches.next())
                record.add(terms, self.samples - seen)
                self.seconds = before + time.monotonic() - begun
                now = time.monotonic()
                if self._due("report", now, settings.report_seconds):
                    self._report(record)
                    record = Record()
                if self._due("validation", now, 60 * settings.validation_minutes):
                    figures = self._validate()
                if not cooling and self._due("checkpoint", now, 60 * settings.checkpoint_minutes):
                    self.save()
            if record.steps:
                self._report(record)
            if self.step > first:
                figures = self._validate()
            if not cooling:
                self.save()
            elif self._processes.first:
                self.export()
        return {
            "step": self.step,
            "samples": self.samples,
            "seconds": self.seconds,
            "stopped": self._stop or "done",
            "export": str(self._folder / f"{self._task.architecture}.safetensors"),
            **figures,
        }

    def _make(self, step: int) -> tuple[Any, torch.Generator]:
        number = self._settings.seed * _SEED_STRIDE + step
        generator = torch.Generator(self._device)
        generator.manual_seed(number * self._processes.count + self._processes.rank)
        return self._task.make(generator, step), generator

    def _step(self, made: tuple[Any, torch.Generator]) -> dict[str, Tensor]:
        batch, generator = made
        with self._autocast():
            terms = self._task.losses(self._wrapped, batch, generator)
        terms["loss"].backward()
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        most, good = self._longest(norm)
        # On the device, without waiting for it: a step without finite gradients changes nothing.
        scale = torch.where(norm.isfinite(), (most / (norm + 1e-6)).clamp(max=1), 0.0)
        for gradient in gradients:
            gradient.mul_(scale).nan_to_num_(0.0, 0.0, 0.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        self.samples += len(batch) * self._processes.count
        self._update_average()
        return {
            **{name: value.detach() for name, value in terms.items()},
            "gradient": norm.detach(),
            "bad": (~good).float(),
        }

    def _longest(self, norm: Tensor) -> tuple[Tensor, Tensor]:
        """How long a gradient of this norm may stay, and whether it is no longer than that.

        What is usual is learned from it: where gradients have become longer for good, as after a
        step that went too far, the way back has to be open.
        """
        usual, clip = self._usual_norm, torch.full_like(norm, self._settings.schedule.clip)
        limited = (usual > 0) & (self.step >= _FIRST_STEPS)
        most = torch.where(limited, _SPIKE * usual, torch.inf)
        memory = min(_MEMORY, self.step / (1 + self.step))
        seen = torch.minimum(norm, most)
        usual.copy_(torch.where(norm.isfinite(), torch.lerp(seen, usual, memory), usual))
        return torch.minimum(most, clip), norm.isfinite() & (norm <= most)

    def _update_average(self) -> None:
        decay = min(self._settings.schedule.average, (1 + self.step) / (10 + self.step))
        current = self.network.state_dict()
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.values()),
                [current[name].float() for name in self.average],
                1 - decay,
            )

    def _autocast(self) -> Any:
        if self._precision is None:
            return nullcontext()
        return torch.autocast(self._device.type, self._precision)

    def _compiled(self) -> nn.Module:
        wanted = self._settings.compile
        if wanted == "off" or (wanted == "auto" and self._device.type != "cuda"):
            return self.network
        parts = getattr(self.network, "compilable", None)
        for part in parts() if parts else [self.network]:
            part.compile()
        return self.network

    # --------------------------------------------------------------- schedule

    def _progress(self, begun: float, first: int) -> float:
        """How much of this call is over, in [0, 1]; 0 if it has no end."""
        shares = [0.0]
        if self._settings.minutes is not None:
            elapsed = self._processes.agree(time.monotonic() - begun)
            shares.append(elapsed / max(60 * self._settings.minutes, 1e-9))
        if self._settings.steps is not None:
            shares.append((self.step - first) / max(self._settings.steps - first, 1))
        return min(1.0, max(shares))

    def _finished(self, begun: float, first: int) -> bool:
        over = bool(self._stop) or self._progress(begun, first) >= 1
        return bool(self._processes.agree(float(over)))

    def _set_rate(self, progress: float) -> None:
        schedule = self._settings.schedule
        rate = schedule.rate * min(1.0, (self.step + 1) / max(schedule.warmup, 1))
        if schedule.cooldown > 0:
            rate *= min(1.0, (1 - progress) / schedule.cooldown)
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def _due(self, what: str, now: float, every: float) -> bool:
        due = bool(self._processes.agree(float(now >= self._next[what])))
        if due:
            self._next[what] = now + every
        return due

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Stop after the step when the process is asked to; a second request stops it at once."""

        def stop(number: int, frame: Any) -> None:
            if self._stop:
                raise KeyboardInterrupt
            self._stop = signal.Signals(number).name

        old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    # ---------------------------------------------------------------- reports

    def _report(self, record: Record) -> None:
        figures = record.means()
        bad = round(figures.pop("bad") * record.steps)
        if bad > min(_MOST_BAD_STEPS, record.steps - 1) or not math.isfinite(figures["loss"]):
            raise FloatingPointError(
                f"{bad} of the last {record.steps} steps had gradients that are not finite, or far "
                "longer than usual; resume with a lower learning rate"
            )
        if not self._processes.first:
            return
        figures["rate"] = self._optimizer.param_groups[0]["lr"]
        figures["samples_per_second"] = record.samples / record.seconds()
        self._curves.add("train", self.step, self.samples, self.seconds, figures)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self._say(f"{self.step:8d}  {self.samples:10,d}  {shown}  {usage(self._device, record)}")

    def _validate(self) -> dict[str, float]:
        current = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        self.network.eval()
        try:
            with self._autocast():
                figures = self._task.validate(self.network)
        finally:
            self.network.load_state_dict(current)
            self.network.train()
        if self._processes.first:
            self._curves.add("validation", self.step, self.samples, self.seconds, figures)
            shown = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
            self._say(f"{self.step:8d}  {self.samples:10,d}  validation  {shown}")
        return figures


def _precision(wanted: str, device: torch.device) -> torch.dtype | None:
    """Type for autocast; None for plain float32."""
    if wanted not in ("auto", "bf16", "fp32"):
        raise ValueError(f"precision must be auto, bf16 or fp32, not {wanted!r}")
    if wanted == "bf16" or (wanted == "auto" and network_dtype(device) == torch.bfloat16):
        return torch.bfloat16
    return None
