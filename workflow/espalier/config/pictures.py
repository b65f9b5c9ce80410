"""What a method declares for the report: the columns that it logs, and pictures of scores against its own settings."""

from __future__ import annotations

from espalier.config.blocks import Block


class HistoryColumn(Block):
    """One column of history.parquet that a method logs, besides losses, and how the report shows it."""

    name: str
    """The column's name, as `after_step` of the method returns it."""
    panel: str | None = None
    """Title of the picture that it is drawn in. Columns with the same title share a picture; None draws nothing."""
    label: str = ""
    """The column's name in the legend of a picture that several columns share."""
    unit: str = ""
    """Unit of the values, written at the axis; empty for a number without a unit."""
    is_goal: bool = False
    """Whether the values are what the other columns of the picture should reach. A goal is drawn dashed, in black."""
    logarithmic: bool = False
    """Whether the axis becomes logarithmic where values differ by more than a factor of fifty."""
    turn: str | None = None
    """What is true from the column's last change on, as a part of a sentence. Pictures of overfitting mark that step."""


class ScoreCurve(Block):
    """A picture of scores for each target: plans against one number in which their settings differ."""

    name: str
    """What the number is, for readers who hear the page."""
    axis: str
    """What the number is, written at the axis."""
    note: str
    """One sentence above the pictures: what is compared, and where it is defined."""
    points: dict[str, tuple[float, str]]
    """Plan → its number, and the name of the line that it belongs to."""
