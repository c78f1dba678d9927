"""The guides' form: nothing in them escapes the tests by accident, and their links lead somewhere."""

import re
from pathlib import Path

import pytest
from guides import FILE, GUIDES, HOSTS, NOT_RUN, ROOT, blocks

ALL = sorted(GUIDES.glob("*.md"))
_LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


@pytest.mark.parametrize("guide", ALL, ids=lambda path: path.stem)
def test_each_block_says_what_it_is_for(guide: Path) -> None:
    for block in blocks(guide):
        role, _, stays = block.purpose.partition(" ")
        assert (
            re.fullmatch(rf"{FILE}[\w.-]+", block.purpose)
            or re.fullmatch(rf"{NOT_RUN}.+", block.purpose)
            or (block.language == "sh" and role in HOSTS and stays in {"", "stays"})
        ), block


@pytest.mark.parametrize("guide", ALL, ids=lambda path: path.stem)
def test_no_fence_is_overlooked(guide: Path) -> None:
    assert len(re.findall("^ *(```|~~~)", guide.read_text(), re.MULTILINE)) == 2 * len(blocks(guide))


@pytest.mark.parametrize("guide", ALL, ids=lambda path: path.stem)
def test_links_lead_to_files(guide: Path) -> None:
    for link in _LINK.findall(guide.read_text()):
        assert (guide.parent / link).is_file(), link


def test_the_readme_lists_each_guide() -> None:
    links = _LINK.findall((ROOT / "README.md").read_text())
    assert sorted(link for link in links if link.startswith("docs/guides/")) == [f"docs/guides/{g.name}" for g in ALL]
