"""``bitterant t2ue``: protection from text alone, in steps between which only text and noise travel, and its test."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..attacks.config import RetrievalConfig
from ..protect.request.text_config import ApplyBundleConfig, AskConfig, BundleConfig, GeneratorConfig
from ..records.config import Option
from ..records.text import counted
from . import options
from .boundary import guarded, pin_arithmetic, prepare_torch, stopping
from .options import Commands
from .output import NextStep, Output, ProgressDisplay, free_name, quoted, tell_next
from .protect import tell_next_of, tell_problems, tell_summary
from .verify import tell_file_issues, tell_missing_records, tell_verdict

if TYPE_CHECKING:
    from ..attacks import VerificationReport
    from ..attacks.schema import Condition, Retrieval
    from ..imaging.captions import CaptionOptions
    from ..protect.methods.t2ue import TrainProgress
    from ..protect.zero_contact import ApplyPlan, Asked, NoiseBundle, NoiseSource


SHOWN = 5
PLACES = {
    "sidecar": "text files beside the pictures",
    "metadata": "metadata tables",
    "coco": "the COCO file",
    "class": "the names of class folders",
    "captioner": "the captioner",
    "fallback": "--fallback-caption",
}
DECLINED = 130


class CaptionsCommand(AskConfig):
    """What ``t2ue captions`` is told: also where it writes, and whether it asks first."""

    request: Annotated[
        Path,
        Option(
            help="The request to write; the one file to send.", metavar="FILE", names=("--out", "-o"), everyday=True
        ),
    ] = Path("request.jsonl")
    key_file: Annotated[
        Path | None,
        Option(help="Secret behind the ids; made if missing.", metavar="FILE", everyday=True, default="REQUEST.key"),
    ] = None
    map_file: Annotated[
        Path | None,
        Option(
            help="Which id is which picture; stays here.",
            metavar="FILE",
            names=("--map",),
            everyday=True,
            default="REQUEST.map.json",
        ),
    ] = None
    yes: Annotated[bool, Option(help="Do not ask after the preview.", names=("--yes", "-y"), everyday=True)] = False


@options.takes_options(CaptionsCommand)
def captions(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of pictures. Only text about them leaves.")],
    given: options.Given,
    terminal: options.Terminal,
) -> None:
    """Step 1, by the owner: write a request with a caption for each picture of IMAGES.

    The request holds opaque ids and text. No picture, file name or metadata is in it. A private map and a key stay
    beside it; do not send them.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug, stopped="Stopped. Nothing was written."):
        from ..protect.zero_contact import (
            ask_for_folder,
            check_private_places,
            new_secret,
            read_secret,
            save_secret,
        )
        from ..protect.zero_contact.build_request import write_asked
        from ..records.progress import interruptible

        config = CaptionsCommand.of(given)
        request = config.request
        usual_map, usual_key = private_paths(request)
        map_file, key_file = config.map_file or usual_map, config.key_file or usual_key
        check_private_places(images, request, map_file)
        kept = read_secret(key_file)
        if kept is None:
            check_private_places(images, key_file)
        secret = kept or new_secret()
        chosen = _caption_options(config)
        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            asked = ask_for_folder(
                images,
                secret=secret,
                captions=chosen,
                generic=config.generic,
                deny=config.deny,
                send_size=config.send_size,
                send_seed=config.send_seed,
                follow_links=config.follow_links,
                progress=progress,
                stop=stop,
            )
        for text in asked.warnings:
            output.warn(text)
        tell_problems(output, asked.problems, listed="--json")
        asking = not config.yes and sys.stdin.isatty()
        size = _preview(Output() if asking else output, asked)  # nobody can agree to what was not shown
        if asking and not typer.confirm("Write this request?", default=False, err=True):
            output.say("Nothing was written.")
            raise typer.Exit(DECLINED)
        if kept is None:
            save_secret(key_file, secret)
        try:
            write_asked(asked, request, map_file)
        except BaseException:
            if kept is None:
                with suppress(OSError):
                    key_file.unlink()
            raise
        output.facts([("send", str(request)), ("keep private", f"{map_file} and {key_file}")])
        bundle = free_name("out", ".noise.safetensors")
        tell_next(output, NextStep(f"bitterant t2ue noise {quoted(request)} -o {bundle}"))
        output.result(
            {
                "request": str(request),
                "map": str(map_file),
                "key_file": str(key_file),
                "pictures": len(asked.request.rows),
                "bytes": size,
                "prompts_sha256": asked.request.prompts_sha256,
                "sources": asked.sources,
                "problems": [{"source": problem.relative, "reason": problem.reason} for problem in asked.problems],
                "warnings": list(asked.warnings),
            }
        )
        raise typer.Exit(asked.exit_code)


