"""A card's pictures are found from where the card is, and stay its own."""

import re
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from flat import flat
from PIL import Image

from skfairft import FairLowRankHeadClassifier, model_report
from skfairft.datasets import make_biased_classification
from skfairft.report import _card


@pytest.fixture(scope="module")
def reports():
    """Return two reports that differ in all of their figures."""
    found = []
    for seed in (0, 1):
        X, y, s = make_biased_classification(400, disparity=0.4, random_state=seed)
        clf = FairLowRankHeadClassifier(**flat(random_state=0, rank=1))
        clf.fit(X, y, sensitive_features=s)
        found.append(model_report(clf, X, y, sensitive_features=s, n_boot=0))
    return found


@pytest.fixture(scope="module", autouse=True)
def _each_is_drawn_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_card, "draw", cache(_card.draw))
        yield


def linked(text):
    return re.findall(r"!\[[^\]]+\]\(([^)]*)\)", text)


def pictures(file):
    """Return the bytes of the pictures of a card that was saved, as a reader finds them."""
    links = linked(file.read_text(encoding="utf-8"))
    assert len(links) == 3
    for link in links:
        assert not re.search(r"[\s()<>\\\\]", link)  # else Markdown would end the link there
        assert not Path(unquote(link)).is_absolute()
    files = [file.parent / unquote(link) for link in links]
    for each in files:
        with Image.open(each) as image:
            assert min(image.size) > 300
    return [each.read_bytes() for each in files]


PLACES = {  # folder of the figures, file of the card
    "beside": ("figures", "README.md"),
    "below": ("card/figures", "card/README.md"),
    "same folder": ("card", "card/README.md"),
    "another folder": ("pictures/of it", "cards/README.md"),
    "deep": ("a", "a/b/c/card.md"),
    "odd names": ("my (first) card/f#1%20 é", "my (first) card/README.md"),
}


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("place", PLACES)
class TestPlaces:
    def test_they_are_found_from_the_card(self, reports, tmp_path, monkeypatch, place, absolute):
        figures, file = map(Path, PLACES[place])
        here, there = tmp_path / "here", tmp_path / "there"
        if absolute:
            figures, file = here / figures, here / file
        (here / file).parent.mkdir(parents=True)
        monkeypatch.chdir(here)
        reports[0].to_card(figures=figures).save(file)
        found = pictures(here / file)
        # Also after a move of all, and from another working directory.
        monkeypatch.chdir("/")
        shutil.move(here, there)
        assert pictures(there / PLACES[place][1]) == found

    def test_copies_are_beside_the_card(self, reports, tmp_path, monkeypatch, place, absolute):
        figures, file = map(Path, PLACES[place])
        if absolute:
            figures, file = tmp_path / figures, tmp_path / file
        monkeypatch.chdir(tmp_path)
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        reports[0].to_card(figures=figures).save(file, copy_files=True)
        alone = tmp_path / "alone"
        shutil.copytree((tmp_path / file).parent, alone)
        assert all("/" not in link for link in linked((alone / file.name).read_text("utf-8")))
        pictures(alone / file.name)


def test_the_working_directory_may_change_before_the_card_is_saved(reports, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    card = reports[0].to_card(figures="figures")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    card.save("card.md")
    pictures(tmp_path / "elsewhere" / "card.md")
    assert all((Path.cwd() / unquote(link)).is_file() for link in linked(card.render()))


def test_a_text_points_from_the_working_directory(reports, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    card = reports[0].to_card(figures=tmp_path / "figures")
    Path("card.md").write_text(card.render(), encoding="utf-8")
    pictures(tmp_path / "card.md")


def test_one_card_is_saved_in_several_places(reports, tmp_path):
    card = reports[0].to_card(figures=tmp_path / "figures")
    for folder in ("a", "b/c"):
        (tmp_path / folder).mkdir(parents=True)
        card.save(tmp_path / folder / "card.md")
    assert pictures(tmp_path / "a/card.md") == pictures(tmp_path / "b/c/card.md")


def test_cards_that_share_a_folder_keep_their_own(reports, tmp_path):
    alone = []
    for i, report in enumerate(reports):
        report.to_card(figures=tmp_path / str(i)).save(tmp_path / f"alone{i}.md")
        alone.append(pictures(tmp_path / f"alone{i}.md"))
        report.to_card(figures=tmp_path / "shared").save(tmp_path / f"{i}.md", copy_files=True)
        report.to_card(figures=tmp_path / "shared").save(tmp_path / f"linked{i}.md")
    assert alone[0] != alone[1]
    for i in (0, 1):
        assert pictures(tmp_path / f"{i}.md") == pictures(tmp_path / f"linked{i}.md") == alone[i]


def test_pictures_of_others_stay_and_a_second_time_adds_none(reports, tmp_path):
    for name in ("rates", "importance", "spectrum", "tradeoff"):
        (tmp_path / f"{name}.png").write_bytes(b"mine")
    reports[0].to_card(figures=tmp_path)
    before = {each.name for each in tmp_path.iterdir()}
    assert len(before) == 7
    reports[0].to_card(figures=tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == before
    assert (tmp_path / "rates.png").read_bytes() == b"mine"


def test_what_is_changed_in_a_card_is_kept(reports, tmp_path):
    card = reports[0].to_card(figures=tmp_path / "figures")
    section = card.select("Quantitative analyses/Rates by group/Figure")
    section.content = f"My caption.\n\n{section.content}"
    card.delete("Quantitative analyses/Spectrum and rank/Figure")
    card.add_plot(**{"Mine": "https://example.org/mine.png"})
    card.save(tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "My caption.\n\nThe same rates, drawn." in text
    assert len(linked(text)) == 3
    assert "(https://example.org/mine.png)" in text
    # What was rendered and saved has left the card as it was.
    assert section.content.startswith("My caption.")
    assert card.render() == card.render()


def test_without_figures_there_is_no_link(reports, tmp_path):
    reports[0].to_card().save(tmp_path / "card.md")
    assert linked((tmp_path / "card.md").read_text(encoding="utf-8")) == []
    assert [each.name for each in tmp_path.iterdir()] == ["card.md"]
    assert replace(reports[0], title=None).to_card().render()
