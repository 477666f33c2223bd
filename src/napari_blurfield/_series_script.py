"""Scripts that make the results of a stack again, outside napari."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._axes import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._field_stack import FieldStack

#: Letters for axes of frames, which those of images are not among.
_LETTERS = "TZPQRUVW"


def series_script(fields: FieldStack, title: str, reader: tuple[str, str], source: str) -> str:
    """Return a script that makes a series again.

    Parameters
    ----------
    fields : FieldStack
        The series, and the stack that it is of.
    title : str
        Name of the layer, as a literal.
    reader : (str, str)
        What to import, and what to call, to read the image.
    source : str
        The argument of that call.
    """
    series, stack = fields.series, fields.stack
    record, first = series.record, stack.first
    module, call = reader
    ours = [
        "from blurfield.frames import frames_of",
        "from blurfield.series import Series, process",
    ]
    lines = [f"data = {call}({source})"]
    if first.path is None:
        lines.insert(0, "# >>> Load the stack here: the layer was not opened from a file.")
    whole = "data"
    if first.region is not None:
        rows, cols = first.region.rows, first.region.cols
        colours = ", :" if first.rgb else ""
        whole = f"data[..., {rows.start}:{rows.stop}, {cols.start}:{cols.stop}{colours}]"
    axes = _letters(first.axes.leading, first.rgb)
    arguments = [
        *(f"{name}={getattr(record, name)!r}" for name in ("estimate", "deblur", "shared")),
        f"numbers={record.numbers!r}",
        f"threads={record.threads}",
    ]
    lines += [
        f"frames = frames_of({whole}, {axes!r})",
        "series = Series.create(",
        '    "RESULTS",',
        "    frames,",
        *(f"    {argument}," for argument in arguments),
        ")",
        *_given(fields, ours),
        "process(series, frames)",
        "",
        *_results(fields, axes, ours),
    ]
    about = [
        f'"""Makes {title} again, as Blurfield made it in napari.',
        "",
        f"Made with blurfield {record.version}. The results are in the folder RESULTS.",
        '"""',
    ]
    parts = [about, [module], sorted(ours, key=lambda line: (line.startswith("from"), line)), lines]
    return "\n\n".join("\n".join(part).strip() for part in parts) + "\n"


def _letters(leading: Sequence[str], rgb: bool) -> str:
    """Return a letter for each axis, as `blurfield.frames` takes them."""
    left = iter(_LETTERS)
    return "".join("C" if role == CHANNELS else next(left) for role in leading) + (
        "YXS" if rgb else "YX"
    )


def _given(fields: FieldStack, ours: list[str]) -> list[str]:
    """Return the lines that provide fields that were not estimated here."""
    given = fields.series.metadata.get("fields")
    if given is None:
        return []
    save = "    series.give_field(number, field)"
    corner = ""
    if (region := fields.stack.first.region) is not None:
        corner = f".crop({(region.rows.start, region.cols.start)}, {region.shape})"
    if Path(given).is_absolute():
        return [
            f"known = Series.open({str(given)!r})",
            "for number in series.numbers:",
            f"    field = known.field(number){corner}",
            save,
        ]
    ours.append("import blurfield as bf")
    return [
        "# >>> Put the file of the blur field here.",
        f'field = bf.KernelField.load("FIELD.blurfield"){corner}',
        "for number in series.numbers:",
        save,
    ]


def _results(fields: FieldStack, axes: str, ours: list[str]) -> list[str]:
    """Return the lines that show where results are, or put them together."""
    series, region = fields.series, fields.stack.first.region
    if not series.deblurs:
        return ["for number in series.finished:", "    print(number, series.field(number))"]
    if region is None:
        return ["stack = series.stack()  # a Dask array of the deblurred frames"]
    ours.append("from blurfield.regional import blend_part")
    channel: Any = 0 if CHANNELS in fields.stack.first.axes.leading else None
    lines = [
        f"whole = frames_of(data, {axes!r})",
        "for number in series.finished:",
        "    frame = blend_part(",
        "        whole[number],",
        "        series.image(number),",
        f"        {(region.rows.start, region.cols.start)},",
        "        border=series.field(number).kernel_size // 2,",
        f"        channel_axis={channel},",
        "    )",
        "    print(number, frame.mean())",
    ]
    if region.mask is not None:
        lines.insert(0, "# The region was no rectangle: give its mask to blend_part as mask=.")
    return lines
