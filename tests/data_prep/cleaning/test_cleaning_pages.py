"""Pages and texts of crawlers through the command: nothing is lost on the way, and what is, is counted."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from cleaning_inputs import prose, write_json_lines
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter


def text_archive(path: Path, texts: list[str]) -> Path:
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True)
        for number, text in enumerate(texts):
            payload = io.BytesIO(text.encode())
            record = writer.create_warc_record(
                f"http://a/{number}", "conversion", payload=payload, warc_content_type="text/plain"
            )
            writer.write_record(record)
    return path


def page_archive(path: Path, pages: list[tuple[bytes, str]]) -> Path:
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True)
        for number, (raw, content_type) in enumerate(pages):
            http = StatusAndHeaders("200 OK", [("Content-Type", content_type)], protocol="HTTP/1.1")
            record = writer.create_warc_record(
                f"http://b/{number}", "response", payload=io.BytesIO(raw), http_headers=http
            )
            writer.write_record(record)
    return path


def html(text: str) -> str:
    return f"<html><head><title>t</title></head><body><article><p>{text}</p></article></body></html>"


@pytest.mark.slow
def test_texts_pass_by_extraction_and_all_sources_are_counted(run, tmp_path: Path) -> None:
    texts = [prose(number) for number in range(20)]
    text_archive(tmp_path / "a.warc.wet.gz", texts)
    latin = "Café déjà vu naïve. " + prose(40)
    pages = [
        (html(latin).encode("latin-1"), "text/html; charset=iso-8859-1"),
        (html(prose(41)).encode(), "text/html"),
        (b"\x89PNG", "image/png"),
    ]
    page_archive(tmp_path / "b.warc.gz", pages)
    write_json_lines(tmp_path / "c.jsonl", [{"text": prose(number)} for number in range(60, 65)])
    sources = {"web": [f"{tmp_path}/a.warc.wet.gz", f"{tmp_path}/b.warc.gz"], "lines": [f"{tmp_path}/c.jsonl"]}
    settings = [f"sources.{name}.input={json.dumps(value)}" for name, value in sources.items()]
    status, out, err = run("clean", f"output={tmp_path}/out", "stages=[]", "tasks=1", "compression=none", *settings)
    assert status == 0 and "Traceback" not in err, err
    assert out.startswith("27 of 28 documents kept"), out
    documents = [json.loads(line) for line in (tmp_path / "out" / "documents" / "00000.jsonl").read_text().splitlines()]
    assert [document["text"] for document in documents if document["source"] == "web"][:20] == texts
    assert any("Café déjà vu naïve." in document["text"] for document in documents)
    assert not any("is_text" in document for document in documents)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["output"]["documents_out"] == len(documents) == 27
    assert {name: counts["documents_out"] for name, counts in report["sources"].items()} == {"web": 22, "lines": 5}
    read = next(stage for stage in report["stages"] if stage["name"] == "read")
    assert read["reasons"] == {"no page but image/png": {"documents": 1, "bytes": 6, "sources": {"web": 1}}}
