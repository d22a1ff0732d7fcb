"""Data sets and a transform that protect: what goes in comes out, all but the pixels, and always the same."""

from __future__ import annotations

import copy
import pickle
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset, TensorDataset, default_collate
from torchvision import transforms, tv_tensors
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms import v2

from bitterant.errors import BankError, ConfigError, ImageError, LabelError
from bitterant.imaging import ImageSet
from bitterant.protect import Protect, ProtectedDataset, create_method, load_bank

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (8, 24, 24, 3), dtype=np.uint8)
CHW = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).contiguous()
LABELS = torch.arange(8) % 2
SET = ImageSet.from_tensors(CHW, LABELS)
Pair = namedtuple("Pair", "picture label")


def fitted(name: str, granularity: str, dataset: ImageSet = SET) -> Any:
    return create_method(name, granularity=granularity, device="cpu").fit(dataset)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["noise-sample", "noise-class", "texture-sample"])
def bank(request: pytest.FixtureRequest) -> Any:
    """A bank of each kind that needs no network, fitted on ``SET``."""
    return fitted(*request.param.split("-"))


def array(image: Any) -> np.ndarray:
    if isinstance(image, torch.Tensor):
        scaled = image if image.dtype == torch.uint8 else (image * 255).round().to(torch.uint8)
        return scaled.permute(1, 2, 0).numpy()
    return np.asarray(image)


# ---------------------------------------------------------------------- a data set
def test_what_goes_in_comes_out_all_but_the_pixels(bank: Any) -> None:
    wanted = bank.apply_set(CHW, SET.keys).permute(0, 2, 3, 1).numpy()
    rows = list(zip(PIXELS, CHW, LABELS.tolist(), strict=True))
    forms: dict[str, Any] = {
        "pillow": [(Image.fromarray(x), y) for x, _, y in rows],
        "array": [(x, y) for x, _, y in rows],
        "list": [[x, torch.tensor(y)] for x, _, y in rows],
        "namedtuple": [Pair(x, y) for x, _, y in rows],
        "mapping": [{"image": x, "label": y, "id": 5} for x, _, y in rows],
        "tensors": TensorDataset(CHW, LABELS),
        "floats": TensorDataset(CHW.float() / 255, LABELS),
        "tv": [(tv_tensors.Image(t), y) for _, t, y in rows],
    }
    for form, dataset in forms.items():
        protected = ProtectedDataset(dataset, bank)
        assert len(protected) == 8
        before = copy.deepcopy(dataset[3])
        item, given = protected[3], dataset[3]
        assert type(item) is type(given), form
        place, label = ("image", "label") if form == "mapping" else (0, 1)
        assert type(item[place]) is type(given[place]), form
        assert getattr(item[place], "dtype", None) == getattr(given[place], "dtype", None), form
        assert item[label] == given[label] == 1, form
        assert np.array_equal(array(item[place]), wanted[3]), form
        assert np.array_equal(array(given[place]), array(before[place])), f"{form}: the data set itself was changed"
    assert ProtectedDataset(forms["mapping"], bank)[0]["id"] == 5


def test_a_loader_gives_the_same_with_any_number_of_workers(bank: Any, tmp_path: Path) -> None:
    bank.save(tmp_path / "bank.safetensors")
    protected = ProtectedDataset(TensorDataset(CHW, LABELS), load_bank(tmp_path / "bank.safetensors"))
    wanted = bank.apply_set(CHW, SET.keys)
    several = {"num_workers": 2, "multiprocessing_context": "spawn"}
    # A bank of classes goes to a process as one of pictures does.
    for options in ({},) if bank.granularity == "class" else ({}, several):
        for epoch in range(1 if options else 2):
            images, labels = (torch.cat(parts) for parts in zip(*DataLoader(protected, 3, **options), strict=True))  # type: ignore[arg-type]
            assert torch.equal(images, wanted), (options, epoch)
            assert torch.equal(labels, LABELS)
    again = pickle.loads(pickle.dumps(protected))
    assert torch.equal(again[5][0], wanted[5])


