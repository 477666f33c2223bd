"""The words of the command line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from blurfield import __version__
from blurfield.restoration.methods import METHODS

from . import _batch, _commands, _evaluate, _measure, _train, _weights
from ._values import (
    dial,
    fraction,
    gamma,
    noise,
    not_negative,
    not_negative_int,
    odd,
    positive_int,
    positive_number,
    seed,
)

_FIELD_HELP = "a .blurfield file, or one kernel for the whole image (.mat, .npy, .npz or an image)"


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are exceptions with one line of text."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see: {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the `blurfield` command; ``run`` holds the function to call."""
    parser = _Parser(
        prog="blurfield",
        description="See, measure and undo motion blur that changes across an image.",
        epilog="Images: what imageio and tifffile read and write, and .npy arrays.",
    )
    parser.add_argument("--version", action="version", version=f"blurfield {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    spoken = _Parser(add_help=False)
    spoken.add_argument("-q", "--quiet", action="store_true", help="no progress bar, no text")
    spoken.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    light = _Parser(add_help=False)
    light.add_argument(
        "--gamma",
        type=gamma,
        default="auto",
        help="exponent that turns values into linear light; auto (default): 2.2 for 8-bit images, "
        "1 for others",
    )
    device = _Parser(add_help=False)
    device.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    model = _Parser(add_help=False)
    model.add_argument("--model", default="auto", help="how to estimate; auto is the default")
    model.add_argument(
        "--kernel-size", type=odd, metavar="K", help="side of the estimated kernels in pixels, odd"
    )
    model.add_argument(
        "--refine",
        type=not_negative_int,
        default=0,
        metavar="ROUNDS",
        help="refine the estimated field by the image itself, in at most so many rounds",
    )
    model.add_argument(
        "--weights",
        metavar="NAME",
        help="weights of the network that estimates: the name of installed ones, or a file",
    )
    restoring = _Parser(add_help=False)
    restoring.add_argument(
        "--method", default="auto", help=f"how to deblur: auto (default), {', '.join(METHODS)}"
    )
    restoring.add_argument(
        "--variant", metavar="V", help="which variant of the method (see docs/command-line.md)"
    )
    restoring.add_argument(
        "--strength",
        type=dial,
        metavar="S",
        help="from 0, faithful and calm, to 1, crisp (default: 0.5)",
    )
    restoring.add_argument(
        "--noise",
        type=noise,
        metavar="NOISE",
        help="auto (default), per-channel, or GAIN,READ as known of the camera, white = 1: "
        "variance per unit of light, and standard deviation in the dark",
    )
    restoring.add_argument("--iterations", type=positive_int, metavar="N", help="at most so many")
    restoring.add_argument(
        "--memory",
        type=positive_number,
        metavar="GB",
        help="memory to use; larger images are deblurred in parts (default: most of what is free)",
    )

    command = commands.add_parser(
        "estimate", parents=[model, light, device, spoken], help="blurry image -> kernel field"
    )
    command.add_argument("image", metavar="IMAGE")
    command.add_argument("-o", "--output", metavar="OUT.blurfield", required=True)
    command.set_defaults(run=_commands.estimate)

    command = commands.add_parser(
        "deblur",
        parents=[model, restoring, light, device, spoken],
        help="blurry image -> sharp image",
    )
    command.add_argument("image", metavar="IMAGE")
    command.add_argument(
        "--field", metavar="FIELD", help=_FIELD_HELP + "; estimated from the image if not given"
    )
    command.add_argument("-o", "--output", metavar="OUT", required=True)
    command.set_defaults(run=_commands.deblur)

    command = commands.add_parser(
        "mask", parents=[model, light, device, spoken], help="image or field -> where it is blurred"
    )
    command.add_argument("source", metavar="IMAGE|FIELD.blurfield")
    command.add_argument("-o", "--output", metavar="OUT", required=True)
    command.add_argument(
        "--threshold",
        type=fraction,
        default=0.25,
        help="a kernel whose L2 norm is at most this is blur; that of a line of L pixels is 1/√L "
        "(default 0.25)",
    )
    command.add_argument(
        "--min-extent",
        type=positive_number,
        metavar="E",
        help="what is blurred by so many pixels and more is marked, in place of --threshold",
    )
    command.add_argument(
        "--min-area",
        type=not_negative_int,
        default=0,
        metavar="N",
        help="leave out blurred regions, and gaps in them, of fewer pixels",
    )
    instead = command.add_mutually_exclusive_group()
    instead.add_argument(
        "--map", action="store_true", help="write the blur map in [0, 1] as .npy or .tif instead"
    )
    instead.add_argument(
        "--regions",
        action="store_true",
        help="write a label image instead: 1, 2, … for regions of similar motion",
    )
    command.set_defaults(run=_commands.mask)

    command = commands.add_parser(
        "reblur", parents=[light, device, spoken], help="sharp image and field -> blurry image"
    )
    command.add_argument("image", metavar="IMAGE")
    command.add_argument("--field", metavar="FIELD", required=True, help=_FIELD_HELP)
    command.add_argument("-o", "--output", metavar="OUT", required=True)
    command.set_defaults(run=_commands.reblur)

    command = commands.add_parser(
        "simulate", parents=[light, device, spoken], help="sharp image -> blurry image, true field"
    )
    command.add_argument("image", metavar="IMAGE")
    command.add_argument("-o", "--output", metavar="OUT", required=True)
    command.add_argument("--truth", metavar="F.blurfield", help="where to write the true field")
    command.add_argument("--kind", default="segments", help="kind of blur (default segments)")
    command.add_argument("--seed", type=seed, default=0, help="start of the random numbers")
    command.add_argument(
        "--noise",
        type=not_negative,
        default=0.01,
        help="standard deviation of the noise, white = 1 (default 0.01)",
    )
    command.add_argument(
        "--max-extent",
        type=positive_int,
        default=33,
        metavar="PX",
        help="longest motion in pixels (default 33)",
    )
    command.set_defaults(run=_commands.simulate)

    command = commands.add_parser(
        "show", parents=[spoken], help="field -> picture of its kernels on a grid"
    )
    command.add_argument("field", metavar="FIELD.blurfield")
    command.add_argument("--image", metavar="IMAGE", help="draw the kernels over this image")
    command.add_argument("-o", "--output", metavar="OUT", required=True)
    command.add_argument(
        "--spacing", type=positive_int, metavar="PX", help="distance between two kernels"
    )
    command.set_defaults(run=_commands.show)

    command = commands.add_parser(
        "demo", parents=[device, spoken], help="blur, estimate, mask and deblur a photograph"
    )
    command.add_argument(
        "--out", default="blurfield-demo", metavar="DIR", help="folder to write (blurfield-demo)"
    )
    command.add_argument("--seed", type=seed, default=0, help="start of the random numbers")
    command.add_argument(
        "--size", type=positive_int, default=512, metavar="PX", help="side of the photograph"
    )
    command.add_argument("--view", action="store_true", help="open the results in napari")
    command.set_defaults(run=_commands.demo)

    _batch.add_parser(commands, parents=[model, restoring, light, device, spoken])
    _measure.add_parser(commands, parents=[model, light, device, spoken])
    _evaluate.add_parser(commands, light=light, device=device, spoken=spoken)
    _weights.add_parser(commands, spoken=spoken)
    _train.add_parser(commands, device=device, spoken=spoken)
    return parser
