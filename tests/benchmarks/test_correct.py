from __future__ import annotations

import numpy as np
import pytest
from _correct import packed, unpacked
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_marks_come_back(marks):
    np.testing.assert_array_equal(unpacked(packed(np.array(marks)), len(marks)), marks)


def test_marks_of_another_number_of_images_are_refused():
    with pytest.raises(ValueError, match="16 bits cannot be the marks of 17 images"):
        unpacked("ffff", 17)
