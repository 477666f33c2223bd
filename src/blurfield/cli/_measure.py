"""``blurfield measure``: a table of how blurred images are, frame by frame and region by region."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blurfield.quantities import QUANTITIES

from ._commands import FIELD, estimate_field
from ._outputs import check_output
from ._values import fraction, positive_number

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from blurfield.field import KernelField

    from ._console import Console


def add_parser(
    commands: argparse._SubParsersAction[Any], parents: list[argparse.ArgumentParser]
) -> None:
    """Add the command."""
    command = commands.add_parser(
        "measure", parents=parents, help="images, stacks or fields -> table of their blur"
    )
    command.add_argument(
        "sources",
        nargs="+",
        metavar="IMAGE|STACK|FIELD.blurfield",
        help="each frame of a stack is measured by itself",
    )
    command.add_argument("-o", "--output", metavar="TABLE.csv", required=True)
    command.add_argument(
        "--labels",
        metavar="LABELS",
        help="image of whole numbers: a row for each region above 0, instead of one for the "
        "whole frame; one for all frames, or a stack with one for each",
    )
    command.add_argument(
        "--axes", metavar="AXES", help="what the axes of stacks are, such as TYX, if files err"
    )
    command.add_argument(
        "--pixel-size",
        type=positive_number,
        default=1.0,
        metavar="S",
        help="side of a pixel, in the unit that extents shall have (default: pixels)",
    )
    command.add_argument(
        "--limit",
        type=positive_number,
        metavar="EXTENT",
        help="flag frames, or regions, with a median extent above this",
    )
    command.add_argument(
        "--flag-by",
        choices=[name for name, quantity in QUANTITIES.items() if quantity.worse],
        default="extent_median",
        help="what --limit is about (default: %(default)s); the confidence is flagged below it",
    )
    blurred = command.add_mutually_exclusive_group()
    blurred.add_argument(
        "--threshold",
        type=fraction,
        default=0.25,
        help="what counts as blurred, as for mask (default 0.25)",
    )
    blurred.add_argument(
        "--min-extent",
        type=positive_number,
        metavar="EXTENT",
        help="what counts as blurred: at least this extent, in the unit of --pixel-size",
    )
    command.set_defaults(run=measure)


def measure(options: argparse.Namespace, console: Console) -> None:
    """Measure all frames of all sources, and write the table of those that are done."""
    from blurfield.files import require_file

    output = check_output(options.output, {".csv"}, [*options.sources, options.labels])
    for source in filter(None, [*options.sources, options.labels]):
        require_file(source)

    from blurfield.measurement import write_table
    from blurfield.quantities import flag_rows

    rows: list[dict[str, Any]] = []
    bad: list[str] = []
    try:
        for source in options.sources:
            for found in _measured(source, options, console, bad):
                judged = flag_rows(found, options.limit, options.flag_by)
                rows += [{"source": source, **row} for row in judged]
    finally:
        if rows:  # those of the frames that are done are kept, whatever happened then
            write_table(output, rows)
    if bad and not rows:
        raise ValueError(f"no frame could be measured: {bad[0]}")
    flagged = sum(row.get("flagged", 0) for row in rows)
    figures: dict[str, Any] = {"output": output, "rows": rows, "left_out": bad}
    if options.limit is not None:
        figures["flagged"] = flagged
    text = f"{output}: {len(rows)} rows" + (f", {flagged} flagged" if options.limit else "")
    console.result(text, figures)


def _measured(
    source: str, options: argparse.Namespace, console: Console, bad: list[str]
) -> Iterator[list[dict[str, Any]]]:
    """Rows of each frame of a source; frames that cannot be measured are added to `bad`."""
    import numpy as np

    from blurfield.frames import frames_of, open_frames
    from blurfield.measurement import label_frames, measure_frames

    def leave_out(number: int, reason: ValueError) -> None:
        bad.append(f"{source}: frame {number}: {reason}")
        console.note(f"left out: {bad[-1]}")

    settings: dict[str, Any] = {
        "threshold": options.threshold,
        "min_extent": options.min_extent,
        "pixel_size": options.pixel_size,
        "on_bad": leave_out,
    }
    with contextlib.ExitStack() as stack:
        if Path(source).suffix.lower() == FIELD:
            from blurfield.storage import load_field

            field = load_field(source)
            frames = frames_of(np.broadcast_to(np.uint8(0), field.shape), "YX")

            def field_of(number: int) -> KernelField:
                del number  # there is one only
                return field
        else:
            frames = stack.enter_context(open_frames(source, options.axes))

            def field_of(number: int) -> KernelField:
                return estimate_field(frames[number], options, console, frames.channel_axis)[0]

        if options.labels is not None:
            regions = stack.enter_context(open_frames(options.labels))
            settings["labels"] = label_frames(regions, frames)
        yield from measure_frames(frames, field_of, **settings)
