"""What a run hands back, with its exit code, and the report for people: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...errors import ImageError
from ...imaging.codec import decode
from ...imaging.formats import is_picture_name
from ...imaging.loading import FileProblem
from ...imaging.page import difference_tile, is_own_page, png_data_uri, render_page, thumbnail
from ...records.files import write_atomic
from ...records.text import counted

if TYPE_CHECKING:
    from ...records.manifest import ManifestRow
    from ...records.run_file import RecordsPlace, RunFile, RunRecords
    from .session import Session
    from .tally import Figure, Figures, Tally

_TELLING = (
    "bitterant-report.html, bitterant-run.json and bitterant-manifest.jsonl show some originals and what was added to "
    "them, which helps whoever wants to take it off."
)
#: What to do with the records, by where they lie.
BEFORE_PUBLISHING: Final[dict[RecordsPlace, str]] = {
    "inside": f"Do not publish the folder as it is: {_TELLING} `bitterant publish OUT DEST` copies what may be shown.",
    "beside": f"Keep the folder of the records to yourself: {_TELLING} The folder of the copies holds nothing of "
    "bitterant's own, but also captions and label maps of pictures that were not protected, if there are any; "
    "`bitterant publish OUT DEST` leaves these out.",
}


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """The outcome of :func:`protect_folder` and :func:`apply_folder`.

    Attributes:
        counts: ``protected``, ``copied``, ``skipped``, ``failed``; their sum is the number of inputs.
        over_budget: pictures whose change on disk is larger than epsilon (only ever with ``format="same"``).
        seconds: wall clock, this part of the run.
        images_per_second: pictures protected in this part of the run over ``seconds``.
        report: ``bitterant-report.html``.
        run_file: ``bitterant-run.json``.
        manifest: ``bitterant-manifest.jsonl``.
        bank: where the bank was kept, or ``None``.
        problems: failed and skipped files with the reason; hidden files are left out.
        warnings: what the user should know.
        already_done: the folder was finished by an earlier run and nothing was done.
        resumed_rows: inputs that an earlier, interrupted part of the run had finished.
        strict: skipped files count as failures.
        unprotected: pictures that OUT lacks: failed, or skipped for whatever reason.
        records: where report, run file and manifest lie: ``inside`` OUT or ``beside`` it.
    """

    counts: dict[str, int]
    over_budget: int
    seconds: float
    images_per_second: float
    report: Path
    run_file: Path
    manifest: Path
    bank: Path | None = None
    problems: list[FileProblem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    already_done: bool = False
    resumed_rows: int = 0
    strict: bool = False
    unprotected: int = 0
    records: RecordsPlace = "inside"

    @property
    def before_publishing(self) -> str:
        """What to do with the records before OUT is published."""
        return BEFORE_PUBLISHING[self.records]

    @classmethod
    def of(cls, tally: Tally, places: Session, *, seconds: float, new: int, **rest: Any) -> RunSummary:
        """What the rows of a manifest say.

        Args:
            tally: of these rows.
            places: where the files of the run lie.
            seconds: wall clock.
            new: pictures protected by now and not before.
            rest: the other attributes.
        """
        return cls(
            counts=tally.counts,
            over_budget=tally.over_budget,
            seconds=seconds,
            images_per_second=new / seconds if seconds > 0 else 0.0,
            report=places.report,
            run_file=places.run_file,
            manifest=places.manifest,
            problems=[FileProblem(row.source, row.reason or "") for row in sorted(tally.problems, key=_gravity)],
            unprotected=tally.unprotected,
            records=places.records.place,
            **rest,
        )

    @property
    def inputs(self) -> int:
        """Number of input files of any kind."""
        return sum(self.counts.values())

    @property
    def exit_code(self) -> int:
        """0, or 1 where files failed or most pictures are left without protection (with ``strict``: where any file is
        listed in ``problems``)."""
        return int(self.counts["failed"] > 0 or self.mostly_unprotected or (self.strict and bool(self.problems)))

    @property
    def mostly_unprotected(self) -> bool:
        """Whether more pictures were left out than were protected."""
        return self.unprotected > self.counts["protected"]

    @property
    def headline(self) -> str:
        """The outcome in one or two sentences."""
        counts = self.counts
        parts = [f"{counted(counts['protected'], 'picture')} protected"]
        parts += [counted(counts[name], *words) for name, words in _WORDS.items() if counts[name]]
        start = "Nothing to do, the folder is finished: " if self.already_done else ""
        text = f"{start}{', '.join(parts)}; {counted(self.inputs, 'file')} in all."
        if self.mostly_unprotected:
            pictures = self.unprotected + self.counts["protected"]
            are = "is" if self.unprotected == 1 else "are"
            text += f" Most pictures are NOT protected: {self.unprotected} of {pictures} {are} not in the output."
        if self.over_budget:
            text += f" {counted(self.over_budget, 'is', 'are')} over the budget on disk: written as JPEG."
        return text

    def to_json(self) -> dict[str, Any]:
        """JSON-safe, for ``--json``."""
        return {
            "headline": self.headline,
            "exit_code": self.exit_code,
            "counts": dict(self.counts),
            "inputs": self.inputs,
            "over_budget": self.over_budget,
            "unprotected": self.unprotected,
            "already_done": self.already_done,
            "resumed_rows": self.resumed_rows,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 3),
            "report": str(self.report),
            "run_file": str(self.run_file),
            "manifest": str(self.manifest),
            "bank": None if self.bank is None else str(self.bank),
            "problems": [{"source": problem.relative, "reason": problem.reason} for problem in self.problems],
            "warnings": list(self.warnings),
            "records": self.records,
            "before_publishing": self.before_publishing,
        }


def _gravity(row: ManifestRow) -> tuple[bool, bool]:
    """Sorts first what failed, then other pictures, then what is none: lists are cut where they become long."""
    return row.status != "failed", not is_picture_name(row.source)


_WORDS = {
    "copied": ("caption file or label map copied", "captions and label maps copied"),
    "skipped": ("skipped", "skipped"),
    "failed": ("failed", "failed"),
}


@dataclass(frozen=True, kw_only=True)
class FitSummary:
    """The outcome of :func:`fit_folder`.

    Attributes:
        bank: the bank file. Keep it private: it takes the protection off.
        images: pictures it was fitted on.
        seconds: wall clock.
        problems: pictures that could not be read.
        warnings: what the user should know.
        report: the method's own report: stop rule, what the self-check reached.
        already_done: an earlier call made the bank for the same request, and nothing was done.
    """

    bank: Path
    images: int
    seconds: float
    problems: list[FileProblem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    already_done: bool = False

    @property
    def exit_code(self) -> int:
        """0, or 1 where pictures could not be read."""
        return int(bool(self.problems))

    @property
    def headline(self) -> str:
        """The outcome in one sentence."""
        unread = f", {len(self.problems)} could not be read" if self.problems else ""
        if self.already_done:
            return f"Nothing to do: the bank {self.bank} was made for these pictures and settings. Keep it private."
        return f"Fitted on {counted(self.images, 'picture')}{unread}; the bank is {self.bank}. Keep it private."

    def to_json(self) -> dict[str, Any]:
        """JSON-safe, for ``--json``."""
        return {
            "headline": self.headline,
            "exit_code": self.exit_code,
            "bank": str(self.bank),
            "images": self.images,
            "seconds": round(self.seconds, 3),
            "problems": [{"source": problem.relative, "reason": problem.reason} for problem in self.problems],
            "warnings": list(self.warnings),
            "report": self.report,
            "already_done": self.already_done,
        }


_GAIN = 10
_TILE_SIDE = 360
_PROBLEMS_SHOWN = 100
_FACTS_SHOWN = 60
_ROWS_SHOWN = 50
_BINS = 24


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram, in the units of the drawing."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Histogram:
    """A small inline drawing: how many pictures have which value.

    Attributes:
        title: what was measured, with its unit.
        bars: from low to high.
        low, high: ends of the axis, as text.
        median: as text.
        median_x: where the median lies.
    """

    title: str
    bars: tuple[Bar, ...]
    low: str
    high: str
    median: str
    median_x: float

    WIDTH = 320
    HEIGHT = 96

    @classmethod
    def of(cls, title: str, values: Figure, form: str) -> Histogram | None:
        """The histogram of a figure; ``None`` where no picture has it.

        Args:
            title: what was measured.
            values: the figure; all are finite.
            form: format of a number, for example ``".1f"``.
        """
        if not len(values):
            return None
        low, high, count = values.low, values.high, len(values)
        median = sum(values.at((count - 1) // 2, count // 2)) / 2
        counts, edges = values.histogram(_BINS if high > low else 1)
        width, top = cls.WIDTH / len(counts), int(counts.max())
        bars = []
        for index, count in enumerate(counts.tolist()):
            # A single picture in a folder of thousands stays visible.
            height = max(1.5, cls.HEIGHT * count / top) if count else 0.0
            span = f"{edges[index]:{form}} to {edges[index + 1]:{form}}"
            title_text = f"{span}: {counted(count, 'picture')}"
            bars.append(Bar(index * width, cls.HEIGHT - height, max(1.0, width - 1), height, title_text))
        middle = (median - low) / (high - low) if high > low else 0.5
        return cls(
            title, tuple(bars), f"{low:{form}}", f"{high:{form}}", f"{median:{form}}", round(middle * cls.WIDTH, 1)
        )


@dataclass(frozen=True)
class Table:
    """A list of mappings as a table: its title, the names of its columns, the first rows, and how many there are."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: int


