"""What was asked for, checked as a whole before any work: everything that is wrong is said in one message.

Whether a folder has what a method needs, labels, captions and enough pictures, is checked here, too, and which method
fits a folder.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, FolderError, LabelError
from ...imaging.captions import CaptionOptions, read_captions
from ...imaging.loading import FeatureExtractor, auto_resolution, common_size
from ...imaging.perturb import Budget
from ...imaging.scan import FolderScan, scan_source
from ...imaging.shards import is_parquet_name, is_tar_name
from ...records.config import Problems, WeightsPolicy
from ...records.files import holding
from ...records.places import lies_in, sha256_file
from ...records.run_file import RunRecords, find_records
from ...records.run_state import StateFiles
from ...records.secrets import new_secret
from ...records.stores import as_url, is_url, masked
from ...records.text import counted, some
from .config import FitConfig, ReadConfig, ShareConfig
from .places import (
    OUTPUT,
    RECORDS,
    check_writable,
    linked_problem,
    overlap_problem,
    records_problem,
)

if TYPE_CHECKING:
    from ..methods import Method


@dataclass(frozen=True, kw_only=True)
class Request:
    """A checked request to fit.

    Attributes:
        scan: what lies in SRC.
        method: ready to fit.
        resolution: working resolution R, in pixels; ``None`` where the method has none.
        feature_size: side in px at which pictures are looked at while they are read; ``None`` where the method is
            content with the working resolution.
        captions: what each picture shows, by its path below SRC; ``None`` where the method does not ask, or the names
            of the classes are all there is.
        settings: everything that decides about the fit, resolved and JSON-safe.
        warnings: what the user should know although it is no error.
    """

    scan: FolderScan
    method: Method
    resolution: int | None
    feature_size: int | None
    captions: dict[str, str] | None
    settings: dict[str, Any]
    warnings: tuple[str, ...]

    def feature_extractor(self) -> FeatureExtractor | None:
        """What looks at them, made anew: it holds a network, which is not kept for longer than reading takes."""
        if self.feature_size is None or self.resolution is None:
            return None
        return self.method.feature_extractor(self.resolution)


def check_source(source: Path, problems: Problems, *, follow_links: bool = False) -> FolderScan | None:
    """Scan SRC; notes a missing, unreadable or empty folder and returns ``None`` then."""
    scan = None
    with problems.collecting():
        if is_url(source):
            raise _elsewhere(f"{masked(as_url(source))} is no folder on this machine")
        if source.is_file() and (is_tar_name(source.name) or is_parquet_name(source.name)):
            raise _elsewhere(f"{source} holds many pictures in one file")
        scan = scan_source(source, follow_links=follow_links)
        if not scan.entries:
            raise _no_pictures(scan)
        check_class_names(scan)
        return scan
    return None


def _elsewhere(what: str) -> FolderError:
    return FolderError(
        f"{what}, and noise is fitted to a folder of picture files. Two commands protect what lies elsewhere or in "
        "shards: `bitterant code-book BANK --classes NAMES.txt` makes textures from class names alone (or `bitterant "
        "fit SAMPLE BANK` noise from a sample in a folder), and `bitterant apply SRC OUT --bank BANK` puts it on all."
    )


def _no_pictures(scan: FolderScan) -> FolderError:
    if scan.links:
        return FolderError(
            f"There is no picture in {scan.root}, but {counted(scan.links, 'symbolic link')}, not followed unless you "
            "ask for it: --follow-links, in Python follow_links=True."
        )
    shards = [skip.relative for skip in scan.skipped if is_tar_name(skip.relative) or is_parquet_name(skip.relative)]
    if shards:
        return _elsewhere(
            f"{scan.root} holds no picture files, but {counted(len(shards), 'shard')} such as {shards[0]}"
        )
    maps = (
        f" It holds {counted(len(scan.label_maps), 'label map')}, not in need of protection." if scan.label_maps else ""
    )
    beside = f" It holds {counted(len(scan.skipped), 'other file')}." if scan.skipped else ""
    return FolderError(
        f"There is no picture in {scan.root}.{maps}{beside}{_closed(scan)} "
        "Put pictures there (PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC, ...), "
        "one folder for each class."
    )


def _closed(scan: FolderScan) -> str:
    """What to say of a folder that could not be looked into and may hold what is missed, if there is one."""
    return next((f" {skip.relative}: {skip.reason}." for skip in scan.skipped if skip.kind == "unread"), "")


def linked_pictures(scan: FolderScan | None, config: ReadConfig) -> Iterable[Path]:
    """The pictures that links in SRC may lead to: none where links are not followed."""
    return (entry.path for entry in scan.entries) if scan is not None and config.follow_links else ()


def check_write(
    source: Path,
    records: RunRecords,
    problems: Problems,
    *,
    create: bool,
    linked: Iterable[Path] = (),
) -> OutputPlace:
    """Check OUT, and the folder of its records where they lie beside it.

    Args:
        source: SRC.
        records: where they are to lie, and OUT.
        problems: where errors are noted.
        create: make the folders and test them by writing a file; not done while there are other problems.
        linked: pictures that followed links may lead to.

    Returns:
        What is written to.
    """
    output = records.output
    place = OutputPlace.of(records)
    problem = overlap_problem(source, output) or linked_problem(linked, place.folders)
    if problem is None and records.place == "beside":
        problem = overlap_problem(source, records.folder, RECORDS) or records_problem(records)
    problems.add(problem)
    if problem is None:
        with problems.collecting():
            place.check_writable(create=create and not problems.found)
    return place


@dataclass(frozen=True)
class OutputPlace:
    """What a run writes to.

    Attributes:
        records: where OUT is, and the records of the run.
        made: which of the two folders were not there before the request was checked.
    """

    records: RunRecords
    made: tuple[Path, ...]

    @classmethod
    def of(cls, records: RunRecords) -> OutputPlace:
        """That of a run which keeps its records there."""
        return cls(records, tuple(folder for folder in {records.output, records.folder} if not folder.exists()))

    @property
    def folders(self) -> dict[Path, str]:
        """OUT and the folder of its records, and what messages call them."""
        apart = {} if self.records.place == "inside" else {self.records.folder: RECORDS}
        return {self.records.output: OUTPUT, **apart}

    def check_writable(self, *, create: bool) -> None:
        """Make sure that files can be written; see :func:`~bitterant.protect.request.places.check_writable`.

        Raises:
            OutputError, FolderError: as there. Folders that were made are taken away again.
        """
        try:
            for folder, what in self.folders.items():
                check_writable(folder, create=create, what=what)
        except BaseException:
            for folder in self.made:
                with suppress(OSError):
                    folder.rmdir()
            raise

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Hold it for one run; see :func:`~bitterant.records.files.holding`. The folder of the records, too: folders of
        other names may have it, as ``public-train`` and ``public/train`` do.

        Raises:
            ResumeError: another process holds it.
            OutputError: a lock file cannot be made.
        """
        with ExitStack() as stack:
            for folder in self.folders:
                stack.enter_context(holding(folder, StateFiles(folder).lock, existed=folder not in self.made))
            yield


