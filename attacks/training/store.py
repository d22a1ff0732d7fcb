"""Everything cells read, as ``.npy`` files that all processes share; and what the public tool makes of leaked pictures.

``attacks`` does not import ``protect``; a trainer has no more than the command, and neither has this module.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, ImageError, OutputError
from ...imaging import Picture, decode, encode
from ...records.places import sha256_file
from ...surrogates.probes import check_features, compute_features, feature_tasks
from ..adversaries import Adversary
from ..data import VerificationData, deal_labels, noise_arm
from ..data.splits import stratified_split
from ..facts import Protection
from ..terms import Arm, Labelling, Pixels
from .executor import Executor

Version = Literal["clean", "protected", "noise", "test"]


@dataclass(frozen=True)
class Inputs:
    """The four arrays of a cell. For probes the two of pictures hold features instead, float32 ``[N, D]``.

    Attributes:
        clean_subset_images, clean_subset_labels: pictures that the trainer also has clean, for adversaries with a
            ``clean_share``.
        clean_subset_in_arm: the same pictures as the arm has them, for adversaries that learn from pairs.
    """

    train_images: Path
    train_labels: Path
    test_images: Path
    test_labels: Path
    classes: int
    clean_subset_images: Path | None = None
    clean_subset_labels: Path | None = None
    clean_subset_in_arm: Path | None = None

    def paths(self) -> tuple[Path, ...]:
        """The files of the arrays that are there."""
        values = (getattr(self, found.name) for found in fields(self))
        return tuple(value for value in values if isinstance(value, Path))


def temporary_folder_problem(error: OSError) -> OutputError:
    """What to tell people where the temporary folder cannot be written."""
    return OutputError(
        f"The temporary folder {tempfile.gettempdir()} cannot be used: {error.strerror or error}. "
        "Free some space, or name another one in the environment variable TMPDIR."
    )


def _read_only(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same values, which nobody can write to this way."""
    view = array.view()
    view.flags.writeable = False
    return view


