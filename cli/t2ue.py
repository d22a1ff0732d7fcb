"""``bitterant t2ue``: protection from text alone, in steps between which only text and noise travel, and its test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import options
from .boundary import guarded, stopping
from .help import Commands
from .output import Output
from .progress import ProgressDisplay
from .protect import tell_problems, tell_summary
from .t2ue_noise import noise
from .t2ue_request import captions
from .t2ue_train import train
from .t2ue_verify import verify

if TYPE_CHECKING:
    from ..protect.zero_contact import ApplyPlan

__all__ = ["app", "apply", "inspect"]

app = Commands(
    no_args_is_help=True,
    help="Noise from captions alone: the pictures never leave their owner.",
    epilog="captions (owner) -> request.jsonl -> noise (server) -> out.noise.safetensors -> apply (owner) -> verify.",
)

BundleArgument = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="NAME.noise.safetensors, or NAME.noise.index.json of several files.")
]


def apply(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="The folder that the request was made for.")],
    bundle: BundleArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="OUT", help="New folder for the protected copies. IMAGES is never changed."
        ),
    ],
    map_file: Annotated[
        Path, typer.Option("--map", metavar="FILE", help="The private map that 't2ue captions' wrote.")
    ] = Path("request.map.json"),
    fit: Annotated[
        Literal["center", "stretch"] | None,
        typer.Option(
            metavar="center|stretch", help="How noise meets a picture.", show_default="what the bundle was made for"
        ),
    ] = None,
    strength: Annotated[float, typer.Option(metavar="SHARE", help="Share of the noise to use, above 0 up to 1.")] = 1.0,
    max_epsilon: Annotated[
        float, typer.Option(metavar="LEVELS", help="Refuse a bundle that changes pixels by more of 255 levels.")
    ] = 16.0,
    file_format: options.FormatOption = "lossless",
    metadata: options.MetadataOption = "private",
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the summary to this JSON file.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Verify, say what would be done, write nothing.")] = False,
    resume: options.ResumeOption = True,
    strict: options.StrictOption = False,
    follow_links: options.FollowLinksOption = False,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    workers: options.WorkersOption = None,
    max_pixels: options.MaxPixelsOption = 200_000_000,
    debug: options.DebugOption = False,
) -> None:
    """Step 3, by the owner: put the noise of BUNDLE on the pictures. Needs no torch.

    The bundle is verified first; a damaged one is refused and nothing is written. Pictures that changed since the
    request was made are reported and not protected.
    """
    output = Output(as_json=as_json, quiet=quiet)
    with guarded(output, debug=debug):
        from ..protect.folder.interrupt import interruptible
        from ..protect.zero_contact import ApplyPlan, apply_bundle, check_private_places, write_summary

        if report is not None:
            check_private_places(images, report)
            check_private_places(out, report)
        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            outcome = apply_bundle(
                images,
                bundle,
                map_file,
                out,
                dry_run=dry_run,
                fit=fit,
                strength=strength,
                max_epsilon=max_epsilon,
                format=file_format,
                metadata=metadata,
                resume=resume,
                strict=strict,
                follow_links=follow_links,
                workers=workers,
                max_pixels=max_pixels,
                progress=progress,
                stop=stop,
            )
        if isinstance(outcome, ApplyPlan):
            _tell_plan(output, outcome)
            raise typer.Exit(outcome.exit_code)
        if report is not None:
            write_summary(report, outcome)
        tell_summary(output, outcome)
        raise typer.Exit(outcome.exit_code)


def _tell_plan(output: Output, plan: ApplyPlan) -> None:
    from ..imaging import FileProblem

    tell_problems(output, [FileProblem(name, reason) for name, reason in plan.failed], listed="--json")
    output.say("The bundle is sound and made for this request. Nothing was written.", style="bold")
    output.facts(
        [
            ("protect", f"{plan.protect} pictures"),
            ("copy", f"{plan.captions} caption files"),
            ("changed or gone", f"{len(plan.failed)} pictures"),
            ("not asked for", f"{len(plan.skipped)} pictures"),
            ("budget", f"{plan.epsilon_levels:g} of 255 levels"),
            ("fit", plan.fit),
        ]
    )
    output.result(plan.to_json())


def inspect(
    bundle: BundleArgument,
    request: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Check that it is for this request.jsonl.")
    ] = None,
    map_file: Annotated[
        Path | None, typer.Option("--map", metavar="FILE", help="Check that it is for the request of this map.")
    ] = None,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Read all of a bundle, check it, and say how it was made."""
    output = Output(as_json=as_json, quiet=quiet)
    with guarded(output, debug=debug):
        from ..protect.zero_contact import NoiseBundle, NoiseRequest, RequestMap

        opened = NoiseBundle.load(bundle)
        with ProgressDisplay(output) as progress:
            opened.verify(None if request is None else NoiseRequest.read(request), progress=progress)
            if map_file is not None:
                opened.verify(RequestMap.read(map_file))
        metadata = opened.info.to_metadata()
        sizes = sorted(set(opened.shapes.values()))
        shown = ", ".join(f"{width} x {height}" for height, width in sizes[:3]) + (", ..." if len(sizes) > 3 else "")
        rows = [*metadata.items(), ("patterns", str(len(opened.shapes))), ("sizes", shown), ("checked", "sound")]
        output.answer(("what", "value"), rows)
        output.result(
            {
                "bundle": str(bundle),
                "files": [str(path) for path in opened.files],
                "metadata": metadata,
                "patterns": len(opened.shapes),
                "sizes": [[width, height] for height, width in sizes],
                "content_sha256": opened.content_sha256,
                "sound": True,
            }
        )


app.command("captions")(captions)
app.command("noise")(noise)
app.command("apply")(apply)
app.command("inspect")(inspect)
app.command("verify")(verify)
app.command("train")(train)