def check_bank_place(
    bank: Path | None,
    source: Path,
    output: Path | None,
    problems: Problems,
    *,
    records: RunRecords | None = None,
    create: bool = False,
) -> None:
    """Check where a bank is to be kept: it takes the protection off, so it may not lie among the pictures.

    Args:
        bank: the file, or ``None``.
        source: SRC.
        output: OUT, or ``None`` where only a bank is made.
        problems: where errors are noted.
        records: where those of the run are to lie; ``None`` where only a bank is made.
        create: make its folder and test it by writing a file; not done while there are other problems.
    """
    if bank is None:
        return
    apart = None if records is None or records.place == "inside" else records.folder
    for folder, why in (
        (output, "whoever gets the pictures could take the protection off with it"),
        (apart, "that folder is for the records of the run alone"),
        (source, "originals are left as they are"),
    ):
        if folder is not None and lies_in(bank, folder):
            problems.add(FolderError(f"The bank {bank} lies inside {folder}: {why}. Choose a place outside."))
    if bank.is_dir():
        problems.add(ConfigError(f"The bank {bank} is a folder. Give a file name, such as {bank / 'my.bank'}."))
    with problems.collecting():
        check_writable(bank.parent, create=create and not problems.found, what="folder of the bank")


def check_fit(scan: FolderScan | None, config: FitConfig, problems: Problems) -> Request | None:
    """Check what to fit and make the method. Errors are noted in ``problems``; ``None`` if there are any.

    Args:
        scan: what lies in SRC, ``None`` where that was wrong.
        config: what was asked for.
        problems: where errors are noted; earlier ones are kept.
    """
    before = len(problems.found)
    name = device = None
    with problems.collecting():
        on_network = bool(
            config.surrogate or config.preset == "paper" or config.granularity == "class" or config.resolution != "auto"
        )
        name = config.method
        if isinstance(name, str):
            name = choose_method(name, scan, on_network=on_network)
    with problems.collecting():
        # Here and not above: what only puts noise on pictures checks SRC and OUT too, and loads no torch.
        from ...surrogates import resolve_device

        device = resolve_device(config.device)
    _check_surrogate(config.surrogate, problems)
    if name is None or scan is None or device is None or len(problems.found) > before:
        return None
    method = None
    with problems.collecting():
        method = _make_method(name, config, str(device), labelled=scan.labelled)
        from ...surrogates import check_weights

        check_labels(scan, method)
        method.check_processes()
        for number, network in enumerate(method.networks):
            check_weights(network, method.weights if number == 0 else method.weights.without_file())
    if method is None or len(problems.found) > before:
        return None
    resolution = _resolution(scan, method, config, problems)
    feature_size = captions = None
    told: tuple[str, ...] = ()
    with problems.collecting():
        captions, told = captions_for(scan, method, config.coco)
        if not method.needs_pixels:
            method.fit_classes(scan.classes)  # costs nothing: what is wrong with the names is told at once
        if resolution is not None and method.weights.file is not None and method.surrogate is not None:
            _check_weights_fit(method.surrogate, method.weights, scan, resolution)
        # Where pictures have the working resolution themselves, it holds all there is to see.
        if resolution is not None and common_size(scan) != (resolution, resolution):
            feature_extractor = method.feature_extractor(resolution)
            feature_size = None if feature_extractor is None else feature_extractor.side
    if len(problems.found) > before:
        return None
    # The name of a weights file says nothing about its content and much about the owner's disk.
    settings: dict[str, Any] = {
        **{name: value for name, value in method.settings().items() if name != "weights"},
        "method": method.name,
        "granularity": method.granularity,
        "epsilon": method.budget.epsilon,
        "norm": method.budget.norm,
        "seed": method.seed,
        "resolution": resolution,
        "view": feature_size,
        "weights_sha256": None if method.weights.file is None else sha256_file(method.weights.file),
        "captions_sha256": None if captions is None else captions_digest(captions),
    }
    return Request(
        scan=scan, method=method, resolution=resolution, feature_size=feature_size, captions=captions,
        settings=settings, warnings=(*_warnings(scan, method), *told),
    )  # fmt: skip


