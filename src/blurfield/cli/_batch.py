"""``blurfield batch``: estimate and deblur many images and stacks."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._commands import deblurring_settings, estimation_settings
from ._outputs import require_folder
from ._values import frame_ranges, positive_int

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from blurfield.series.processing import Job

    from ._console import Console

    Row = dict[str, Any]

#: Exit status of a run that came to its end, but had to leave out frames or files.
INCOMPLETE = 3

#: The table with a row for each frame.
SUMMARY = "summary.csv"


def add_parser(
    commands: argparse._SubParsersAction[Any], parents: list[argparse.ArgumentParser]
) -> None:
    """Add the command."""
    command = commands.add_parser(
        "batch", parents=parents, help="folders, images and stacks -> fields and sharp images"
    )
    command.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="images, stacks, and folders of them"
    )
    command.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="folder for the results; a run that was stopped is continued there",
    )
    command.add_argument(
        "--estimate-only", action="store_true", help="estimate the fields and deblur nothing"
    )
    command.add_argument(
        "--shared-field",
        action="store_true",
        help="deblur all frames of a stack with the median of their fields",
    )
    command.add_argument(
        "--join",
        action="store_true",
        help="take all inputs, images of equal size, as the frames of one time-lapse",
    )
    command.add_argument(
        "--frames",
        type=frame_ranges,
        metavar="RANGE",
        help="which frames of stacks, from 0: such as 0-9,15,20- or 0-99:10 (default: all)",
    )
    command.add_argument(
        "--axes", metavar="AXES", help="what the axes of stacks are, such as TYX, if files err"
    )
    command.add_argument(
        "--workers",
        type=positive_int,
        metavar="N",
        help="frames to work on at a time (default: as many as processors and memory allow)",
    )
    command.add_argument(
        "--threads",
        type=positive_int,
        default=1,
        metavar="N",
        help="threads for each frame (default 1); the last bits of results depend on it",
    )
    command.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="work on the Dask cluster there, such as tcp://HOST:8786, which shares all folders",
    )
    command.set_defaults(run=batch)


def batch(options: argparse.Namespace, console: Console) -> int:
    """Make what is missing of all frames, and write what has become of each."""
    from blurfield.series.sources import image_files

    if options.scheduler is not None and options.workers is not None:
        raise ValueError("--workers is for this computer; with --scheduler the cluster has its own")
    files = image_files(options.inputs)
    out = _output_folder(options.out, files)

    from blurfield.measurement import write_table
    from blurfield.series.processing import automatic_workers, hire, process_jobs

    settings = _settings(options)
    sources = _sources(files, join=options.join)
    workers = options.workers or automatic_workers(options.device, options.threads)
    ended = False
    try:
        with console.progress(foretell=True) as progress, hire(workers, options.scheduler) as crew:
            jobs = _jobs(sources, out, settings, options)
            process_jobs(jobs, crew, len(sources), progress=progress)
        ended = True
    except ImportError as error:  # of what a cluster needs
        raise ValueError(str(error)) from error
    finally:
        rows = [row for source in sources for row in source.rows(out)]
        # Those of frames that are done are kept, whatever happened then.
        if ended or any(row["status"] != "failed" for row in rows):
            write_table(out / SUMMARY, rows)
    failed = [row for row in rows if row["status"] == "failed"]
    figures = {"output": out, "summary": out / SUMMARY, "failed": len(failed), "frames": rows}
    console.result(_sentence(rows, failed, out), figures)
    return INCOMPLETE if failed else 0


@dataclass
class _Source:
    """A file, or several that are frames of one time-lapse.

    Attributes
    ----------
    files : sequence of Path
        The files.
    name : str
        Name of its results.
    job : Job or None
        What there is to do, once it has been opened.
    reason : str
        Why it could not be opened.
    """

    files: Sequence[Path]
    name: str
    job: Job | None = None
    reason: str = ""

    def rows(self, out: Path) -> list[Row]:
        """Rows of the table, for the frames that are finished or have failed."""
        title = str(self.files[0] if len(self.files) == 1 else self.files[0].parent)
        if self.job is None:
            row = {"source": title, "frame": None, "status": "failed", "reason": self.reason}
            return [row] if self.reason else []
        series = self.job.series
        return [
            {
                "source": title,
                "frame": number,
                **dict(zip(series.axes, series.position(number), strict=True)),
                "status": report.status,
                "reason": report.reason,
                "seconds": report.seconds,
                "extent": report.extent,
                "field": _relative(series.field_path(number), out),
                "image": _relative(series.image_path(number), out) if series.deblurs else None,
            }
            for number, report in sorted(self.job.reports.items())
            if not report.ok or series.is_finished(number)
        ]


def _output_folder(name: str, files: Sequence[Path]) -> Path:
    """Make the folder for the results, unless an input could be replaced there."""
    out = Path(name)
    if any(file.resolve().parent == out.resolve() for file in files):
        raise ValueError(f"cannot write to {name}: inputs lie there; choose another folder")
    if not out.exists():
        require_folder(out.resolve().parent, name)
        out.mkdir()
    require_folder(out, "results")
    return out


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `Series.create` that are the same for all of them, after a look at them."""
    from blurfield.series.settings import check_settings

    if options.weights is not None and Path(options.weights).exists():
        options.weights = str(Path(options.weights).resolve())  # workers may be elsewhere
    deblur = None if options.estimate_only else deblurring_settings(options)
    estimate = estimation_settings(options)
    check_settings(estimate, deblur)
    return {
        "estimate": estimate,
        "deblur": deblur,
        "shared": options.shared_field,
        "threads": options.threads,
    }