def private_paths(request: Path) -> tuple[Path, Path]:
    """Where map and key lie, given the request."""
    stem = request.name.removesuffix(".jsonl")
    return request.with_name(f"{stem}.map.json"), request.with_name(f"{stem}.key")


def _caption_options(config: AskConfig) -> CaptionOptions:
    from ..imaging.captions import CaptionOptions, read_class_names

    describe = None
    if config.captioner is not None:
        from ..protect.zero_contact.build_request import load_captioner

        describe = load_captioner(config.captioner)
    return CaptionOptions(
        source=config.source,
        template=config.template,
        column=config.column,
        coco=config.coco,
        class_names={} if config.class_names is None else read_class_names(config.class_names),
        captioner=describe,
        fallback=config.fallback,
    )


def _preview(output: Output, asked: Asked) -> int:
    """Show the first lines of exactly what will leave; returns its size in bytes."""
    data = asked.request.to_bytes()
    lines = data.decode("utf-8").splitlines()
    output.say(f"This is what will leave the machine: {counted(len(lines), 'line')}, {len(data)} bytes.", style="bold")
    for line in lines[:SHOWN]:
        output.say(f"  {line}")
    if len(lines) > SHOWN:
        output.say(f"  ... and {len(lines) - SHOWN} more like these, sorted by id")
    kinds = ", ".join(f"{count} from {PLACES[name]}" for name, count in asked.sources.items())
    output.say(f"Captions: {kinds}. Whoever gets the request reads them and learns how many pictures there are.")
    return len(data)


@options.takes_options(BundleConfig)
def noise(
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="The request.jsonl of 't2ue captions'.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The bundle to write: NAME.noise.safetensors.")
    ],
    given: options.Given,
    terminal: options.Terminal,
) -> None:
    """Step 2, by whoever has the generator, best by the owner: make the noise for a request.

    Sees captions only. Whoever runs this can compute the noise again and take it off.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug, stopped="Stopped. Nothing was written."):
        from ..protect.zero_contact import NoiseRequest, generate_bundle, new_secret, read_or_create_secret
        from ..protect.zero_contact.bundle import SUFFIX
        from ..protect.zero_contact.generating import check_export
        from ..records.files import TEMPORARY_PREFIX
        from ..records.progress import interruptible

        config = BundleConfig.of(given)
        asked = NoiseRequest.read(request)
        check_export(out, config.format)
        prepare_torch()
        from ..protect.methods.t2ue import load_source

        source: NoiseSource = load_source(config.generator, config.device, config.policy)
        secret = new_secret() if config.key_file is None else read_or_create_secret(config.key_file)

        def make(path: Path) -> NoiseBundle:
            with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
                return generate_bundle(
                    asked,
                    source,
                    path,
                    epsilon=config.bound("t2ue"),
                    z_mode=config.z_mode,
                    prompt_mode=config.prompt_mode,
                    secret=secret,
                    codebook=config.codebook,
                    fit=config.fit,
                    batch_size=config.batch_size,
                    progress=progress,
                    stop=stop,
                )

        if config.format == "safetensors":
            bundle = make(out)
            files = [str(path) for path in bundle.files]
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=out.parent) as folder:
                bundle = make(Path(folder) / f"bundle{SUFFIX}")
                files = [str(path) for path in _export(bundle, out, config.format)]
        info = bundle.info
        output.say(
            f"Noise for {counted(info.count, 'picture')}, at most {info.epsilon_levels:g} of 255 levels, "
            f"by {info.generator_id}.",
            style="bold",
        )
        output.facts([("bundle", str(out if config.format != "safetensors" else bundle.path))])
        if config.format == "safetensors":
            words = shlex.join([str(bundle.path), "--map", private_paths(request)[0].name])
            output.say(f"Next, by the owner: bitterant t2ue apply IMAGES {words} -o OUT", whole=True)
        output.say("Keep it private: whoever has it can take the protection off.", style="dim")
        output.result({"bundle": str(bundle.path) if config.format == "safetensors" else str(out), "files": files,
                       "count": info.count, "metadata": info.to_metadata()})  # fmt: skip


def _export(bundle: NoiseBundle, out: Path, file_format: str) -> tuple[Path, ...]:
    from ..protect.zero_contact import export_npz, export_png

    if file_format == "png":
        return export_png(bundle, out)
    export_npz(bundle, out)
    return (out,)


BundleArgument = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="NAME.noise.safetensors, or NAME.noise.index.json of several files.")
]


@options.takes_options(ApplyBundleConfig)
def apply(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="The folder that the request was made for.")],
    bundle: BundleArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="OUT", help="New folder for the protected copies. IMAGES is never changed."
        ),
    ],
    given: options.Given,
    terminal: options.Terminal,
    map_file: Annotated[
        Path, typer.Option("--map", metavar="FILE", help="The private map that 't2ue captions' wrote.")
    ] = Path("request.map.json"),
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the summary to this JSON file.")
    ] = None,
) -> None:
    """Step 3, by the owner: put the noise of BUNDLE on the pictures. Needs no torch.

    The bundle is verified first; a damaged one is refused and nothing is written. Pictures that changed since the
    request was made are reported and not protected.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug):
        from ..protect.zero_contact import ApplyPlan, apply_bundle, check_private_places, write_summary
        from ..records.progress import interruptible

        if report is not None:
            check_private_places(images, report)
            check_private_places(out, report)
        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            outcome = apply_bundle(images, bundle, map_file, out, **given, progress=progress, stop=stop)
        if isinstance(outcome, ApplyPlan):
            _tell_plan(output, outcome)
            raise typer.Exit(outcome.exit_code)
        if report is not None:
            write_summary(report, outcome)
        tell_summary(output, outcome)
        tell_next_of(output, outcome, images, out)
        raise typer.Exit(outcome.exit_code)