def _resolution(scan: FolderScan, method: Method, config: FitConfig, problems: Problems) -> int | None:
    """The working resolution; ``None`` for a method that has none."""
    if method.needs_pixels:
        return config.resolution if config.resolution != "auto" else auto_resolution(scan, method.device.type)
    if config.resolution != "auto":
        problems.add(
            ConfigError(
                f"The method {method.name} has no working resolution, so one of {config.resolution} would do "
                "nothing. Leave it out."
            )
        )
    return None


def _make_method(name: str | Method, config: FitConfig, device: str, *, labelled: bool) -> Method:
    parameters = config.hyper_parameters()
    if not isinstance(name, str):
        if parameters:
            raise ConfigError("A method object brings its own hyper-parameters; give them to its constructor.")
        if config.seed is not None and config.seed != name.seed:
            raise ConfigError(
                f"The method object has the seed {name.seed}, so {config.seed} would do nothing. Give it to its "
                "constructor, or leave it out."
            )
        return name
    from ..methods import create_method
    from ..methods.registry import check_settable, method_class

    cls = method_class(name)
    check_settable(cls, parameters)
    if cls.keyed and config.seed is None and "key_file" not in parameters:
        if isinstance(config, ShareConfig) and config.share is not None:
            raise ConfigError(
                "Every share would draw a key of its own, and the shares would not belong together. Give all of them "
                "the same --key-file FILE, or fit once and apply the bank in shares."
            )
        # Nothing is drawn from it before the bank is written, which holds it: a run that goes on reads the bank.
        parameters["secret"] = new_secret()
    return create_method(
        name,
        surrogate=config.surrogate,
        budget=Budget(config.bound(name)),
        granularity=config.granularity or (None if labelled else cls.without_labels),
        seed=config.seed or 0,
        device=device,
        preset=config.preset,
        precision=config.precision,
        **config.fetching(),
        **parameters,
    )


