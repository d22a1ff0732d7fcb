"""Unlearnable Clusters: the loss by hand, where clusters are sent, what a bank of clusters promises."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bitterant.errors import BankError, ConfigError, UnknownNameError
from bitterant.imaging import Budget, Features, ImageSet
from bitterant.protect import Bank, UnlearnableClusters
from bitterant.protect.cluster_index import ClusterIndex
from bitterant.protect.clusters import default_count, find_clusters, nearest
from bitterant.protect.methods.checkpoint import Checkpoint
from bitterant.protect.methods.uc.patterns import (
    GeneratorPatterns,
    NoiseGenerator,
    PixelPatterns,
    RandomResizedCrop,
    image_gradient,
    kl_to_centre,
    targets,
)
from bitterant.surrogates import FrozenSurrogate, create_surrogate

QUICK = {"surrogate": "small-cnn", "rounds": 4, "device": "cpu"}


def test_the_divergence_is_that_of_the_formula() -> None:
    features, centres = torch.randn(5, 4), torch.randn(5, 4)
    for row in range(5):
        p = [math.exp(v) for v in centres[row].tolist()]
        q = [math.exp(v) for v in features[row].tolist()]
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert float(kl_to_centre(features, centres)[row]) == pytest.approx(expected, abs=1e-5)
    assert torch.allclose(kl_to_centre(centres, centres), torch.zeros(5), atol=1e-6)


def test_the_gradient_is_that_of_autograd_and_of_every_member() -> None:
    model = create_surrogate("small-cnn+convmixer", num_classes=2, resolution=16, seed=0).eval()
    members = [FrozenSurrogate(member, features=True) for member in model.members]
    images, centres = torch.rand(3, 3, 16, 16), torch.randn(3, 64 + 96)
    gradient, losses = image_gradient(members, images, centres, (64, 96))
    leaf = images.clone().requires_grad_(True)
    parts = [kl_to_centre(m.trunk()(leaf), c) for m, c in zip(model.members, centres.split([64, 96], 1), strict=True)]
    (expected,) = torch.autograd.grad(sum(parts).sum() / 2, leaf)  # type: ignore[union-attr]
    assert torch.allclose(gradient, expected, atol=1e-5)
    assert torch.allclose(losses, (parts[0] + parts[1]) / 2, atol=1e-4)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_every_cluster_is_sent_to_the_next_and_none_to_itself(count: int) -> None:
    goal = targets(count).tolist()
    assert goal == [*range(1, count), 0]
    assert all(k != g for k, g in enumerate(goal))


class TestClusters:
    def test_they_are_the_obvious_ones(self) -> None:
        points = torch.cat([torch.randn(20, 5) * 0.1 + 10 * torch.eye(5)[k] for k in range(4)])
        found = find_clusters(points, 4, seed=0)
        assert sorted(found.sizes) == [20, 20, 20, 20]
        assert all(len(part.unique()) == 1 for part in found.assignment.split(20))
        assert torch.equal(found.assignment, nearest(points, found.centres))

    def test_large_sets_go_through_principal_components(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bitterant.protect.clusters.MANY_IMAGES", 30)
        points = torch.cat([torch.randn(20, 5) * 0.1 + 10 * torch.eye(5)[k] for k in range(4)])
        found = find_clusters(points, 4, seed=0)
        assert found.centres.shape == (4, 5)
        assert sorted(found.sizes) == [20, 20, 20, 20]

    def test_copies_of_few_pictures_give_few_clusters(self) -> None:
        points = torch.eye(3).repeat(8, 1)
        found = find_clusters(points, 10, seed=0)
        assert len(found.centres) == 3
        assert min(found.sizes) == 8

    def test_what_cannot_be_clustered_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="3 pictures cannot form 4 clusters"):
            find_clusters(torch.randn(3, 2), 4, seed=0)
        with pytest.raises(ConfigError, match="look the same"):
            find_clusters(torch.ones(9, 2), 2, seed=0)
        with pytest.raises(ConfigError, match="not finite"):
            find_clusters(torch.full((9, 2), float("nan")), 2, seed=0)

    def test_the_count_follows_the_folder(self) -> None:
        assert [default_count(n) for n in (1, 15, 16, 40, 80, 10_000)] == [2, 2, 2, 5, 10, 10]


class TestPatterns:
    @pytest.mark.parametrize("bound", ["clamp", "tanh"])
    @pytest.mark.parametrize("side", [16, 18])
    def test_a_generator_stays_in_bounds_and_learns(self, bound: str, side: int) -> None:
        patterns = GeneratorPatterns(2, side, 0.06, width=4, bound=bound, lr=1e-2, weight_decay=0.0, seed=0,
                                     device=torch.device("cpu"))  # fmt: skip
        goal = 0.05 * torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0)).sign()
        before = patterns.delta()
        assert before.shape == goal.shape
        assert float(before.abs().max()) <= 0.06 + 1e-6
        for _ in range(10):
            patterns.step(patterns.delta() - goal, [0], 0.0)
        after = patterns.delta()
        assert (after[0] - goal[0]).square().mean() < (before[0] - goal[0]).square().mean()
        assert torch.equal(after[1], before[1]), "only the named pattern may move"

    def test_pixels_move_against_the_gradient_within_the_bound(self) -> None:
        patterns = PixelPatterns(2, 8, 0.03, 0.02, torch.device("cpu"))
        gradient = torch.randn(2, 3, 8, 8)
        gradient[1] = 0.0
        patterns.step(gradient, [0, 1], 0.0)
        assert torch.allclose(patterns.delta()[0], -0.02 * gradient[0].sign())
        assert not patterns.delta()[1].any(), "a pattern without pictures does not move"
        for _ in range(3):
            patterns.step(gradient, [0, 1], 0.0)
        assert float(patterns.delta().abs().max()) == pytest.approx(0.03)

    @pytest.mark.parametrize("kind", ["pixels", "generator"])
    def test_packed_and_unpacked_goes_on_alike(self, kind: str) -> None:
        def fresh(seed: int) -> PixelPatterns | GeneratorPatterns:
            if kind == "pixels":
                return PixelPatterns(2, 8, 0.03, 0.003, torch.device("cpu"))
            return GeneratorPatterns(2, 8, 0.03, width=4, bound="tanh", lr=1e-2, weight_decay=1e-4, seed=seed,
                                     device=torch.device("cpu"))  # fmt: skip

        one, other = fresh(0), fresh(0)
        steps = [torch.randn(2, 3, 8, 8) for _ in range(4)]
        for gradient in steps[:2]:
            one.step(gradient, [0, 1], 0.1)
        other.unpack({name: value.clone() for name, value in one.pack().items()})
        for gradient in steps[2:]:
            one.step(gradient, [0, 1], 0.2)
            other.step(gradient, [0, 1], 0.2)
        assert torch.equal(one.delta(), other.delta())

    def test_the_generator_of_the_paper_has_its_number_of_weights(self) -> None:
        net = NoiseGenerator(64)
        assert sum(p.numel() for p in net.parameters()) == pytest.approx(7.84e6, rel=0.01)


def test_a_window_is_a_resized_part_half_of_it_mirrored() -> None:
    ramp = torch.linspace(0, 1, 24).view(1, 1, 1, 24).expand(4, 3, 24, 24).contiguous()
    for seed in range(5):
        window = RandomResizedCrop(torch.Generator().manual_seed(seed))(ramp)
        assert window.shape == ramp.shape
        rows = window[:, 0, 12]
        assert (rows[:2].diff(dim=1) >= -1e-6).all()
        assert (rows[2:].diff(dim=1) <= 1e-6).all()
        assert float(rows[0].max() - rows[0].min()) >= 0.55, "half of the area is the least"


class TestMethod:
    @pytest.mark.parametrize("objective", ["features", "labels", "joint"])
    def test_it_needs_no_labels_and_labels_change_nothing(self, tiny: ImageSet, objective: str) -> None:
        bare = ImageSet.from_tensors(tiny.images)
        brief = {**QUICK, "attempts": 1}
        make = lambda: UnlearnableClusters(objective=objective, **brief)  # noqa: E731  # type: ignore[arg-type]
        a, b = make().fit(bare), make().fit(tiny)
        assert a.granularity == "cluster"
        assert a.keys == tuple(f"cluster-{k}" for k in range(len(a.keys)))
        assert torch.equal(a.levels, b.levels)
        assert "nmi" in b.report["clusters"]
        assert "nmi" not in a.report["clusters"]

    def test_features_move_where_they_are_sent_more_than_noise_and_jpeg_do(self, tiny: ImageSet) -> None:
        method = UnlearnableClusters(
            objective="features", clusters=3, budget=Budget(16 / 255), **{**QUICK, "rounds": 12}
        )  # type: ignore[arg-type]
        found = method.fit(tiny).report["clusters"]
        assert found["clean"]["moved"] == found["clean"]["on_target"] == 0.0
        assert found["protected"]["on_target"] > max(found["noise"]["on_target"], found["jpeg10"]["on_target"]) + 0.1

    @pytest.mark.parametrize("options", [{"objective": "features"}, {"parametrisation": "generator", "width": 4},
                                         {"preset": "paper", "clusters": 3, "width": 4}])  # fmt: skip
    def test_a_killed_fit_ends_with_the_same_bytes(
        self, tiny: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
    ) -> None:
        monkeypatch.setattr(Checkpoint, "due", lambda self, *, important=False: True)
        make = lambda: UnlearnableClusters(**{**QUICK, **options})  # noqa: E731  # type: ignore[arg-type]
        whole = make().fit(tiny)

        class Killed(Exception):
            pass

        seen = 0

        def kill(step: object) -> None:
            nonlocal seen
            seen += 1
            if seen == 5:
                raise Killed

        with pytest.raises(Killed):
            make().fit(tiny, progress=kill, checkpoint=tmp_path / "state")
        assert (tmp_path / "state").exists()
        resumed = make().fit(tiny, checkpoint=tmp_path / "state")
        assert torch.equal(whole.levels, resumed.levels)
        assert whole.report["rounds"] == resumed.report["rounds"]

    def test_features_of_another_maker_are_refused_and_checkpoints_ask_for_them(
        self, tiny: ImageSet, tmp_path: Path
    ) -> None:
        method = UnlearnableClusters(objective="features", **QUICK)  # type: ignore[arg-type]
        width = method._space(tiny.resolution).of(tiny.images).shape[1]
        values = torch.randn(len(tiny), width, generator=torch.Generator().manual_seed(0))
        fingerprint = method._space(tiny.resolution).fingerprint
        with pytest.raises(ConfigError, match="not made by"):
            method.fit(replace(tiny, features=Features(values, 224, "else")))
        looked = replace(tiny, features=Features(values, 224, fingerprint))

        class Killed(Exception):
            pass

        def kill(step: object) -> None:
            if getattr(step, "fraction", 0.0) > 0.6:
                raise Killed

        with pytest.raises(Killed):
            method.fit(tiny, progress=kill, checkpoint=tmp_path / "state")
        again = method.fit(looked, checkpoint=tmp_path / "state")
        assert torch.equal(again.levels, method.fit(looked).levels)
        assert again.clusters is not None
        assert again.clusters.feature_size == 224
        assert again.report["clusters"]["side"] == 224

    def test_a_bank_of_clusters_knows_its_pictures_and_survives_the_file(self, tiny: ImageSet, tmp_path: Path) -> None:
        bank = UnlearnableClusters(objective="features", **QUICK).fit(tiny)  # type: ignore[arg-type]
        bank.save(tmp_path / "bank")
        again = Bank.load(tmp_path / "bank")
        assert again.clusters is not None
        assert bank.clusters is not None
        assert np.array_equal(again.clusters.centres, bank.clusters.centres)
        for row, key in enumerate(tiny.keys):
            digest = key.rpartition("/")[2]
            assert again.key_for(key) == again.key_for(digest) == again.key_for(f"elsewhere/{digest}") is not None
            picture = tiny.images[row].permute(1, 2, 0).numpy()
            large = np.repeat(np.repeat(picture, 5, 0), 3, 1)
            out = again.apply(large, key)
            assert out.shape == large.shape
            assert 0 < np.abs(out.astype(int) - large.astype(int)).max() <= 8
        assert again.key_for("c0/never-seen") is None
        bank.save(tmp_path / "second")
        assert (tmp_path / "bank").read_bytes() == (tmp_path / "second").read_bytes()

    def test_bad_requests(self, tiny: ImageSet) -> None:
        with pytest.raises(ConfigError, match="at least 2"):
            UnlearnableClusters(clusters=1)
        with pytest.raises(UnknownNameError, match="objective"):
            UnlearnableClusters(objective="featrues")
        with pytest.raises(ConfigError, match="cannot form 50 clusters"):
            UnlearnableClusters(clusters=50, **QUICK).fit(tiny)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="features only"):
            UnlearnableClusters(parametrisation="generator", objective="joint")
        with pytest.raises(ConfigError, match="finite"):
            UnlearnableClusters(pull_weight=float("nan"))
        with pytest.raises(ConfigError, match="per cluster"):
            UnlearnableClusters(granularity="sample")


def test_a_bank_of_clusters_needs_its_centres() -> None:
    levels = torch.zeros(2, 3, 8, 8, dtype=torch.int16)
    with pytest.raises(BankError, match="one centre"):
        Bank(method="uc", granularity="cluster", budget=Budget(8 / 255), levels=levels, keys=("a", "b"))
    with pytest.raises(BankError, match="one centre"):
        Bank(method="uc", granularity="cluster", budget=Budget(8 / 255), levels=levels, keys=("a", "b"),
             clusters=ClusterIndex(np.zeros((3, 4), np.float32)))  # fmt: skip
    with pytest.raises(BankError, match="-5 px"):
        ClusterIndex(np.zeros((2, 4), np.float32), -5)
    tensors = ClusterIndex(np.zeros((2, 4), np.float32)).to_arrays()
    with pytest.raises(BankError, match="at which side"):
        ClusterIndex.from_arrays({**tensors, "view": np.array([1, 2], np.int32)})
    with pytest.raises(BankError, match="does not hold"):
        ClusterIndex(np.zeros((2, 4), np.float32), 0, {b"x" * 32: 5})