def _tell_plan(output: Output, plan: ApplyPlan) -> None:
    from ..imaging import FileProblem

    tell_problems(output, [FileProblem(name, reason) for name, reason in plan.failed], listed="--json")
    output.say("The bundle is sound and made for this request. Nothing was written.", style="bold")
    output.facts(
        [
            ("protect", counted(plan.protect, "picture")),
            ("copy", counted(plan.captions, "caption file")),
            ("changed or gone", counted(len(plan.failed), "picture")),
            ("not asked for", counted(len(plan.skipped), "picture")),
            ("budget", f"{plan.epsilon_levels:g} of 255 levels"),
            ("fit", plan.fit),
        ]
    )
    output.result(plan.to_json())


@options.takes_options()
def inspect(
    bundle: BundleArgument,
    terminal: options.Terminal,
    request: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Check that it is for this request.jsonl.")
    ] = None,
    map_file: Annotated[
        Path | None, typer.Option("--map", metavar="FILE", help="Check that it is for the request of this map.")
    ] = None,
) -> None:
    """Read all of a bundle, check it, and say how it was made."""
    output = terminal.output
    with guarded(output, debug=terminal.debug):
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


@options.takes_options(GeneratorConfig)
def train(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="New folder for the generator.")],
    given: options.Given,
    terminal: options.Terminal,
) -> None:
    """Train a generator that turns captions into noise. A GPU helps; the small sizes do without.

    On a CPU it computes with the instructions that all processors have, in one thread: the same command gives the same
    generator on another machine, too.

    Stopped or killed, the same command goes on where it was.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug, stopped="Stopped. The same command goes on where it was."):
        config = GeneratorConfig.of(given)
        pin_arithmetic(config.device)
        prepare_torch()
        from ..protect.methods.t2ue.generator_training import TrainRequest, make_generator
        from ..records.progress import interruptible

        recipe = {name: getattr(config, name) for name in ("steps", "batch_size", "diversity")}
        request = TrainRequest(
            out=out,
            pairs=config.pairs,
            coco=config.coco,
            surrogate=config.surrogate,
            side=None if config.size is None else int(config.size),
            epsilon=config.bound("t2ue"),
            preset=config.preset,
            seed=config.seed,
            device=config.device,
            resume=config.resume,
            recipe={
                **{name: value for name, value in recipe.items() if value is not None},
                **({} if config.mismatched else {"mismatched": False}),
            },
            weights=config.policy,
        )
        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:

            def tell(step: TrainProgress) -> None:
                losses = ", ".join(f"{name} {value:.2f}" for name, value in step.losses.items())
                progress("train", step.step, step.steps, losses)

            report = make_generator(request, progress=tell, stop=lambda: stop.requested)
        measures = report.measures
        output.say(f"A generator after {counted(report.steps, 'step')}: {out}", style="bold")
        output.facts(
            [
                ("losses", ", ".join(f"{name} {value:.2f}" for name, value in report.losses.items())),
                ("one caption, two random vectors", f"noises have a cosine of {measures.same_text:.2f}"),
                ("two classes", f"noises have a cosine of {measures.other_class:.2f}"),
                ("at the bound", f"{measures.saturated:.0%} of the values"),
            ]
        )
        if measures.same_text > 0.9:
            output.warn(
                "Noises of one caption are nearly the same whatever the random vector: who knows the caption and has "
                "the generator can subtract them. --diversity 1 keeps them apart."
            )
        words = f"bitterant protect PHOTOS PROTECTED --method t2ue -g {quoted(out)}"
        output.say(f"It is used by: {words}", style="bold", whole=True)
        output.result({"generator": str(out), "steps": report.steps, "losses": report.losses,
                       "measures": measures.facts()})  # fmt: skip


@options.takes_options(RetrievalConfig)
def verify(
    clean: Annotated[Path, typer.Argument(metavar="CLEAN", help="The originals, with their captions.")],
    protected: Annotated[Path, typer.Argument(metavar="PROTECTED", help="The protected copies of the same pictures.")],
    given: options.Given,
    terminal: options.Terminal,
) -> None:
    """Step 4, by the owner: train a CLIP on CLEAN, on PROTECTED and on random noise, and compare what it finds.

    It learns from pictures and captions, then has to find the caption of each test picture and the picture of each
    caption. For class folders there is also 'bitterant verify'. Exit code 5: the result is not valid, since copies are
    not as they should be or the clean CLIP itself learned too little.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug, stopped="Stopped. Nothing was decided; the same command starts over."):
        config = RetrievalConfig.of(given)
        prepare_torch()
        from .. import attacks

        with ProgressDisplay(output) as progress:
            result = attacks.verify_retrieval(clean, protected, **dict(config), progress=progress)
        tell_ranks(output, result)
        tell_verdict(output, result, config.report)
        tell_file_issues(output, result)
        tell_missing_records(output, result, protected)
        output.result(result.model_dump(mode="json"))
        raise typer.Exit(result.exit_code())