def _check_surrogate(name: str | None, problems: Problems) -> None:
    if name is None:
        return
    from ...surrogates import check_surrogate

    with problems.collecting():
        check_surrogate(name)


def _check_weights_fit(surrogate: str, weights: WeightsPolicy, scan: FolderScan, resolution: int) -> None:
    """Put the weights into the network once: a misfit is better told before a long reading than after."""
    from ...surrogates import create_surrogate

    create_surrogate(
        surrogate, num_classes=max(2, len(scan.classes)), resolution=resolution, seed=0, weights=weights
    )  # fmt: skip


def _warnings(scan: FolderScan, method: Method) -> tuple[str, ...]:
    warnings = list(scan.notes)
    single = single_picture_warning(scan)
    if single is not None:
        warnings.append(single)
    if method.granularity == "cluster" and scan.labelled:
        warnings.append(
            "The class folders are not used: groups of pictures that look alike are protected together, which hinders "
            "a trainer less than protection for the classes would."
        )
    elif method.granularity == "cluster":
        warnings.append(
            "Without classes, groups of pictures that look alike are protected together: that hinders a trainer less "
            "than protection for the trainer's own classes would. If you know how one would sort the pictures, put "
            "them in one folder for each class."
        )
    if method.key is not None and method.key.kind == "seed":
        warnings.append(
            "The key is made of the seed: whoever guesses it can take the protection off. Before you publish, leave "
            "--seed out, or give a file of random bytes that you keep: --key-file FILE."
        )
    if not method.protects:
        warnings.append("Random noise is a placebo for comparisons: it protects nothing.")
    if find_records(scan.root) is not None:
        warnings.append(
            # Its name alone: this text stands in files that are published, where the owner's disk is nobody's business.
            f"{scan.root.resolve().name or 'SRC'} is itself the output of bitterant. "
            "Protecting pictures twice doubles the visible change."
        )
    return tuple(warnings)


def captions_for(scan: FolderScan, method: Method, coco: Path | None) -> tuple[dict[str, str] | None, tuple[str, ...]]:
    """The first caption of every picture by its path, and what the user should know about them.

    ``None`` where the method asks for no captions, makes one noise a class, or finds nothing but class names: those it
    puts into sentences itself.

    Args:
        scan: what lies in SRC.
        method: ready to fit.
        coco: a COCO captions file.

    Raises:
        CaptionError: pictures without a caption and without a class, or a file that cannot be used.
        ConfigError: a captions file for a method that reads none.
    """
    if method.needs != "captions" or method.granularity == "class":
        if coco is not None:
            kind = f"{method.name} per class" if method.needs == "captions" else f"The method {method.name}"
            raise ConfigError(f"{kind} reads no captions: leave {coco.name} out.")
        return None, ()
    found = read_captions(scan, CaptionOptions(coco=coco), suggest_fallback=False)
    told = tuple(f"{problem.relative}: {problem.reason}" for problem in found.problems[:3])
    if len(found.problems) > len(told):
        told += (f"{len(found.problems)} caption files or lines of them could not be used.",)  # more than three
    if set(found.sources) == {"class"}:
        return None, (*told, *found.warnings)
    return {relative: caption.first for relative, caption in found.captions.items()}, (*told, *found.warnings)


def captions_digest(captions: Mapping[str, str]) -> str:
    """sha256 of all captions with the paths of their pictures."""
    return hashlib.sha256(json.dumps(sorted(captions.items())).encode()).hexdigest()


