"""``bitterant t2ue noise``: a bundle of noise for a request, by whoever has the generator."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import options
from .boundary import guarded, stopping
from .environment import prepare_torch
from .output import Output
from .progress import ProgressDisplay
from .t2ue_request import private_paths

if TYPE_CHECKING:
    from ..protect.zero_contact import NoiseBundle, NoiseSource

__all__ = ["noise"]

GeneratorOption = Annotated[
    Path | None,
    typer.Option("--generator", "-g", metavar="DIR", help="Folder of a generator.", show_default="the embedded one"),
]


def noise(
    ctx: typer.Context,
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="The request.jsonl of 't2ue captions'.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The bundle to write: NAME.noise.safetensors.")
    ],
    generator: GeneratorOption = None,
    strength: options.StrengthOption = None,
    epsilon: options.EpsilonOption = None,
    z_mode: Annotated[
        Literal["class", "codebook", "sample"],
        typer.Option(
            metavar="class|codebook|sample",
            help="One seed a class, a few seeds shared by all, or a seed of its own for each picture.",
        ),
    ] = "sample",
    codebook: Annotated[int, typer.Option(min=1, metavar="K", help="Seeds of --z-mode codebook.")] = 32,
    prompt_mode: Annotated[
        Literal["fixed", "cycle"],
        typer.Option(
            metavar="fixed|cycle", help="fixed: the captions as they came. cycle: class names in 18 changing sentences."
        ),
    ] = "fixed",
    fit: Annotated[
        Literal["center", "stretch"],
        typer.Option(
            metavar="center|stretch",
            help="How noise is meant to meet a picture: on its centred square, mirrored outside; or stretched.",
        ),
    ] = "center",
    key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Secret behind the seeds; made if missing.", show_default="new each time"),
    ] = None,
    file_format: Annotated[
        Literal["safetensors", "npz", "png"],
        typer.Option(
            "--format",
            metavar="safetensors|npz|png",
            help="'t2ue apply' reads safetensors; npz and png are for other programs and eyes.",
        ),
    ] = "safetensors",
    batch_size: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Captions at a time; the result is the same.", rich_help_panel=options.ADVANCED
        ),
    ] = 8,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Weights of a generator's CLIP text tower.", rich_help_panel=options.ADVANCED
        ),
    ] = None,
    allow_download: Annotated[
        bool,
        typer.Option(
            "--allow-download",
            help="Let a generator's CLIP text tower be fetched; never otherwise.",
            rich_help_panel=options.ADVANCED,
        ),
    ] = False,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Step 2, by whoever has the generator, best by the owner: make the noise for a request.

    Sees captions only. Whoever runs this can compute the noise again and take it off.
    """
    output = Output(as_json=as_json, quiet=quiet)
    with guarded(output, debug=debug, stopped="Stopped. Nothing was written."):
        from ..imaging.atomic import TEMPORARY_PREFIX
        from ..protect.folder.interrupt import interruptible
        from ..protect.zero_contact import NoiseRequest, generate_bundle, new_secret, read_or_create_secret
        from ..protect.zero_contact.bundle_info import SUFFIX
        from ..protect.zero_contact.exporting import check_export

        asked = NoiseRequest.read(request)
        check_export(out, file_format)
        prepare_torch()
        from ..protect.methods.t2ue import load_source

        source: NoiseSource = load_source(generator, device, weights=weights, allow_download=allow_download)
        secret = new_secret() if key_file is None else read_or_create_secret(key_file)
        levels = options.epsilon_levels(ctx, epsilon, strength)

        def make(path: Path) -> NoiseBundle:
            with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
                return generate_bundle(
                    asked,
                    source,
                    path,
                    epsilon=levels / 255,
                    z_mode=z_mode,
                    prompt_mode=prompt_mode,
                    secret=secret,
                    codebook=codebook,
                    fit=fit,
                    batch_size=batch_size,
                    progress=progress,
                    stop=stop,
                )

        if file_format == "safetensors":
            bundle = make(out)
            files = [str(path) for path in bundle.files]
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=out.parent) as folder:
                bundle = make(Path(folder) / f"bundle{SUFFIX}")
                files = [str(path) for path in _export(bundle, out, file_format)]
        info = bundle.info
        output.say(
            f"Noise for {info.count} pictures, at most {info.epsilon_levels:g} of 255 levels, by {info.generator_id}.",
            style="bold",
        )
        output.facts([("bundle", str(out if file_format != "safetensors" else bundle.path))])
        if file_format == "safetensors":
            words = shlex.join([str(bundle.path), "--map", private_paths(request)[0].name])
            output.say(f"Next, by the owner: bitterant t2ue apply IMAGES {words} -o OUT")
        output.say("Keep it private: whoever has it can take the protection off.", style="dim")
        output.result({"bundle": str(bundle.path) if file_format == "safetensors" else str(out), "files": files,
                       "count": info.count, "metadata": info.to_metadata()})  # fmt: skip


def _export(bundle: NoiseBundle, out: Path, file_format: str) -> tuple[Path, ...]:
    from ..protect.zero_contact import export_npz, export_png

    if file_format == "png":
        return export_png(bundle, out)
    export_npz(bundle, out)
    return (out,)
