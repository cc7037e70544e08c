from __future__ import annotations

from netadapt.network.parameter import Parameter

WEIGHT = Parameter("weight", (4, 1, 6), (0, 1, 2))


def test_the_axes_of_more_than_one_entry_are_told():
    assert WEIGHT.long == [0, 2]
    assert Parameter("weight", (4, 6), (0, None)).long == [0]


def test_a_permuted_view_remembers_which_axis_is_where():
    view = WEIGHT.permuted((2, 0, 1))
    assert (view.shape, view.axes) == ((6, 4, 1), (2, 0, 1))


def test_parts_of_parts_begin_where_both_say():
    part = WEIGHT.narrowed(2, 2, 4).narrowed(2, 1, 2)
    assert (part.shape, part.starts) == ((4, 1, 2), {2: 3})
    assert Parameter("weight", (4, 6), (0, None)).narrowed(1, 2, 3).starts == {}


def test_reshaping_keeps_axes_whole_or_is_refused():
    view = WEIGHT.reshaped((4, 6, 1))
    assert view is not None
    assert (view.shape, view.long, view.axes[:2]) == ((4, 6, 1), [0, 1], (0, 2))
    assert WEIGHT.reshaped((24,)) is None  # merges two axes
    assert WEIGHT.reshaped((2, 2, 6)) is None  # takes one apart
