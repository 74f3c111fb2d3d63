"""A card of skops whose pictures are found from where the card is saved."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from skops.card import Card  # type: ignore[import-untyped]

__all__ = ["PicturedCard"]


class PicturedCard(Card):
    """A card that points to its own pictures relative to its file.

    skops writes the paths of pictures as they were given, so that a card in another folder than the
    working directory does not find them. Pictures of ``add_plot`` stay as skops treats them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pictures: list[tuple[Any, Path]] = []

    def add_picture(self, section: str, file: Path, caption: str, alt: str) -> None:
        """Add a section with a picture, whose file may be anywhere."""
        file = file.resolve()
        self.add(**{section: f"{caption}\n\n![{alt}]({_link(file)})"})
        self._pictures.append((self.select(section), file))

    def render(self) -> str:
        """Return the card as text, which points to its pictures from the working directory."""
        with self._pointing({file: os.path.relpath(file) for _, file in self._pictures}):
            return str(super().render())

    def save(self, path: str | os.PathLike[str], copy_files: bool = False) -> None:
        """Write the card to a file, which points to its pictures from its own folder.

        ``copy_files`` copies them there.
        """
        folder = Path(path).resolve().parent
        places = {file: folder / file.name if copy_files else file for _, file in self._pictures}
        for file, place in places.items():
            if file != place:
                shutil.copy(file, place)
        with self._pointing({file: os.path.relpath(places[file], folder) for file in places}):
            super().save(Path(path), copy_files=copy_files)

    @contextmanager
    def _pointing(self, paths: dict[Path, str]) -> Iterator[None]:
        """Have the sections point to their pictures by these paths."""
        before = [(section, section.content) for section, _ in self._pictures]
        try:
            for section, file in self._pictures:
                section.content = section.content.replace(_link(file), _link(Path(paths[file])))
            yield
        finally:
            for section, content in before:
                section.content = content


def _link(path: Path) -> str:
    """Return a path as a link: spaces, brackets and the like would end one."""
    return quote(path.as_posix())