def choose_method(name: str, scan: FolderScan | None, *, on_network: bool = False) -> str:
    """The method of a name; ``auto`` is the default for folders of this kind.

    Args:
        name: as given.
        scan: what lies in SRC; ``None`` where that was wrong.
        on_network: what else was asked for (a surrogate, one pattern a class, a paper's settings) means noise that is
            crafted on a network: ``auto`` is then another one for class folders.

    Raises:
        UnknownNameError: no such method.
        ConfigError: it is a plug-in that cannot be used.
    """
    from ..methods.registry import default_method, method_class

    if name != "auto":
        return method_class(name).name
    return default_method(labelled=scan is None or scan.labelled, on_network=on_network)


def check_labels(scan: FolderScan, method: Method) -> None:
    """Make sure that SRC has the labels that the method needs.

    Raises:
        LabelError: it has none, only one class, or too few pictures of one.
        FolderError: too few pictures.
    """
    from ..methods.registry import default_method, method_classes

    if len(scan.entries) < method.least_images:
        fewer = ", or ask for fewer clusters" if method.settings().get("clusters") else ""
        if len(scan.entries) == 1 and not scan.labelled:
            from_caption = next(name for name, cls in method_classes().items() if cls.needs == "captions")
            raise FolderError(
                f"{scan.entries[0].relative} is one picture alone, and the method {method.name} needs at least "
                f"{method.least_images} different ones. Add pictures; or protect it with a bank that was fitted on "
                f"others like it (bitterant apply), or from a caption (--method {from_caption})."
            )
        raise FolderError(
            f"{scan.root} holds {counted(len(scan.entries), 'picture')}, but the method {method.name} needs at least "
            f"{method.least_images} different ones. Add pictures{fewer}."
        )
    needed = method.needs == "labels"
    if not scan.labelled and needed:
        raise _no_labels(scan, f"the method {method.name}")
    if not scan.labelled and method.granularity == "class":
        raise _no_labels(scan, "one pattern for each class (--granularity class)")
    if needed and len(scan.classes) < 2:
        raise LabelError(
            f"There is only one class folder with pictures in {scan.root}: {', '.join(scan.classes)}."
            f"{_closed(scan)} The method {method.name} needs two or more, since it works on what tells classes apart. "
            f"Add a second folder of other pictures, or take --method {default_method(labelled=False)}, which needs no "
            "classes. If the "
            "classes are folders inside that one, give it as SRC."
        )
    sizes = Counter(entry.class_name for entry in scan.entries)
    small = [name for name in scan.classes if sizes[name] < method.least_images_a_class] if needed else []
    if small:
        raise LabelError(
            f"The method {method.name} needs at least {method.least_images_a_class} pictures of every class, and "
            f"{len(small)} of {len(scan.classes)} class folders "
            f"{'holds' if len(small) == 1 else 'hold'} fewer: {some(small)}. "
            "Add pictures to them, or leave them out."
        )


def check_class_names(scan: FolderScan) -> None:
    """Make sure that class names are text: they become keys of the bank.

    Raises:
        FolderError: a name holds bytes that are no text.
    """
    for name in scan.classes:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            raise FolderError(
                f"The name of the class folder {name!r} in {scan.root} is not valid text. Rename that folder."
            ) from error


def single_picture_warning(scan: FolderScan) -> str | None:
    """What to say of classes with one picture; ``None`` where there are none."""
    sizes = Counter(entry.class_name for entry in scan.entries)
    single = [name for name in scan.classes if sizes[name] == 1]
    if not single:
        return None
    return (
        f"{len(single)} of {counted(len(scan.classes), 'class folder')} {'holds' if len(single) == 1 else 'hold'} a "
        f"single picture ({some(single)}). "
        "A trainer learns little from one picture anyway, and nothing can be tested on it."
    )


def _no_labels(scan: FolderScan, what: str) -> LabelError:
    from ..methods.registry import default_method, method_classes

    quick = next(name for name, cls in method_classes().items() if cls.instant and cls.without_labels is not None)
    return LabelError(
        f"The {counted(len(scan.entries), 'picture')} in {scan.root} {'lies' if len(scan.entries) == 1 else 'lie'} in "
        f"no class folders, and {what} needs to know which pictures belong together. Put them in one folder for each "
        f"class, such as {scan.root.name}/cats and {scan.root.name}/dogs. --method {default_method(labelled=False)} "
        f"works without classes, and so does --method {quick}, which is quicker and hinders a trainer less."
    )
