"""What the page asks of a drawing beyond what a printed one has: an axis that stands still, colours that stay."""

from __future__ import annotations

from lossbook.terminal.drawing import Line, Look, draw
from lossbook.terminal.styled_text import plain_text

LOOK = Look(color=True, unicode=True)


def line(values: list[float], **more: object) -> Line:
    return Line("loss", [float(at) for at in range(len(values))], values, values, values, **more)  # type: ignore[arg-type]


def picture(lines: list[Line], **more: object) -> list[str]:
    drawn, _ = draw(lines, LOOK, width=60, height=12, **more)  # type: ignore[arg-type]
    return [plain_text(row) for row in drawn]


def test_on_an_axis_with_room_a_new_point_leaves_the_others_where_they_are() -> None:
    values = [5.0 - at / 50 for at in range(100)]
    before = picture([line(values)], across=(0.0, 150.0))
    after = picture([line([*values, 3.0])], across=(0.0, 150.0))
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) <= 1
    for old, new in changed:
        assert new.startswith(old.rstrip()[:-1])


def test_what_lies_beyond_the_axis_is_left_out() -> None:
    drawn = picture([line([1.0] * 50 + [90.0] + [1.0] * 49)], across=(0.0, 40.0))
    assert not any("90" in row for row in drawn)


def test_a_bucket_that_reaches_zero_is_drawn_on_a_logarithmic_axis_where_the_rest_of_it_is() -> None:
    # Its mean lies below everything that is drawn.
    curve = Line("loss", [0.0, 1.0, 2.0], [0.0, 90.0, 100.0], [100.0, 110.0, 120.0], [5.0, 100.0, 110.0])
    for look in (LOOK, Look(color=False, unicode=False)):
        drawn, left_out = draw([curve], look, width=40, height=10, log=True)
        assert left_out == 1
        assert len(drawn) == 10


def test_a_curve_keeps_the_colour_that_it_was_given() -> None:
    drawn, _ = draw([line([1.0, 2.0], color=3)], LOOK, width=40, height=8)
    colors = {piece.color for row in drawn for piece in row if piece.color}
    assert colors == {LOOK.palette[3]}


def test_a_band_is_drawn_without_a_line_through_it() -> None:
    curve = Line("loss", [0.0, 10.0], [1.0, 1.0], [3.0, 3.0], [2.0, 2.0], is_band=True)
    drawn, _ = draw([curve], LOOK, width=40, height=10)
    assert all(piece.dim for row in drawn for piece in row if piece.color)
