"""Tables with new names read back with those names, whatever their rows end in."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitterant.errors import CaptionError
from bitterant.imaging.tables import visit_names


def names_in(data: bytes) -> list[str]:
    seen: list[str] = []

    def see(row: int, name: str) -> str:
        seen.append(name)
        return name

    assert visit_names("metadata.csv", data, see) is data
    return seen


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_only_names_change(sign: str, end: str) -> None:
    rows = (f"text{sign}file_name", f"two words{sign}a.png", f"{sign}b/c.png", "")
    new = visit_names("metadata.csv", end.join(rows).encode(), lambda row, name: f"{name}.x")
    assert names_in(new) == ["a.png.x", "b/c.png.x"]
    assert f"two words{sign}a.png.x".encode() in new


# The rows of the second end in another way than the first, and its cells hold another sign.
@example("file_name\r;text\r\na.png;a\r\n")
@example('file_name,text\na.png,"a cat\r sitting"\n')
@given(st.text(st.sampled_from('file_name,;\t\r\n"[] a.'), max_size=30).map(lambda rest: f"file_name{rest}"))
def test_what_was_written_reads_back(text: str) -> None:
    try:
        new = visit_names("metadata.csv", text.encode(), lambda row, name: f"{name}.x")
        assert all(name.endswith(".x") for name in names_in(new))
    except CaptionError:
        return  # it is told, and nothing is written
