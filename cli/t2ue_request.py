"""``bitterant t2ue captions``: what leaves the machine, shown before it is written."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import options
from .boundary import guarded, stopping
from .next_step import free_name, quoted
from .output import Output
from .progress import ProgressDisplay
from .protect import tell_problems

if TYPE_CHECKING:
    from ..imaging.captions import CaptionOptions
    from ..protect.zero_contact import Asked

__all__ = ["captions", "private_paths"]

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


def captions(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of pictures. Only text about them leaves.")],
    request: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The request to write; the one file to send.")
    ] = Path("request.jsonl"),
    source: Annotated[
        Literal["auto", "sidecar", "metadata", "coco", "class", "captioner"],
        typer.Option(
            metavar="auto|sidecar|metadata|coco|class|captioner",
            help="Where captions come from; auto takes the first that has one, in this order.",
        ),
    ] = "auto",
    template: Annotated[
        str, typer.Option(metavar="TEXT", help="The sentence for the names of class folders.")
    ] = "a photo of a {}.",
    column: Annotated[
        str | None, typer.Option("--caption-column", metavar="NAME", help="Column of captions in metadata tables.")
    ] = None,
    coco: Annotated[Path | None, typer.Option(metavar="FILE", help="A COCO captions_*.json.")] = None,
    class_names: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What class folders are called: lines such as 'n01440764 tench'."),
    ] = None,
    captioner: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A local image-to-text model for pictures without a caption. Runs here."),
    ] = None,
    fallback: Annotated[
        str | None,
        typer.Option(
            "--fallback-caption", metavar="TEXT", help="For pictures without a caption; else they are an error."
        ),
    ] = None,
    generic: Annotated[
        bool, typer.Option("--generic", help="Take proper names, numbers and addresses out of captions. Simple rules.")
    ] = False,
    deny: Annotated[
        list[str] | None, typer.Option(metavar="WORD", help="With --generic: a word to take out; may be repeated.")
    ] = None,
    send_size: Annotated[
        bool, typer.Option("--send-size", help="Send width and height too, for noise made to measure.")
    ] = False,
    send_seed: Annotated[
        bool,
        typer.Option("--send-seed", help="Choose the seeds here, from the key, instead of leaving them to the server."),
    ] = False,
    key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Secret behind the ids; made if missing.", show_default="REQUEST.key"),
    ] = None,
    map_file: Annotated[
        Path | None,
        typer.Option(
            "--map", metavar="FILE", help="Which id is which picture; stays here.", show_default="REQUEST.map.json"
        ),
    ] = None,
    follow_links: options.FollowLinksOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask after the preview.")] = False,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Step 1, by the owner: write a request with a caption for each picture of IMAGES.

    The request holds opaque ids and text. No picture, file name or metadata is in it. A private map and a key stay
    beside it; do not send them.
    """
    output = Output(as_json=as_json, quiet=quiet)
    with guarded(output, debug=debug, stopped="Stopped. Nothing was written."):
        from ..protect.folder.interrupt import interruptible
        from ..protect.zero_contact import ask_for_folder, check_private_places, new_secret, read_secret, save_secret
        from ..protect.zero_contact.asking import write_asked

        usual_map, usual_key = private_paths(request)
        map_file, key_file = map_file or usual_map, key_file or usual_key
        check_private_places(images, request, map_file)
        kept = read_secret(key_file)
        if kept is None:
            check_private_places(images, key_file)
        secret = kept or new_secret()
        chosen = _caption_options(source, template, column, coco, class_names, captioner, fallback)
        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            asked = ask_for_folder(
                images,
                secret=secret,
                captions=chosen,
                generic=generic,
                deny=deny or (),
                send_size=send_size,
                send_seed=send_seed,
                follow_links=follow_links,
                progress=progress,
                stop=stop,
            )
        for text in asked.warnings:
            output.warn(text)
        tell_problems(output, asked.problems, listed="--json")
        asking = not yes and sys.stdin.isatty()
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
        output.say(
            f"Next: bitterant t2ue noise {quoted(request)} -o {free_name('out', '.noise.safetensors')}", style="bold"
        )
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


def _caption_options(
    source: str,
    template: str,
    column: str | None,
    coco: Path | None,
    class_names: Path | None,
    captioner: Path | None,
    fallback: str | None,
) -> CaptionOptions:
    from ..imaging.caption_files import read_class_names
    from ..imaging.captions import CaptionOptions

    describe = None
    if captioner is not None:
        from ..protect.zero_contact.captioner import load_captioner

        describe = load_captioner(captioner)
    return CaptionOptions(
        source=source,
        template=template,
        column=column,
        coco=coco,
        class_names={} if class_names is None else read_class_names(class_names),
        captioner=describe,
        fallback=fallback,
    )


def _preview(output: Output, asked: Asked) -> int:
    """Show the first lines of exactly what will leave; returns its size in bytes."""
    data = asked.request.to_bytes()
    lines = data.decode("utf-8").splitlines()
    count = "1 line" if len(lines) == 1 else f"{len(lines)} lines"
    output.say(f"This is what will leave the machine: {count}, {len(data)} bytes.", style="bold")
    for line in lines[:SHOWN]:
        output.say(f"  {line}")
    if len(lines) > SHOWN:
        output.say(f"  ... and {len(lines) - SHOWN} more like these, sorted by id")
    kinds = ", ".join(f"{count} from {PLACES[name]}" for name, count in asked.sources.items())
    output.say(f"Captions: {kinds}. Whoever gets the request reads them and learns how many pictures there are.")
    return len(data)