@dataclass(frozen=True)
class _Tile:
    title: str
    row: ManifestRow
    before: str
    after: str
    difference: str
    pixelated: bool


def write_report(
    records: RunRecords,
    run_file: RunFile,
    tally: Tally,
    rows: Sequence[ManifestRow],
    *,
    source: Path | None,
    max_pixels: int,
) -> None:
    """Write the page. Six pictures are decoded, one pair at a time, whatever the size of the folder.

    Args:
        records: where the page goes, and OUT, from which pictures are read.
        run_file: what was done.
        tally: of the manifest.
        rows: the manifest.
        source: SRC; ``None`` where it is not known, and no pictures are shown.
        max_pixels: as in the run.

    Raises:
        OutputError: the page cannot be written.
    """
    ranked, ranked_by = tally.figures.ranked()
    page = render_page(
        __package__ or "bitterant.protect",
        "run.html.j2",
        run=run_file,
        folder=records.output.name if source is None else source.name or str(source),
        inputs=sum(run_file.counts.values()),
        epsilon_levels=f"{float(run_file.settings['epsilon']) * 255:g}",
        gain=_GAIN,
        tiles=[] if source is None else _tiles(ranked, rows, source, records.output, max_pixels),
        ranked_by=ranked_by,
        histograms=_histograms(tally.figures),
        fit_facts=flatten(run_file.fit)[:_FACTS_SHOWN],
        fit_tables=tables(run_file.fit),
        fit_outcome=_outcome(run_file.fit),
        settings=flatten(run_file.settings),
        problems=tally.problems[:_PROBLEMS_SHOWN],
        problem_count=len(tally.problems),
        before_publishing=BEFORE_PUBLISHING[records.place],
    )
    write_atomic(records.report, page.encode("utf-8"), overwrite=is_own_page)


