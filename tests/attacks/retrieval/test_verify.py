"""``verify_retrieval``: from folders to a verdict. The CLIP is a tiny one; real ones are trained in test_training."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bitterant.attacks import VerificationReport
from bitterant.attacks.retrieval import CaptionedSet, ClipRecipe, verify_retrieval
from bitterant.errors import CaptionError, ConfigError, FolderError, UnknownNameError
from bitterant.imaging.captions import CaptionOptions

Scenes = Callable[[int, int], CaptionedSet]
LEVELS = 24
LEARNS = ClipRecipe(epochs=16, batch_size=16, lr=5e-3, padding=0, flip=False)
ONE_EPOCH = ClipRecipe(epochs=1, batch_size=16)


@pytest.fixture
def places(tmp_path: Path, scenes: Scenes, save: Callable[..., Path], shortcut: Callable[..., Any]) -> Path:
    """``clean`` and ``test`` with captions, and two folders of copies without: ``same`` and ``marked``."""
    train = scenes(96, 0)
    save(tmp_path / "clean", train)
    save(tmp_path / "same", train, captions=False)
    save(tmp_path / "marked", train, shortcut(train, LEVELS), captions=False)
    save(tmp_path / "test", scenes(64, 1))
    return tmp_path


def promise(folder: Path, levels: float, **settings: object) -> None:
    run = {"settings": {"epsilon": levels / 255, "method": "t2ue", **settings}}
    (folder / "bitterant-run.json").write_text(json.dumps(run), encoding="utf-8")


def kinds(result: VerificationReport) -> dict[str, str]:
    return {issue.path: issue.kind for issue in result.dataset.issues}


@pytest.mark.usefixtures("tiny_victim")
class TestVerdict:
    def test_a_shortcut_made_of_the_captions_is_found(self, places: Path) -> None:
        promise(places / "marked", LEVELS)
        result = verify_retrieval(
            places / "clean", places / "marked", test=places / "test", recipe=LEARNS, report=places / "report"
        )
        for condition in result.conditions:
            found = condition.retrieval
            assert found is not None
            clean, copies, guess = found.arms["clean"], found.arms["protected"], found.chance[found.k]
            assert condition.status == "ok", condition.reason
            assert condition.arms["clean"].accuracy.estimate == pytest.approx(clean.hit(found.k))
            assert clean.hit(1) > found.chance[1]
            assert copies.hit(found.k) < clean.hit(found.k) - 0.4
            assert copies.median_rank > clean.median_rank
            assert condition.rho is not None
            assert condition.rho.estimate < 0.5
            assert condition.rho.estimate == pytest.approx(
                (copies.hit(found.k) - guess) / (clean.hit(found.k) - guess), abs=1e-6
            )
        assert result.verdict.valid
        assert result.exit_code() == 0
        assert result.verdict.weakest == "naive"
        assert not result.verdict.headline.startswith("Does not stop")
        assert result.stealth.budget_levels == LEVELS
        assert result.plan.noise_levels == LEVELS
        assert result.protection is not None
        assert result.protection.method == "t2ue"
        assert len(result.cells) == 9
        loss = {
            arm: np.mean([cell.final_loss or 0.0 for cell in result.cells if cell.arm == arm])
            for arm in ("clean", "protected")
        }
        assert loss["protected"] < loss["clean"], "the copies are the easier ones to learn"
        fitted = {arm: np.mean(result.conditions[0].arms[arm].train_accuracies) for arm in ("clean", "protected")}
        assert 0 < 0.9 * fitted["clean"] < fitted["protected"] <= 1
        self.check_files(places / "report", result)

    def check_files(self, folder: Path, result: VerificationReport) -> None:
        names = {path.name for path in folder.iterdir()}
        assert names == {"plan.json", "report.json", "report.html", "stealth.csv", "ranks.npz"}
        assert hashlib.sha256((folder / "plan.json").read_bytes()).hexdigest() == result.plan_hash
        text = (folder / "report.json").read_text(encoding="utf-8")
        assert VerificationReport.model_validate_json(text) == result
        assert json.loads(text)["kind"] == "retrieval"
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert result.verdict.headline.replace(" %", "\u00a0%") in page
        assert "http" not in page.replace("http-equiv", ""), "nothing is loaded from elsewhere"
        for words in ("with their captions", 'id="ranks"', 'id="gates"', 'id="tiers"', "Captions for pictures"):
            assert words in page
        for words in ('id="confusion"', 'id="classes"', 'id="curves"', "predictions.npz"):
            assert words not in page, "what this kind of verification does not have"
        assert len((folder / "stealth.csv").read_text(encoding="utf-8").splitlines()) == 97
        with np.load(folder / "ranks.npz") as ranks:
            first = ranks["clean|0|image_to_text"]
            found = result.condition("clip-small/image_to_text").retrieval
            assert found is not None
            assert found.arms["clean"].hits[1][0] == pytest.approx((first < 1).mean())
            assert ranks["answers"].shape == (64, 32)
        assert "bitterant t2ue verify" in result.command

    def test_from_a_handful_of_questions_comes_no_grade(
        self, places: Path, scenes: Scenes, save: Callable[..., Path]
    ) -> None:
        save(places / "few", scenes(6, 1))
        result = verify_retrieval(places / "clean", places / "marked", test=places / "few", recipe=ONE_EPOCH)
        for condition in result.conditions:
            assert condition.status == "set aside"
            assert "too few for an interval" in (condition.reason or "")
        assert not result.verdict.valid
        assert result.exit_code() == 5

    def test_copies_without_any_change_are_not_called_protected(self, places: Path) -> None:
        result = verify_retrieval(places / "clean", places / "same", test=places / "test", recipe=LEARNS)
        assert {tier.grade for tier in result.verdict.tiers if tier.tested} == {"none"}
        assert result.verdict.headline.startswith("Does not stop a naive trainer who trains a CLIP to find")
        assert all(c.rho is not None and c.rho.estimate == 1.0 for c in result.conditions)
        assert result.exit_code() == 0
        assert result.stealth.unchanged == 96
        assert any("no budget stated" in text for text in result.verdict.caveats)

    def test_a_clean_clip_that_learned_nothing_says_nothing(self, places: Path) -> None:
        result = verify_retrieval(places / "clean", places / "same", seeds=1, recipe=ONE_EPOCH, report=places / "r")
        assert not result.verdict.valid
        assert result.exit_code() == 5
        assert "the victim did not learn the clean pictures (G1" in result.verdict.headline
        assert "Give more pictures, or train longer (--epochs)." in result.verdict.headline
        assert all(tier.grade in ("not tested", "not graded") for tier in result.verdict.tiers)
        assert "Believe none of these figures" in (places / "r/report.html").read_text(encoding="utf-8")

    def test_the_same_again_gives_the_same(self, places: Path) -> None:
        one, two = (
            verify_retrieval(places / "clean", places / "marked", seeds=2, recipe=ONE_EPOCH, seed=3) for _ in range(2)
        )
        times: dict[str, Any] = {"seconds": 0.0}
        for first, second in zip(one.cells, two.cells, strict=True):
            assert first.model_copy(update=times) == second.model_copy(update=times)
        for first, second in zip(one.conditions, two.conditions, strict=True):
            assert (first.retrieval, first.rho, first.clean_bounds) == (
                second.retrieval, second.rho, second.clean_bounds,
            )  # fmt: skip
        assert (one.verdict, one.plan, one.plan_hash) == (two.verdict, two.plan, two.plan_hash)


@pytest.mark.usefixtures("tiny_victim")
class TestPictures:
    def quick(self, clean: Path, protected: Path, **options: Any) -> VerificationReport:
        return verify_retrieval(clean, protected, seeds=1, recipe=ONE_EPOCH, **options)

    def test_a_fifth_is_held_out_and_its_copies_are_not_trained_on(
        self, places: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from bitterant.attacks.retrieval import verify

        seen: list[tuple[CaptionedSet, torch.Tensor, CaptionedSet]] = []
        real = verify.retrieval_trial

        def spy(clean: CaptionedSet, protected: torch.Tensor, test: CaptionedSet, **options: Any) -> Any:
            seen.append((clean, protected, test))
            return real(clean, protected, test, **options)

        monkeypatch.setattr(verify, "retrieval_trial", spy)
        for seed in (0, 0, 1):
            self.quick(places / "clean", places / "marked", seed=seed)
        (clean, protected, test), again, other = seen
        assert (len(clean.keys), len(test.keys)) == (77, 19)
        assert not set(clean.keys) & set(test.keys)
        held_out = {picture.numpy().tobytes() for picture in test.images}
        assert not held_out & {picture.numpy().tobytes() for picture in clean.images}
        originals = {path.name: np.asarray(Image.open(path)) for path in (places / "clean").glob("*.png")}
        copies = {path.name: np.asarray(Image.open(path)) for path in (places / "marked").glob("*.png")}
        names = {pixels.transpose(2, 0, 1).tobytes(): name for name, pixels in originals.items()}
        for before, after in zip(clean.images, protected, strict=True):
            assert np.array_equal(copies[names[before.numpy().tobytes()]].transpose(2, 0, 1), after.numpy())
        assert again[2].keys == test.keys
        assert other[2].keys != test.keys

    def test_tested_pictures_are_never_trained_on(
        self, places: Path, scenes: Scenes, save: Callable[..., Path]
    ) -> None:
        """As a file, as other bytes with the same pixels, and as the protected version of one."""
        test = places / "test"
        shutil.copy(places / "clean/005.png", test / "as-file.png")
        Image.open(places / "clean/006.png").save(test / "as-pixels.bmp")
        shutil.copy(places / "marked/007.png", test / "as-copy.png")
        for name in ("as-file", "as-pixels", "as-copy"):
            (test / f"{name}.txt").write_text(f"some {name}", encoding="utf-8")
        result = self.quick(places / "clean", places / "marked", test=test)
        assert kinds(result) == {"005.png": "leaked", "006.png": "leaked", "007.png": "leaked"}
        assert (result.dataset.train_images, result.dataset.test_images) == (93, 67)
        assert any(
            "3 training pictures are test pictures too and were left out of training" in text
            for text in result.verdict.caveats
        )
        with pytest.raises(FolderError, match=r"0 to train on and 96 to test on.* 96 were left out of training"):
            self.quick(places / "clean", places / "marked", test=shutil.copytree(places / "clean", places / "again"))

    def test_a_test_picture_saved_again_is_noticed(self, places: Path) -> None:
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
        for name in ("clean", "same"):
            photo.save(places / name / "photo.png")
        photo.save(places / "test/again.jpg", quality=70)
        for path in (places / "clean/photo.txt", places / "test/again.txt"):
            path.write_text("a photo", encoding="utf-8")
        result = self.quick(places / "clean", places / "same", test=places / "test")
        assert kinds(result) == {"again.jpg": "near"}
        assert {gate.id: gate.status for gate in result.gates}["G5"] == "warn"
        assert any("1 of 65 nearly equal" in text for text in result.verdict.caveats)

    def test_class_folders_are_captions(self, places: Path, scenes: Scenes, save: Callable[..., Path]) -> None:
        for root in ("animals", "copies"):
            for number, name in enumerate(("black_cat", "dog", "owl")):
                save(places / root / name, scenes(8, number), captions=False)
        result = self.quick(places / "animals", places / "copies")
        assert result.dataset.captions is not None
        assert result.dataset.captions.sources == {"class": 24}
        assert (result.dataset.test_images, result.dataset.captions.test) == (6, 3)
        forth, back = (condition.retrieval for condition in result.conditions)
        assert forth is not None
        assert back is not None
        assert forth.chance[1] == pytest.approx(1 / 3), "one of three sentences is right"
        assert back.chance[1] == pytest.approx(1 / 3), "two of six pictures are right"
        assert any("any picture that has a caption counts" in text for text in result.verdict.caveats)

    def test_coco_captions_of_two_files(self, places: Path) -> None:
        options = []
        for name in ("clean", "test"):
            texts = {path.stem: path.read_text(encoding="utf-8") for path in (places / name).glob("*.txt")}
            images = [{"id": int(stem), "file_name": f"{stem}.png"} for stem in texts]
            notes = [{"image_id": int(stem), "caption": text.splitlines()[0]} for stem, text in texts.items()]
            file = places / f"{name}.json"
            file.write_text(json.dumps({"images": images, "annotations": notes}), encoding="utf-8")
            options.append(CaptionOptions(source="coco", coco=file))
        result = self.quick(
            places / "clean", places / "same", test=places / "test", captions=options[0], test_captions=options[1]
        )
        assert result.dataset.captions is not None
        assert result.dataset.captions.sources == {"coco": 160}
        assert result.dataset.captions.test == 16
        named = {"source": "coco", "coco": places / "clean.json", "test_coco": places / "test.json"}
        assert self.quick(places / "clean", places / "same", test=places / "test", **named).dataset == result.dataset

    def test_captions_are_named_as_on_the_command_line_or_as_objects(
        self, places: Path, scenes: Scenes, save: Callable[..., Path]
    ) -> None:
        for root in ("animals", "copies"):
            for number, name in enumerate(("n01", "n02")):
                save(places / root / name, scenes(8, number), captions=False)
        file = places / "names.txt"
        file.write_text("n01 black cat\nn02 dog\n", encoding="utf-8")
        options = CaptionOptions(source="class", class_names={"n01": "black cat", "n02": "dog"})
        report = places / "report"
        one = self.quick(places / "animals", places / "copies", source="class", class_names=file, report=report)
        two = self.quick(places / "animals", places / "copies", captions=options)
        assert one.plan == two.plan
        assert f"--source class --class-names {file}" in one.command
        assert two.command.endswith("  # with class names of its own, a recipe of its own, see plan.json")
        assert "black cat" in (report / "report.html").read_text(encoding="utf-8")

    def test_originals_without_a_copy_are_told(self, places: Path) -> None:
        (places / "same/003.png").unlink()
        result = self.quick(places / "clean", places / "same")
        assert kinds(result) == {"003.png": "missing"}
        assert "1 original has no protected copy" in result.verdict.headline
        assert result.stealth.files == 95


@pytest.mark.usefixtures("tiny_victim")
class TestCopiesThatAreNotAsTheyShouldBe:
    """Each makes the result invalid before anything is trained."""

    def check(self, places: Path, *parts: str) -> VerificationReport:
        result = verify_retrieval(places / "clean", places / "marked", recipe=ONE_EPOCH, report=places / "report")
        assert result.exit_code() == 5
        assert not result.verdict.valid
        assert not result.cells
        assert result.dataset.captions is None
        assert {condition.status for condition in result.conditions} == {"dropped"}
        assert result.verdict.headline.startswith(
            "INVALID, this run shows nothing about the protection: protected files"
        )
        assert "Protect the pictures again" in result.verdict.headline
        for part in parts:
            assert part in result.verdict.headline
        assert "Nothing was trained" in (places / "report/report.html").read_text(encoding="utf-8")
        assert not (places / "report/ranks.npz").exists()
        return result

    def test_over_budget(self, places: Path) -> None:
        promise(places / "marked", 8)
        result = self.check(places, "96 over budget")
        assert "000.png" in result.stealth.over_budget

    def test_of_another_size(self, places: Path) -> None:
        promise(places / "marked", LEVELS)
        Image.new("RGB", (20, 16)).save(places / "marked/004.png")
        result = self.check(places, "1 of another size or mode")
        assert kinds(result) == {"004.png": "resized"}

    def test_not_one_of_the_right_size(self, places: Path) -> None:
        for path in (places / "marked").glob("*.png"):
            Image.new("RGB", (20, 16)).save(path)
        self.check(places, "96 of another size or mode")

    def test_unreadable(self, places: Path) -> None:
        (places / "marked/004.png").write_bytes(b"not a picture")
        result = self.check(places, "1 unreadable")
        assert kinds(result) == {"004.png": "unreadable"}

    def test_without_an_original(self, places: Path) -> None:
        Image.new("RGB", (16, 16)).save(places / "marked/stranger.png")
        self.check(places, "1 without original")

    def test_lossy_copies_that_were_announced_are_only_in_doubt(self, places: Path) -> None:
        promise(places / "marked", 8, format="same")
        result = verify_retrieval(places / "clean", places / "marked", seeds=1, recipe=ONE_EPOCH)
        assert result.cells
        assert any("--format same" in text for text in result.verdict.caveats)


@pytest.mark.usefixtures("tiny_victim")
class TestBadInput:
    def refuse(self, error: type[Exception], match: str, clean: Path, protected: Path, **options: Any) -> None:
        with pytest.raises(error, match=match):
            verify_retrieval(clean, protected, seeds=options.pop("seeds", 1), **options)

    def test_folders(self, places: Path) -> None:
        clean, same, empty = places / "clean", places / "same", places / "empty"
        empty.mkdir()
        self.refuse(FolderError, "There is no folder", clean, places / "none")
        self.refuse(FolderError, "PROTECTED holds no images", clean, empty)
        self.refuse(FolderError, "one folder or lie one in the other", clean, clean)
        self.refuse(FolderError, "one folder or lie one in the other", clean, same, test=same)
        self.refuse(FolderError, "The test folder holds no images", clean, same, test=empty)
        self.refuse(FolderError, "report folder .* lies in .*clean", clean, same, report=clean / "report")
        for path in list(same.glob("*.png")):
            path.rename(same / f"other-{path.name}")
        self.refuse(FolderError, "No file in .* belongs to one in", clean, same)
        (clean / "bitterant-manifest.jsonl").write_text("{}\n", encoding="utf-8")
        self.refuse(FolderError, "seem to be swapped", clean, same)

    def test_captions(self, places: Path) -> None:
        clean, same = places / "clean", places / "same"
        (clean / "007.txt").unlink()
        self.refuse(CaptionError, r"1 of 96 pictures has no caption: 007\.png", clean, same)
        with pytest.raises(CaptionError) as raised:
            verify_retrieval(clean, same)
        assert "--fallback-caption" not in str(raised.value), "there is no such option here"
        self.refuse(CaptionError, "needs its file", clean, same, captions=CaptionOptions(source="coco"))
        for path in clean.glob("*.png"):
            path.with_suffix(".txt").write_text("a photo", encoding="utf-8")
        self.refuse(CaptionError, r"have the same captions \(a photo\)", clean, same)

    def test_a_test_folder_without_captions(self, places: Path) -> None:
        for path in (places / "test").glob("*.txt"):
            path.unlink()
        self.refuse(
            CaptionError, "The test folder .*64 of 64 pictures", places / "clean", places / "same", test=places / "test"
        )

    def test_too_few_pictures(self, tmp_path: Path, scenes: Scenes, save: Callable[..., Path]) -> None:
        for count in (1, 2, 3):
            save(tmp_path / f"clean{count}", scenes(count, 0))
            save(tmp_path / f"same{count}", scenes(count, 0), captions=False)
            self.refuse(FolderError, "two at least", tmp_path / f"clean{count}", tmp_path / f"same{count}")

    def test_numbers(self, places: Path) -> None:
        clean, same = places / "clean", places / "same"
        self.refuse(ConfigError, "number of seeds", clean, same, seeds=0)
        self.refuse(ConfigError, "epochs", clean, same, epochs=0)
        self.refuse(ConfigError, "at least 8 pixels", clean, same, resolution=4)
        self.refuse(ConfigError, "epsilon", clean, same, epsilon=8.0)


def test_a_victim_that_is_not_known_is_told_at_once(places: Path) -> None:
    pytest.importorskip("open_clip", reason="the extra 'clip' is not installed")
    with pytest.raises(UnknownNameError, match="klip"):
        verify_retrieval(places / "clean", places / "same", victim="klip")


def test_the_recipe_of_a_small_folder_makes_enough_steps() -> None:
    for pictures in (2, 20, 41, 300, 1000, 2000, 50_000):
        fitted = ClipRecipe().fitted_to(pictures)
        steps = fitted.epochs * max(1, pictures // min(pictures, fitted.batch_size))
        assert fitted.epochs >= 30
        assert steps >= 400 or fitted.epochs == 120
    assert ClipRecipe().fitted_to(2000) == ClipRecipe()
