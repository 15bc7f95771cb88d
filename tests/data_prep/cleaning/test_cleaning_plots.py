"""Pictures of a cleaning report: letters of any script stay letters, which the browser draws."""

from __future__ import annotations

import warnings

from data_prep.cleaning import plots


def test_names_of_sources_are_letters_of_the_page() -> None:
    counts = {"documents_in": 3, "documents_out": 2}
    report = {
        "input": {"documents_in": 6},
        "sources": {"新闻": counts, "news": counts},
        "stages": [{"name": "repetition", "dropped": 1, "sources": {"新闻": {"dropped": 1}}, "reasons": {}}],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = plots.sources(report)
    assert ">新闻</text>" in picture and ">news</text>" in picture