def test_positions_behave_as_those_of_a_list(bank: Any) -> None:
    protected = ProtectedDataset(TensorDataset(CHW, LABELS), bank)
    assert torch.equal(protected[-1][0], protected[7][0])
    assert len(list(protected)) == 8  # type: ignore[arg-type]
    for index in (8, -9):
        with pytest.raises(IndexError, match="no item"):
            protected[index]


def test_a_bank_of_a_folder_serves_the_folder_by_torchvision_and_by_tables(
    datasets: Any, tables: Any, tmp_path: Path
) -> None:
    root = datasets.files(tmp_path, datasets.colours(6, 24, 24))
    data = ImageSet.from_folder(root, 16)
    for bank in (fitted("noise", "sample", data), fitted("noise", "class", data), fitted("texture", "sample", data)):
        for number, (path, label, _) in enumerate((*pair, None) for pair in ImageFolder(root).samples):
            wanted = bank.apply(np.asarray(Image.open(path)), data.keys[number])
            item = ProtectedDataset(ImageFolder(root), bank)[number]
            row = ProtectedDataset(tables.table_of(root), bank)[number]
            assert item[1] == row["label"] == label
            assert np.array_equal(np.asarray(item[0]), wanted)
            assert np.array_equal(np.asarray(row["image"]), wanted)
            assert isinstance(row["image"], Image.Image)
        part = ProtectedDataset(Subset(ImageFolder(root, transforms.ToTensor()), [4]), bank)[0][0]
        assert np.array_equal(array(part), np.asarray(ProtectedDataset(ImageFolder(root), bank)[4][0]))


def test_a_bank_without_classes_finds_pictures_of_a_data_set_with_labels() -> None:
    flat = ImageSet.from_tensors(CHW)
    bank = fitted("noise", "sample", flat)
    wanted = bank.apply_set(CHW, flat.keys)
    assert torch.equal(ProtectedDataset(TensorDataset(CHW, LABELS), bank)[2][0], wanted[2])
    assert torch.equal(ProtectedDataset(TensorDataset(CHW), bank)[2][0], wanted[2])
    assert torch.equal(ProtectedDataset(list(CHW), bank)[2], wanted[2])
    assert torch.equal(ProtectedDataset([(x, ["a caption"]) for x in CHW], bank)[2][0], wanted[2])


def test_new_pictures_are_served_by_class_and_refused_by_sample(bank: Any) -> None:
    new = TensorDataset(CHW.flip(3), LABELS)
    if bank.granularity == "class" or bank.method == "texture":
        assert not torch.equal(ProtectedDataset(new, bank)[0][0], new[0][0])
        with pytest.raises(BankError, match=r"knows the classes 0, 1.*cat, dog.*classes="):
            ProtectedDataset(new, bank, classes=["cat", "dog"])
    else:
        with pytest.raises(BankError, match=r"item 0: .*knows only the 8 images.*Fit it on this one, too"):
            ProtectedDataset(new, bank)
        with pytest.raises(BankError, match=r"as one of the class '0': give its class names"):
            ProtectedDataset(TensorDataset(CHW, LABELS), bank, classes=["cat", "dog"])


def test_a_class_of_which_the_bank_saw_nothing_is_named() -> None:
    bank = fitted("noise", "class", SET)
    protected = ProtectedDataset(TensorDataset(CHW, torch.tensor([0, 1, 2, 0, 0, 0, 0, 0])), bank)
    with pytest.raises(BankError, match=r"item 2: .*the class '2'. It knows: 0, 1"):
        protected[2]


def test_pictures_must_be_there_before_augmentation_where_each_is_looked_up() -> None:
    augmented = FakeData(
        8, (3, 24, 24), 2, transform=transforms.Compose([transforms.RandomCrop(20), transforms.ToTensor()])
    )
    data = ImageSet.from_dataset(FakeData(8, (3, 24, 24), 2, transform=transforms.ToTensor()))
    with pytest.raises(ConfigError, match="augmentation"):
        ProtectedDataset(augmented, fitted("noise", "sample", data))
    assert len(ProtectedDataset(augmented, fitted("noise", "class", data))) == 8


