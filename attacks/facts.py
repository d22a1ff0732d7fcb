"""What a report says about the material and the machine: files, data set, visibility, who protected, where it ran.

The other half of the shape of ``report.json``; what is planned, measured and judged stands in ``schema``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator


def _readable(value: object) -> object:
    """File names may hold bytes that are no text; a report is UTF-8 all the same."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_readable)]


class Part(BaseModel):
    """A part of the report: never changed, nothing unknown in it, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Spread(Part):
    """How a figure is spread over the files: both ends, the median, the outer percentiles, and the mean."""

    min: float
    p01: float
    p50: float
    p99: float
    max: float
    mean: float


class Tool(Part):
    """Which program wrote the report.

    Attributes:
        git: commit of the checkout it ran from, with ``-dirty`` behind it where files were changed since; ``None``
            where it was installed as a package.
    """

    name: Literal["bitterant"] = "bitterant"
    version: str
    git: str | None = None


class Node(Part):
    """Machines of a cluster that are alike, and could be given trainings. No host names.

    Attributes:
        count: how many.
        cpu, cpus, device_name: as in :class:`Environment`.
        torch: its version there, which may be a build for another kind of device.
        instructions: the widest that torch uses on this processor; ``None`` where it trains on a GPU.
    """

    count: int
    cpu: str | None
    cpus: int
    device_name: str | None
    torch: str
    instructions: str | None


class Environment(Part):
    """Where it ran. No host names.

    Attributes:
        device: as torch calls it.
        device_name: the accelerator's model; ``None`` on a CPU.
        cuda: version of CUDA that torch was built for; ``None`` without.
        cpu: the processor's model, ``None`` where the system does not tell.
        cpus: processors that this process may use.
        ram_gib: memory of the machine, ``None`` where the system does not tell.
        executor: who ran the trainings: ``serial``, ``processes``, or ``ray`` with its version; ``None`` in reports of
            earlier versions.
        workers: trainings at the same time.
        nodes: the machines of a cluster; none where the trainings ran on this one.
        threads: threads of one training. On a CPU it is one, so that sums are taken in one order.
        determinism: the switches that decide whether two runs give the same bits, as they stood.
    """

    python: str
    platform: str
    versions: dict[str, str]
    device: str
    device_name: str | None = None
    cuda: str | None = None
    cpu: str | None = None
    cpus: int
    ram_gib: float | None = None
    executor: str | None = None
    workers: int
    nodes: tuple[Node, ...] = ()
    threads: int = 1
    determinism: dict[str, bool | str | None] = {}


class PairIssue(Part):
    """A file that could not be paired, has another form than its original, or is too much like a test picture.

    ``leaked`` is a training picture that is a test picture too, and was left out; ``near`` a test picture that nearly
    equals a training picture, and stays.
    """

    kind: Literal["missing", "extra", "relabelled", "unreadable", "resized", "leaked", "near", "untestable"]
    path: Text
    detail: Text


class FolderFacts(Part):
    """One side of the pairs, as decoded from disk.

    Attributes:
        sha256: over the relative path and the sha256 of every file that was compared, sorted by path: two reports with
            one value are about the same files.
        bytes: on disk, all files together.
        width, height: in pixels, upright.
        modes, formats, bit_depths: number of files by Pillow's mode, file format, and bits a channel.
        exif, icc: files that carry EXIF data, and a colour profile.
    """

    sha256: str
    files: int
    bytes: int
    width: Spread
    height: Spread
    modes: dict[str, int]
    formats: dict[str, int]
    bit_depths: dict[str, int]
    exif: int
    icc: int


class Captions(Part):
    """The texts of a verification with captioned pictures.

    Attributes:
        train, test: number of different captions.
        sources: number of pictures by where their captions come from, the test folder's included.
    """

    train: int
    test: int
    sources: dict[str, int]


class Dataset(Part):
    """What was trained on and tested on.

    Attributes:
        classes, train_counts, test_counts: empty where pictures are told by captions, not by classes.
        validation_images: test pictures that rest the choice of a moment to stop, at most; none is judged by its own.
        test_source: where the test pictures come from: a folder, held out from CLEAN, or given as a set.
        split_seed: what decided which pictures were held out; ``None`` where none were.
        resolution: side in pixels at which victims saw the pictures.
        chance: accuracy without looking; ``None`` where each condition has its own.
        folders: the files on both sides; empty for sets in memory.
        test_sha256: over the class and the sha256 of every picture of the test folder, sorted; ``None`` without one.
        grouping: how pictures that came without classes were sorted, for people; ``None`` where folders say the class.
        captions: the texts, where pictures are told by them; ``None`` where by classes.
    """

    classes: tuple[Text, ...]
    train_images: int
    test_images: int
    validation_images: int = 0
    train_counts: tuple[int, ...]
    test_counts: tuple[int, ...]
    test_source: Literal["folder", "split", "given"]
    split_seed: int | None = None
    resolution: int
    chance: float | None
    folders: dict[Literal["clean", "protected"], FolderFacts] = {}
    test_sha256: str | None = None
    grouping: Text | None = None
    captions: Captions | None = None
    issues: tuple[PairIssue, ...]


class Stealth(Part):
    """How visible the change is, over all pairs; file by file in ``stealth.csv``.

    Attributes:
        budget_levels: the bound in 1/255, or ``None`` where nobody stated one.
        budget_source: where the bound comes from.
        linf: largest change of any value of a file, in 1/255.
        l2: Euclidean length of the change of a file, values in [0, 1].
        psnr: in dB, over the files that changed.
        ssim, ssim_files: structural similarity, and the number of files it was measured on.
        lpips: learned perceptual distance, 0 for equal pictures; ``None`` where it was not measured.
        lpips_files: the number of files it was measured on.
        lpips_source: which network, and whose weights.
        lpips_reason: why it was not measured.
        clipped: share of the values of a file that the change moved to black or white, where a part of it may be lost.
        size_ratio: bytes of a protected file over those of its original; ``None`` for sets in memory.
        unchanged: files in which no value changed.
        over_budget: files that broke the bound.
    """

    files: int
    budget_levels: float | None
    budget_source: str
    linf: Spread
    l2: Spread | None = None
    psnr: Spread | None = None
    ssim: Spread | None = None
    ssim_files: int = 0
    lpips: Spread | None = None
    lpips_files: int = 0
    lpips_source: Text | None = None
    lpips_reason: Text | None = None
    clipped: Spread | None = None
    size_ratio: Spread | None = None
    unchanged: int
    over_budget: tuple[Text, ...]

    @model_validator(mode="after")
    def _absent_with_a_reason(self) -> Stealth:
        if (self.lpips is None) == (self.lpips_reason is None):
            raise ValueError("lpips is either measured or absent with a reason")
        return self

    @property
    def linf_max(self) -> float:
        """Largest change of any value of any file, in 1/255."""
        return self.linf.max


class Separability(Part):
    """What a linear classifier makes of the change, as the victims saw it; judged on pictures it was not fitted to.

    Attributes:
        pictures: number of pictures that were looked at.
        class_from_change: how often it tells the class from the change alone, mean over the classes; ``None`` where
            fewer than two classes have two pictures.
        class_from_noise: the same for the random noise of the control; ``None`` where it has no amplitude.
        chance: of guessing.
        copy_auc: how well it tells copies from originals, as the area under the ROC curve: 0.5 is guessing.
        noise_auc: the same for the control.
    """

    pictures: int
    class_from_change: float | None
    class_from_noise: float | None
    chance: float
    copy_auc: float | None
    noise_auc: float | None


class Spectrum(Part):
    """How the power of the change is spread over spatial frequencies, as the victims saw it; means over pictures and
    channels.

    Attributes:
        resolution: side in pixels.
        pictures: number of pictures that were averaged.
        frequencies: in cycles a pixel, at most 0.5: the middle of each ring.
        protected: log10 of the mean power in each ring, in squared levels a frequency.
        noise: the same for the random noise of the control; ``None`` where it has no amplitude.
        peak: horizontal and vertical frequency at which the power is largest, the mean of the picture left out.
        low_share: share of the power below a quarter of a cycle a pixel, which halving the picture would keep.
    """

    resolution: int
    pictures: int
    frequencies: tuple[float, ...]
    protected: tuple[float, ...]
    noise: tuple[float, ...] | None
    peak: tuple[float, float]
    low_share: float


class Protection(Part):
    """What the run file of the protected folder says about how it was made.

    Attributes:
        parameters: every setting that decided about the result, the method's own hyper-parameters among them.
        epsilon: the bound as a fraction of the full range.
        surrogate_sha256: of the protector's model at the end.
        format: ``lossless``, or ``same`` where copies keep the file format and may exceed the budget.
        seconds: of the whole run; of one that was interrupted, its last part.
        images_per_second: pictures protected a second in that part.
        manifest_sha256: of the bytes of the manifest.
        repeat: the command line that asks for the same.
    """

    method: str | None = None
    granularity: str | None = None
    norm: str | None = None
    epsilon: float | None = None
    surrogate: str | None = None
    surrogate_sha256: str | None = None
    seed: int | None = None
    version: str | None = None
    format: str | None = None
    parameters: dict[str, Any] = {}
    seconds: float | None = None
    images_per_second: float | None = None
    manifest_sha256: str | None = None
    repeat: str | None = None
