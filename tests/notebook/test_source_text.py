"""A source's text, cut at its cells."""

from kaggle_kit.notebook.source_text import cut_source


def test_no_cells():
    """An empty source is one without cells."""
    cut = cut_source("", where="here")
    assert (cut.head, cut.segments) == ("", ())


def test_a_comment_like_a_marker_is_none():
    """A comment that begins with `%%` and a word cuts no cell."""
    assert cut_source('# %% name="a"\n# %%time\nx = 1\n', where="here").names == ["a"]