def flatten(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested data as rows of name and text. Lists of mappings are left out: :func:`tables` shows them."""
    facts: list[tuple[str, str]] = []
    for name, value in data.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            facts += flatten(value, f"{label}: ")
        elif isinstance(value, list | tuple):
            if not _is_table(value):
                facts.append((label, _say_list(value)))
        elif value is not None:
            facts.append((label, _say(value)))
    return facts


def tables(data: Mapping[str, Any], prefix: str = "") -> list[Table]:
    """The lists of mappings in nested data, such as the rounds of a fit."""
    found: list[Table] = []
    for name, value in data.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            found += tables(value, f"{label}: ")
        elif isinstance(value, list | tuple) and _is_table(value):
            columns = list(dict.fromkeys(column for row in value for column in row))
            rows = [tuple(_say(row[c]) if c in row else "" for c in columns) for row in value[:_ROWS_SHOWN]]
            names = tuple(str(column).replace("_", " ") for column in columns)
            found.append(Table(label, names, tuple(rows), len(value)))
    return found


def _is_table(values: Sequence[object]) -> bool:
    return bool(values) and all(isinstance(value, Mapping) for value in values)


def _say(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return _say_list(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _say_list(values: Sequence[object]) -> str:
    if len(values) > 8:
        return f"{len(values)} values, the last: {_say(values[-1])}"
    return ", ".join(_say(value) for value in values) or "none"


def _outcome(fit: Mapping[str, Any]) -> str | None:
    """The sentence in which a self-check says what it found, where there is one."""
    check = fit.get("self_check")
    return str(check["outcome"]) if isinstance(check, Mapping) and "outcome" in check else None


def _tiles(
    ranked: tuple[int, int, int] | None, rows: Sequence[ManifestRow], source: Path, output: Path, max_pixels: int
) -> list[_Tile]:
    tiles = []
    for title, number in zip(("best", "median", "worst"), ranked or (), strict=False):
        row = rows[number]
        try:
            before = decode(source / row.source, max_pixels=max_pixels).rgb8()
            after = decode(output / str(row.output), max_pixels=max_pixels).rgb8()
        except ImageError:  # gone since; the page is worth having without it
            continue
        if before.shape != after.shape:
            continue
        # One at a time: each takes as much memory as the picture.
        shown = [thumbnail(before, _TILE_SIDE), thumbnail(after, _TILE_SIDE)]
        shown.append(thumbnail(difference_tile(before, after, _GAIN), _TILE_SIDE))
        uris = [png_data_uri(pixels) for pixels in shown]
        tiles.append(_Tile(title, row, *uris, pixelated=max(before.shape[:2]) < _TILE_SIDE // 2))
    return tiles


def _histograms(figures: Figures) -> list[Histogram]:
    of = figures.of
    drawn = (
        Histogram.of("CIEDE2000 of pixels (1 is hardly seen)", of("ciede"), ".2f"),
        Histogram.of("CIEDE2000 of 8-pixel patches: casts and stains", of("ciede_patches"), ".2f"),
        Histogram.of(f"FLIP of {len(of('flip'))} pictures (0 is identical)", of("flip"), ".3f"),
        Histogram.of("SSIM (1 is identical)", of("ssim"), ".3f"),
        Histogram.of("PSNR in dB (higher is closer)", of("psnr"), ".1f"),
    )
    return [histogram for histogram in drawn if histogram is not None]