def test_what_cannot_work_is_told_at_once(datasets: Any) -> None:
    bank = fitted("noise", "class")
    with pytest.raises(LabelError, match="without a label"):
        ProtectedDataset(list(PIXELS), bank)
    with pytest.raises(ConfigError, match="load_bank"):
        ProtectedDataset(TensorDataset(CHW, LABELS), "noise.safetensors")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="stream"):
        ProtectedDataset(iter([(PIXELS[0], 0)]), bank)
    with pytest.raises(ImageError, match=r"item 0.*too small"):
        ProtectedDataset([(PIXELS[0, :4, :4], 0)], fitted("texture", "sample"))


# ---------------------------------------------------------------------- a transform
def test_a_sample_of_any_form_is_protected(bank: Any) -> None:
    protect = Protect(bank)
    wanted = bank.apply_set(CHW, SET.keys)
    image, label = CHW[1], 1
    made = protect(image, label)
    assert isinstance(made, tuple)
    assert torch.equal(made[0], wanted[1])
    assert made[1] == 1
    assert torch.equal(protect((image, label))[0], wanted[1])
    assert torch.equal(protect([image, label, "more"])[0], wanted[1])
    named = protect({"label": label, "image": image, "name": "x"})
    assert torch.equal(named["image"], wanted[1])
    assert (named["label"], named["name"]) == (1, "x")
    tv = protect(tv_tensors.Image(image), label)[0]
    assert isinstance(tv, tv_tensors.Image)
    assert torch.equal(tv.as_subclass(torch.Tensor), wanted[1])
    assert np.array_equal(np.asarray(protect(Image.fromarray(PIXELS[1]), label)[0]), wanted[1].permute(1, 2, 0).numpy())
    images, labels = protect(CHW, LABELS)
    assert torch.equal(images, wanted)
    assert torch.equal(labels, LABELS)


def test_it_stands_before_augmentation_in_a_pipeline(bank: Any) -> None:
    pipeline = v2.Compose([Protect(bank), v2.CenterCrop(20)])
    wanted = bank.apply_set(CHW, SET.keys)[:, :, 2:22, 2:22]
    image, label = pipeline(CHW[3], 1)
    assert label == 1
    assert torch.equal(image, wanted[3])

    def collate(items: list[Any]) -> Any:
        return pipeline(*default_collate(items))

    ((images, labels),) = DataLoader(TensorDataset(CHW, LABELS), 8, collate_fn=collate)
    assert torch.equal(images, wanted)
    assert torch.equal(labels, LABELS)


def test_without_a_label_it_says_where_the_label_comes_from() -> None:
    protect = Protect(fitted("noise", "class"))
    for sample in (CHW[0], CHW[:2], {"image": CHW[0]}):
        with pytest.raises(LabelError, match="needs the label"):
            protect(sample)
    with pytest.raises(LabelError, match="a Mask"):
        protect(tv_tensors.Image(CHW[0]), tv_tensors.Mask(torch.zeros(24, 24)))


def test_a_bank_of_samples_finds_the_pictures_of_the_fit_alone() -> None:
    flat = ImageSet.from_tensors(CHW)
    protect = Protect(fitted("noise", "sample", flat))
    wanted = protect.bank.apply_set(CHW, flat.keys)
    assert torch.equal(protect(CHW[4]), wanted[4])
    assert torch.equal(protect(CHW[4], "any label")[0], wanted[4])
    with pytest.raises(BankError, match=r"the picture: .*knows only the 8 images"):
        protect(CHW[4].flip(2))


def test_what_is_shown_of_it_holds_nothing_of_the_bank() -> None:
    bank = fitted("texture", "sample")
    assert repr(Protect(bank)) == "Protect(method='texture', granularity='sample')"
    assert pickle.loads(pickle.dumps(Protect(bank))).bank == bank
