"""Memory that two processes share."""

from __future__ import annotations

import mmap
import os
import sys

import numpy as np
import pytest

from sefar_serve.decoding.segments import forget, new_segment, seen

PAGE = mmap.PAGESIZE


def test_both_ends_see_the_same_bytes() -> None:
    fd = new_segment(3 * PAGE)
    one, other = seen(fd, 3 * PAGE), seen(fd, 3 * PAGE)
    os.close(fd)
    one[:] = 7
    assert (other == 7).all()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can")
def test_whole_pages_are_given_back() -> None:
    fd = new_segment(4 * PAGE)
    memory = seen(fd, 4 * PAGE)
    memory[:] = 7
    before = os.fstat(fd).st_blocks
    forget(memory, PAGE - 1, 3 * PAGE + 1)
    after = os.fstat(fd).st_blocks
    os.close(fd)
    assert after == before // 2
    expected = np.full(4 * PAGE, 7)
    expected[PAGE : 3 * PAGE] = 0
    np.testing.assert_array_equal(memory, expected)
    forget(memory, 10, 20)  # less than a page
    assert memory[10] == 7


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can")
def test_a_process_cannot_shrink_it() -> None:
    fd = new_segment(PAGE)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)