class ArrayStore:
    """The pictures of every arm under every adversary, made once and kept as files. It is the adversaries' material.

    Args:
        folder: an empty temporary folder.
        data: the pictures.
        adversaries: by name.
        seed: of the noise arm, of splits and of labels.
        executor: who computes features.
        device: where features are computed.
        tool_device: where the public tool is run, on this machine; by default ``device``.
    """

    def __init__(
        self,
        folder: Path,
        data: VerificationData,
        adversaries: Mapping[str, Adversary],
        *,
        seed: int,
        executor: Executor,
        device: str = "cpu",
        tool_device: str | None = None,
    ) -> None:
        # All adversaries read the same pictures: one that changed them in place would change those of the others.
        frozen = {name: _read_only(getattr(data, name)) for name in ("clean", "protected", "test_images")}
        self._folder, self._data, self._adversaries = folder, replace(data, **frozen), adversaries
        self._seed, self._executor, self._device = seed, executor, device
        self._tool_device = tool_device or device
        self._made: dict[tuple[str, ...], Path] = {}
        self._rows: dict[tuple[str, str], NDArray[np.int64] | None] = {}
        self._labellings: dict[str, Labelling] = {}
        self._digests: dict[Path, str] = {}
        self._noise: Pixels | None = None
        self._again: dict[bytes, tuple[Pixels | None, str]] = {}

    # What adversaries may look at (see adversaries.base.AttackData).

    @property
    def labels(self) -> NDArray[np.int64]:
        """Classes of the training pictures, ``[N]``."""
        return self._data.labels

    @property
    def test_labels(self) -> NDArray[np.int64]:
        """Classes of the test pictures, ``[M]``."""
        return self._data.test_labels

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self._data.classes

    @property
    def resolution(self) -> int:
        """Working resolution in pixels."""
        return self._data.resolution

    @property
    def seed(self) -> int:
        """The one seed."""
        return self._seed

    def pictures(self, which: Version) -> Pixels:
        """All pictures in one version, uint8 ``[N, 3, R, R]``; must not be written to."""
        data = self._data
        if which == "noise":
            if self._noise is not None:
                return self._noise
            made = noise_arm(data.clean, data.keys, data.noise_levels, seed=self._seed)
            self._noise = noise = np.load(self._save("raw-noise", made), mmap_mode="r", allow_pickle=False)
            return noise
        return {"clean": data.clean, "protected": data.protected, "test": data.test_images}[which]

    def features(self, which: Version, surrogate: str) -> NDArray[np.float32]:
        """Features of all pictures in one version as they are, float32 ``[N, D]``.

        Raises:
            SetupError: the network's weights are not on this machine.
        """
        return np.load(self._features(self._raw(which), surrogate), allow_pickle=False)

    def covered(self, share: float) -> NDArray[np.bool_]:
        """Which training pictures belong to the protected share, ``[N]``; at least one a class stays clean."""
        _, chosen = stratified_split(self._data.keys, self.labels.tolist(), seed=self._seed, share=share)
        result = np.zeros(len(self.labels), dtype=bool)
        result[chosen] = True
        return result

    def protected_again(self, rows: NDArray[np.int64]) -> tuple[Pixels | None, str]:
        """Training pictures, protected with the tool that the run file names and with another seed; run once.

        Returns:
            uint8 ``[P, 3, R, R]`` or ``None`` where that cannot be done; and what was run, or why not, for people.
        """
        key = rows.tobytes()
        if key not in self._again:
            self._again[key] = run_tool(
                self._data.clean[rows],
                self.labels[rows],
                self.classes,
                self._data.protection,
                seed=self._seed,
                device=self._tool_device,
            )
        return self._again[key]

    # What cells read.

    def labelling(self, adversary: str) -> Labelling:
        """The labels under this adversary.

        Raises:
            LabelError: it cannot be applied to these classes.
            SetupError: the machine lacks something it needs.
        """
        if adversary not in self._labellings:
            self._labellings[adversary] = self._adversaries[adversary].relabel(self)
        return self._labellings[adversary]

    def inputs(self, arm: Arm, adversary: str) -> Inputs:
        """The arrays of a cell; pictures are transformed, and features computed, when first asked for."""
        found, surrogate = self.sources(arm, adversary), self._adversaries[adversary].surrogate
        if surrogate is None:
            return found
        seen = [self._features(images, surrogate) for images in (found.train_images, found.test_images)]
        return replace(found, train_images=seen[0], test_images=seen[1])

    def sources(self, arm: Arm, adversary: str) -> Inputs:
        """The same, but of a probe the pictures that its features are to be computed of."""
        labelling = self.labelling(adversary)
        images, rows = self._train(arm, adversary)
        made = self._adversaries[adversary]
        labels = labelling.train if rows is None else labelling.train[rows]
        if arm == "shuffled":
            labels = deal_labels(labels, labelling.classes, seed=self._seed)
        tested = self._test(adversary, arm if made.tests_by_arm else None)
        known = self._labels(labels), self._labels(labelling.test)
        known_clean = self._leaked(arm, adversary) if made.leaks else self._clean_subset(adversary, labelling)
        return Inputs(images, known[0], tested, known[1], labelling.classes, *known_clean)

    def digest(self, path: Path) -> str:
        """sha256 of an array's file, which is read for it once."""
        if path not in self._digests:
            self._digests[path] = sha256_file(path)
        return self._digests[path]

    @property
    def networks(self) -> Path:
        """Folder for trained networks that adversaries go on from."""
        folder = self._folder / "networks"
        folder.mkdir(exist_ok=True)
        return folder

    def _clean_subset(self, adversary: str, labelling: Labelling) -> tuple[Path | None, Path | None]:
        """The share of the training pictures that the trainer has clean, after the adversary's transform."""
        share = self._adversaries[adversary].clean_share
        if share <= 0:
            return None, None
        rows = np.arange(len(self.labels)) if share >= 1 else np.flatnonzero(~self.covered(1 - share))
        key = ("clean subset", adversary)
        if key not in self._made:
            after = self._adversaries[adversary].transform(self.pictures("clean")[rows])
            self._made[key] = self._save(f"clean-subset-{len(self._made)}", after)
        return self._made[key], self._labels(labelling.train[rows])

    def _leaked(self, arm: Arm, adversary: str) -> tuple[Path, Path, Path]:
        """Pictures that the trainer has clean, with their labels, and as the arm has them."""
        keys = [("leaked", adversary, arm, side) for side in ("before", "after", "labels")]
        if keys[0] not in self._made:
            before, after, labels = self._adversaries[adversary].leaked(arm, self)
            number = len(self._made)
            self._made[keys[0]] = self._save(f"leaked-{number}-before", before)
            self._made[keys[1]] = self._save(f"leaked-{number}-after", after)
            self._made[keys[2]] = self._labels(labels)
        return self._made[keys[0]], self._made[keys[2]], self._made[keys[1]]

    def _train(self, arm: Arm, adversary: str) -> tuple[Path, NDArray[np.int64] | None]:
        key = (arm, adversary)
        if key not in self._made:
            images, self._rows[key] = self._adversaries[adversary].compose(arm, self)
            self._made[key] = self._transformed(images, adversary)
        return self._made[key], self._rows[key]

    def _test(self, adversary: str, arm: Arm | None) -> Path:
        key = ("test", adversary) if arm is None else ("test", adversary, arm)
        if key not in self._made:
            images = self.pictures("test") if arm is None else self._adversaries[adversary].compose_test(arm, self)
            self._made[key] = self._transformed(images, adversary)
        return self._made[key]

    def _transformed(self, images: Pixels, adversary: str) -> Path:
        after = self._adversaries[adversary].transform(images)
        if not isinstance(after, np.ndarray) or after.shape != images.shape or after.dtype.kind not in "iu":
            found = f"{after.dtype} {after.shape}" if isinstance(after, np.ndarray) else type(after).__name__
            raise ConfigError(
                f"The adversary {adversary} turned pictures {images.dtype} {images.shape} into {found}. Its transform "
                "has to return a numpy array of whole numbers, 0 to 255, of the same shape."
            )
        # Most adversaries leave most arms as they are, and one file then does for all.
        same: Version | None = next((which for which in self._versions() if after is self.pictures(which)), None)
        return self._save(f"images-{len(self._made)}", after) if same is None else self._raw(same)

    def _versions(self) -> Sequence[Version]:
        return ("clean", "protected", "test") if self._noise is None else ("clean", "protected", "test", "noise")

    def _raw(self, which: Version) -> Path:
        key = ("raw", which)
        if key not in self._made:
            images = self.pictures(which)
            path = self._folder / "raw-noise.npy" if which == "noise" else self._save(f"raw-{which}", images)
            self._made[key] = path
        return self._made[key]

    def _labels(self, labels: NDArray[np.int64]) -> Path:
        key = ("labels", hashlib.sha256(labels.tobytes()).hexdigest())
        if key not in self._made:
            self._made[key] = self._save(f"labels-{len(self._made)}", labels)
        return self._made[key]

    def _features(self, images: Path, surrogate: str) -> Path:
        key = ("features", images.name, surrogate)
        if key not in self._made:
            check_features(surrogate, self._data.resolution)  # an error of a worker would be told less well
            count = len(np.load(images, mmap_mode="r", allow_pickle=False))
            tasks = feature_tasks(images, count, surrogate, self._device)
            parts = dict(self._executor.run(compute_features, tasks))
            made = np.concatenate([parts[position] for position in range(len(tasks))])
            self._made[key] = self._save(f"features-{len(self._made)}", made)
        return self._made[key]

    def _save(self, name: str, array: NDArray[np.generic]) -> Path:
        path = self._folder / f"{name}.npy"
        try:
            np.save(path, array, allow_pickle=False)
        except OSError as error:
            raise temporary_folder_problem(error) from error
        return path