def _sources(files: Sequence[Path], *, join: bool) -> list[_Source]:
    from blurfield.series.sources import distinct_names

    if join:
        return [_Source(files, files[0].resolve().parent.name or "frames")]
    return [_Source([f], name) for f, name in zip(files, distinct_names(files), strict=True)]


def _jobs(
    sources: Sequence[_Source], out: Path, settings: dict[str, Any], options: argparse.Namespace
) -> Iterator[Job]:
    """What there is to do, each source opened when it is its turn."""
    from blurfield.frames import frames_of_files, open_frames
    from blurfield.series import Series
    from blurfield.series.processing import Job
    from blurfield.series.record import OtherSettingsError

    for source in sources:
        try:
            with (
                nullcontext(frames_of_files(source.files))
                if options.join
                else open_frames(source.files[0], options.axes)
            ) as frames:
                single = not frames.sizes
                series = Series.create(
                    out if single else out / source.name,
                    frames,
                    numbers=_numbers(options.frames, len(frames)),
                    metadata={"name": source.name, "files": [str(f) for f in source.files]},
                    name=source.name if single else None,
                    **settings,
                )
                source.job = Job(series, frames.file or frames.__getitem__, source.name)
        except OtherSettingsError:  # which is so for all of them
            raise
        except (ValueError, FileNotFoundError, IsADirectoryError) as error:
            source.reason = " ".join(str(error).split())
            continue
        yield source.job


def _numbers(ranges: Sequence[range] | None, count: int) -> list[int] | None:
    if ranges is None:
        return None
    return sorted({number for part in ranges for number in part[: max(0, count)] if number < count})


def _relative(path: Path, out: Path) -> str | None:
    """Where a result is within the folder of results, if it is there."""
    return str(path.relative_to(out.resolve())) if path.exists() else None


def _sentence(rows: Sequence[Row], failed: Sequence[Row], out: Path) -> str:
    """Say what has become of all frames, for people."""
    again = sum(row["status"] == "done" and bool(row["reason"]) for row in rows)
    note = f" ({again} again, since the images have changed)" if again else ""
    text = f"{out}: {len(rows) - len(failed)} frames done{note}"
    if not failed:
        return text
    first = failed[0]
    where = first["source"] + ("" if first["frame"] is None else f", frame {first['frame']}")
    return f"{text}, {len(failed)} failed (see {SUMMARY}), first {where}: {first['reason']}"
