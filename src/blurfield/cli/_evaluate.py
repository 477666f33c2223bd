"""``blurfield evaluate``: how good estimates and restored images are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._values import fraction, not_negative, odd, positive_int, seed

if TYPE_CHECKING:
    import argparse

    from ._console import Console


def add_parser(
    commands: argparse._SubParsersAction[Any],
    *,
    light: argparse.ArgumentParser,
    device: argparse.ArgumentParser,
    spoken: argparse.ArgumentParser,
) -> None:
    """Add the command to those of the parser; the others are parents with shared options."""
    evaluate = commands.add_parser("evaluate", help="measure estimators and restored images")
    subjects = evaluate.add_subparsers(title="what to evaluate", metavar="SUBJECT", required=True)

    subject = subjects.add_parser(
        "synthetic", parents=[device, spoken], help="estimators, on photographs with known blur"
    )
    subject.add_argument(
        "--images",
        metavar="DIR",
        required=True,
        help="sharp photographs: those for validation in manifest.csv, or all of the folder",
    )
    subject.add_argument(
        "--count", type=positive_int, default=10, help="photographs of each kind (default 10)"
    )
    subject.add_argument("--seed", type=seed, default=0, help="start of the random numbers")
    subject.add_argument("--kinds", nargs="+", metavar="KIND", help="kinds of scenes (default all)")
    subject.add_argument(
        "--models", nargs="*", metavar="MODEL", help="installed models (default all)"
    )
    subject.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="FILE",
        help="measure the weights of this file, too; can be given several times",
    )
    subject.add_argument(
        "--no-deblur", action="store_true", help="leave out the deblurring, which is slow"
    )
    subject.set_defaults(run=synthetic)

    _add_restoration(subjects, [device, spoken])

    subject = subjects.add_parser(
        "masks", parents=[light, device, spoken], help="blur maps, against masks"
    )
    subject.add_argument("--images", metavar="DIR", required=True, help="blurry images")
    subject.add_argument(
        "--masks", metavar="DIR", required=True, help="masks: NAME or NAME_mask, blurred is white"
    )
    subject.add_argument("--model", default="auto", help="how to estimate; auto is the default")
    subject.add_argument(
        "--threshold",
        type=fraction,
        default=0.25,
        help="a kernel whose L2 norm is at most this is blur (default 0.25)",
    )
    subject.set_defaults(run=masks)

    subject = subjects.add_parser(
        "pair", parents=[light, device, spoken], help="an image, against the truth"
    )
    subject.add_argument("--truth", metavar="IMAGE", required=True)
    subject.add_argument("--image", metavar="IMAGE", required=True)
    subject.add_argument(
        "--protocol", default="plain", help="plain (default), ecc (aligned) or ufpnet"
    )
    subject.add_argument(
        "--restore",
        nargs="*",
        metavar="METHOD",
        help="the image is blurry: compare what these methods (default all) make of it",
    )
    subject.add_argument(
        "--models", nargs="+", metavar="MODEL", help="estimators for --restore (default all)"
    )
    subject.set_defaults(run=pair)


def _add_restoration(
    subjects: argparse._SubParsersAction[Any], parents: list[argparse.ArgumentParser]
) -> None:
    subject = subjects.add_parser(
        "restoration", parents=parents, help="ways to deblur, on photographs with known blur"
    )
    subject.add_argument(
        "--images",
        metavar="DIR",
        required=True,
        help="sharp photographs: those for validation in manifest.csv, or all of the folder",
    )
    subject.add_argument(
        "--count", type=positive_int, default=20, help="photographs of each kind (default 20)"
    )
    subject.add_argument("--seed", type=seed, default=0, help="start of the random numbers")
    subject.add_argument(
        "--kinds",
        nargs="+",
        metavar="KIND",
        help="kinds of scenes (default all but those with long, short or no blur)",
    )
    subject.add_argument(
        "--noise",
        nargs="+",
        type=not_negative,
        metavar="SD",
        help="levels of noise, white = 1 (default 0.005 0.01 0.03)",
    )
    subject.add_argument(
        "--methods",
        nargs="+",
        metavar="METHOD",
        help="METHOD, METHOD:VARIANT or the name of a rival (default all)",
    )
    subject.add_argument(
        "--estimated",
        nargs="?",
        const="windowed",
        metavar="MODEL",
        help="deblur with the field that MODEL (default windowed) estimates, not the true one",
    )
    subject.add_argument(
        "--kernel-size", type=odd, metavar="K", help="side of the estimated kernels in pixels, odd"
    )
    subject.add_argument(
        "--crop", type=positive_int, metavar="PX", help="only the middle of each photograph"
    )
    subject.add_argument(
        "--rows",
        metavar="FILE",
        help="append figures to this file as they come; a run that was stopped goes on from there",
    )
    subject.set_defaults(run=restoration)


def synthetic(options: argparse.Namespace, console: Console) -> None:
    """Measure estimators on photographs with known blur."""
    from blurfield.evaluation import evaluate_synthetic
    from blurfield.evaluation.report import synthetic_table

    with console.progress() as progress:
        results = evaluate_synthetic(
            options.images,
            kinds=options.kinds,
            count=options.count,
            seed=options.seed,
            models=options.models,
            checkpoints=options.checkpoint,
            deblurring=not options.no_deblur,
            device=options.device,
            progress=progress,
        )
    console.result(synthetic_table(results), results)


def masks(options: argparse.Namespace, console: Console) -> None:
    """Measure blur maps against masks."""
    from blurfield.evaluation import evaluate_masks
    from blurfield.evaluation.report import mask_table

    with console.progress() as progress:
        results = evaluate_masks(
            options.images,
            options.masks,
            model=options.model,
            threshold=options.threshold,
            gamma=options.gamma,
            device=options.device,
            progress=progress,
        )
    console.result(mask_table(results), results)


def restoration(options: argparse.Namespace, console: Console) -> None:
    """Measure ways to deblur on photographs with known blur."""
    from blurfield.evaluation import evaluate_restoration
    from blurfield.evaluation.report import restoration_table

    chosen = {} if options.noise is None else {"noise": options.noise}
    with console.progress() as progress:
        results = evaluate_restoration(
            options.images,
            kinds=options.kinds,
            count=options.count,
            seed=options.seed,
            methods=options.methods,
            estimator=options.estimated,
            kernel_size=options.kernel_size,
            crop=options.crop,
            rows=options.rows,
            device=options.device,
            progress=progress,
            **chosen,
        )
    console.result(restoration_table(results), results)


def pair(options: argparse.Namespace, console: Console) -> None:
    """Compare an image, or what is made of it, with the truth."""
    from blurfield.evaluation import compare, evaluate_pair
    from blurfield.evaluation.report import pair_table
    from blurfield.files import read_image

    truth, image = read_image(options.truth), read_image(options.image)
    names = {"truth": options.truth, "image": options.image}
    if options.restore is not None:
        with console.progress() as progress:
            results = evaluate_pair(
                truth,
                image,
                models=options.models,
                methods=options.restore or None,
                protocol=options.protocol,
                gamma=options.gamma,
                device=options.device,
                progress=progress,
            )
        console.result(pair_table(results), {**names, **results})
        return
    figures = compare(truth, image, options.protocol)
    found = f"PSNR {figures['psnr']:.2f} dB, SSIM {figures['ssim']:.4f} ({figures['protocol']})"
    if not figures.get("aligned", True):
        console.note("no homography was found; the images were compared in place")
    console.result(found, {**names, **figures})
