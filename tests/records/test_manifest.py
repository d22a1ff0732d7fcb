"""The manifest: what is written is read back, and a cut anywhere costs at most one row."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitterant.errors import ResumeError
from bitterant.records.manifest import ManifestRow, ManifestWriter, count_statuses, read_manifest

# Names as Linux allows them: any text, line separators and undecodable bytes (lone surrogates) included.
names = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=20)
# Paths below a folder: others are refused, see below.
paths = names.filter(lambda name: not name.startswith("/") and ".." not in name.split("/"))
KINDS = {"str": names, "int": st.integers(1, 10**6), "float": st.floats(0, 1e6), "None": st.none()}
STATUS = st.sampled_from(["protected", "copied", "skipped", "failed"])
# Every field, so that a new one is read back too.
rows = st.builds(
    ManifestRow,
    **{
        field.name: STATUS
        if field.name == "status"
        else paths | st.none()
        if field.name == "output"
        else paths
        if field.name == "source"
        else st.one_of(*(KINDS[kind] for kind in str(field.type).split(" | ")))
        for field in fields(ManifestRow)
    },
)


def make_row(index: int) -> ManifestRow:
    return ManifestRow(f"a/{index}.png", f"a/{index}.png", "00" * 32, "11" * 32, "protected", ssim=0.5)


@given(rows)
def test_a_row_survives_the_round_trip_on_one_line(row: ManifestRow) -> None:
    line = row.to_line()
    assert ManifestRow.from_line(line) == row
    assert line.decode("ascii").splitlines(keepends=True) == [line.decode("ascii")]


def test_fields_are_those_of_the_design() -> None:
    fields = (
        "source output sha256_in sha256_out status reason width height mode format linf_levels psnr ssim "
        "ciede ciede_p95 ciede_patches ciede_flat flip kept key seconds"
    )
    assert list(ManifestRow.__slots__) == fields.split()


def test_fields_of_a_later_version_are_ignored() -> None:
    line = make_row(0).to_line().replace(b'{"source"', b'{"later": 1, "source"')
    assert ManifestRow.from_line(line) == make_row(0)


def test_a_cut_at_any_byte_leaves_the_whole_rows_and_the_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    wanted = [make_row(index) for index in range(3)]
    with ManifestWriter(path) as writer:
        writer.append(wanted)
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        log = read_manifest(path)
        done = sum(end <= cut for end in ends)
        assert list(log.rows) == wanted[:done]
        assert log.cut == (cut not in {0, *ends})
        if cut % 97 == 0 or cut in ends:  # each append waits for the disk
            with ManifestWriter(path, log.size) as writer:
                writer.append(wanted[done:])
            assert path.read_bytes() == whole


def test_a_last_block_of_zeros_counts_as_cut(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(make_row(0).to_line() + bytes(20) + b"\n")
    log = read_manifest(path)
    assert (log.rows, log.cut) == ((make_row(0),), True)


@pytest.mark.parametrize(
    "damage", [b"not json\n", b"[1]\n", b'{"source": "x", "status": "eaten"}\n', b'{"source": 1}\n']
)
def test_a_damaged_line_in_the_middle_is_refused_with_its_number(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(make_row(0).to_line() + damage + make_row(2).to_line())
    with pytest.raises(ResumeError, match="line 2 is damaged"):
        read_manifest(path)


def test_a_missing_manifest_is_empty(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "none.jsonl").rows == ()


def test_counts_name_every_status() -> None:
    assert count_statuses([make_row(0), make_row(1)]) == {"protected": 2, "copied": 0, "skipped": 0, "failed": 0}