logger = logging.getLogger(__name__)

_LONGEST = 3600.0
_WORD = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_GRANULARITIES = ("sample", "class")
#: Options of the command in the run file that shape the noise, and what their values look like: numbers and words, and
#: no names of files.
_SHAPING = {
    "--set": re.compile(
        r"(?!key_file|generator)[a-z][a-z0-9_]{0,39}=(-?[0-9]{1,6}(\.[0-9]{1,9})?(e-?[0-9]{1,2})?|[a-z][a-z-]{0,30})"
    ),
    "--for-resolution": re.compile(r"[0-9]{1,5}"),
    "--preset": _WORD,
}
_MOST_WORDS = 64
_SEED = 900_000


def other_seed(seed: int, protection: Protection) -> int:
    """A seed that depends on that of the verification, and is not the one the pictures were protected with."""
    chosen = _SEED + seed
    return chosen + 1 if chosen == protection.seed else chosen


def run_tool(
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    protection: Protection | None,
    *,
    seed: int,
    device: str,
) -> tuple[NDArray[np.uint8] | None, str]:
    """Protect pictures with ``bitterant protect`` as their run file says, with another seed.

    Method, granularity and epsilon are those of the run file, and so are hyper-parameters where it tells of
    ``protect``; all else is the tool's own, as a trainer would leave it. What the run file says is not trusted: words
    of a known form become the values of options, and nothing else.

    Args:
        pictures: uint8 ``[P, 3, R, R]``.
        labels: int64 ``[P]``.
        classes: names of the classes, which are those of folders.
        protection: what the run file says, or ``None``.
        seed: of the verification.
        device: where to run.

    Returns:
        uint8 ``[P, 3, R, R]`` or ``None``; and how it was made, or why it was not, for people.
    """
    if protection is None or protection.method is None or protection.epsilon is None:
        return None, "no run file says how the pictures were protected"
    if not _WORD.fullmatch(protection.method):
        return None, "the run file names no method of this tool"
    chosen = other_seed(seed, protection)
    words = [f"--method={protection.method}", f"--epsilon={protection.epsilon * 255:g}", f"--seed={chosen}"]
    if protection.granularity in _GRANULARITIES:
        words.append(f"--granularity={protection.granularity}")
    if protection.parameters.get("resolution") is not None:  # textures have none
        words.append(f"--resolution={pictures.shape[-1]}")
    words += _shaping(protection.repeat or "")
    logger.info("protecting %d pictures of the trainer with the tool itself: %s", len(pictures), " ".join(words))
    try:
        with tempfile.TemporaryDirectory(prefix="bitterant-pairs-", ignore_cleanup_errors=True) as place:
            made = _protect(Path(place), pictures, labels, classes, words, device)
    except (OSError, subprocess.TimeoutExpired, ImageError, ValueError) as error:
        logger.warning("the tool could not be run on pictures of the trainer: %s", error)
        return None, f"the tool could not be run ({str(error).partition(chr(10))[0][:200].rstrip('.')})"
    kind = " ".join(word for word in (protection.method, protection.granularity) if word is not None)
    if (protection.repeat or "").startswith("bitterant apply"):
        kind += ", whatever else its bank was made with"
    return made, f"made by the tool itself ({kind}, seed {chosen})"


def _shaping(command: str) -> list[str]:
    """The options of a command that shape the noise, those alone that are of a known form."""
    try:
        said = shlex.split(command)[:_MOST_WORDS]
    except ValueError:
        return []
    return [
        f"{name}={value}"
        for name, value in itertools.pairwise(said)
        if name in _SHAPING and _SHAPING[name].fullmatch(value)
    ]


def _protect(
    place: Path,
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    words: Sequence[str],
    device: str,
) -> NDArray[np.uint8]:
    source, output = place / "clean", place / "protected"
    names = [Path(classes[int(label)]) / f"{row:06d}.png" for row, label in enumerate(labels.tolist())]
    for name, picture in zip(names, pictures, strict=True):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(encode(Picture(np.ascontiguousarray(picture.transpose(1, 2, 0))), format="PNG"))
    command = [sys.executable, "-m", "bitterant", "protect", str(source), str(output), *words,
               f"--device={device}", "--format=lossless", "--quiet"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_LONGEST, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise ValueError(lines[0] if lines else f"it ended with code {done.returncode}")
    result = np.empty_like(pictures)
    for row, name in enumerate(names):
        result[row] = decode((output / name).read_bytes(), name=name.as_posix()).rgb8().transpose(2, 0, 1)
    return result
