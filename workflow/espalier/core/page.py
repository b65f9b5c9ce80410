"""The page's templates: their environment, and how numbers are written in them."""

from __future__ import annotations

import jinja2

from espalier.core.summary import Mean, goal

DIGEST_SHOWN = 10
"""Characters of a digest that are printed; the whole one is in the title attribute."""


def environment() -> jinja2.Environment:
    """Templates that escape every text, and what numbers look like in them."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("espalier"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"mean": _mean, "short": _short, "duration": _duration, "percent": _percent, "count": _count, "goal": goal}
    return found


def _mean(mean: Mean | None, decimals: int = 3, sign: bool = False) -> str:
    """`0.874 ± 0.003`; without spread for one seed; a dash for nothing."""
    if mean is None:
        return "–"
    value = f"{mean.mean:{'+' if sign else ''},.{decimals}f}".replace("-", "−")
    return value if mean.sd is None else f"{value} ± {mean.sd:,.{decimals}f}"


def _short(digest: object) -> str:
    return str(digest)[:DIGEST_SHOWN]


def _duration(seconds: float | int) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _percent(fraction: float | int) -> str:
    return f"{100 * fraction:.1f}".removesuffix(".0") + " %"


def _count(number: float | int) -> str:
    return f"{number:,.0f}"
