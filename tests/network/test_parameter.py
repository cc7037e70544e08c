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
    assert WEIGHT.reshaped((2, 2, 6)) is None  # takes one apart
    assert Parameter("weight", (4, 6), (None, 1)).reshaped((24,)) is None  # what is in front is no axis


def test_what_is_folded_behind_an_axis_can_be_unfolded_again():
    weight = Parameter("weight", (4, 6, 3, 3), (0, 1, 2, 3))
    flat = weight.reshaped((1, 4, 54))
    assert flat is not None
    assert (flat.axes, flat.folded_behind(1), flat.folded_behind(0)) == ((None, 0, 1), 9, 1)
    whole = flat.reshaped((4, 6, 3, 3))
    assert whole is not None
    assert (whole.axes, whole.folded) == ((0, 1, None, None), {})
    assert flat.reshaped((4, 9, 6)) is None  # not as it was
    assert flat.permuted((2, 0, 1)).folded_behind(1) == 9


def test_a_reduction_takes_axes_away():
    kept = WEIGHT.reduced([2], (4, 1, 1))
    assert (kept.shape, kept.axes) == ((4, 1, 1), (0, 1, None))
    assert WEIGHT.reduced([1, 2], (4,)).axes == (0,)