def tell_ranks(output: Output, result: VerificationReport) -> None:
    """Print one table for each way in which captions and pictures were asked for."""
    from ..attacks.terms import TASK_TITLES

    several = len(result.plan.victim_seeds) > 1
    for condition in result.conditions:
        if condition.retrieval is None:
            continue
        title = TASK_TITLES[condition.retrieval.task]
        output.say(f"{title}, in %" + (", mean ± standard deviation" if several else ""))
        for line in _rank_table(_rank_rows(condition, condition.retrieval)):
            output.say(f"  {line}")
        output.say()


def _rank_rows(condition: Condition, found: Retrieval) -> list[list[str]]:
    from ..attacks.terms import ARM_WORDS

    rows = [["trained on", *(f"Hit@{k}" for k in found.chance), "median rank", f"left of Hit@{found.k}"]]
    for arm, ranking in found.arms.items():
        hits = []
        for k in found.chance:
            deviation = ranking.deviation(k)
            hits.append(f"{100 * ranking.hit(k):.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}"))
        left = ""
        if arm == "protected":
            rho = condition.rho
            left = "not known"
            if condition.status == "ok" and rho is not None:
                left = f"{100 * rho.estimate:.0f} % ({100 * rho.low:.0f} to {100 * rho.high:.0f})"
        rows.append([ARM_WORDS.get(arm, arm), *hits, f"{ranking.median_rank:.0f}", left])
    rows.append(["guessing", *(f"{100 * value:.1f}" for value in found.chance.values()), f"{found.chance_rank}", ""])
    return rows


def _rank_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


app = Commands(
    no_args_is_help=True,
    help="Noise from captions alone: the pictures never leave their owner.",
    epilog="captions (owner) -> request.jsonl -> noise (server) -> out.noise.safetensors -> apply (owner) -> verify.",
)
app.command("captions")(captions)
app.command("noise")(noise)
app.command("apply")(apply)
app.command("inspect")(inspect)
app.command("verify")(verify)
app.command("train")(train)
