from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from sefar_serve.language.stops import StopTexts

letters = st.text(alphabet="ab", max_size=12)


@given(st.lists(letters, max_size=8), st.lists(letters, max_size=3))
def test_an_answer_in_pieces_is_cut_where_the_whole_would_be(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces)
    # The first stop text to be complete counts: an answer is read as it comes.
    ends = [whole.find(stop) + len(stop) for stop in stops if stop and stop in whole]
    found = StopTexts(stops)
    given_away, stopped = "", False
    for piece in pieces:
        text, stopped = found.feed(piece)
        given_away += text
        if stopped:
            break
    if not stopped:
        given_away += found.rest()
    assert stopped == bool(ends)
    if ends:
        assert whole.startswith(given_away)
        assert any(whole[len(given_away) :].startswith(stop) for stop in stops if stop)
    else:
        assert given_away == whole


@given(st.lists(letters, max_size=8), letters.filter(bool))
def test_no_part_of_a_stop_text_is_returned(pieces: list[str], stop: str) -> None:
    found = StopTexts([stop])
    given_away = ""
    for piece in pieces:
        text, stopped = found.feed(piece)
        given_away += text
        if stopped:
            break
    assert stop not in given_away


def test_what_might_become_a_stop_text_is_held_back() -> None:
    found = StopTexts(["\n\n"])
    assert found.feed("one\n") == ("one", False)
    assert found.feed("two") == ("\ntwo", False)
    assert found.feed("\n") == ("", False)
    assert found.rest() == "\n"
