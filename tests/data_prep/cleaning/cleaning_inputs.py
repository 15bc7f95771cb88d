"""Raw files of several kinds with planted dirt, and what has to become of each document."""

from __future__ import annotations

import gzip
import io
import json
import random
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

EVALUATION = "the lighthouse keeper counted seventeen grey seals on the northern rocks before the storm broke at noon"
GERMAN = (
    "Der Bürgermeister erzählte gestern Abend eine lange Geschichte über seine Großmutter und die Ziegen, die sie "
    "über den Fluss gebracht hatte. Alle haben gelacht, und danach wurde beschlossen, dass die Brücke im Frühling "
    "gebaut wird, wenn der Schnee geschmolzen ist und die Straßen wieder trocken sind. Niemand war dagegen."
)
SCRIPT = "<script>alert('not escaped')</script>"


@cache
def vocabulary() -> tuple[str, ...]:
    from pydoc_data.topics import topics

    words = " ".join(topics[name] for name in sorted(topics)).split()
    return tuple(word for word in words if word.isascii() and word.isalpha() and word.islower())


def prose(seed: int, sentences: int = 9) -> str:
    """English words in sentences; texts of different seeds have next to nothing in common."""
    chance, words = random.Random(seed), vocabulary()
    made = (" ".join(["The", *chance.choices(words, k=13), "of", "that"]) + "." for _ in range(sentences))
    return " ".join(made)


def changed(text: str, share: float, seed: int = 0) -> str:
    """`text` with a share of its words replaced by others."""
    chance, words = random.Random(seed), text.split()
    for place in chance.sample(range(len(words)), round(share * len(words))):
        words[place] = chance.choice(vocabulary())
    return " ".join(words)


def html(title: str, paragraphs: list[str]) -> str:
    inner = "".join(f"<p>{p}</p>" for p in paragraphs)
    menu = "<nav><a href='/'>Home</a> <a href='/b'>Contact</a></nav>"
    return (
        f"<html><head><title>{title}</title></head><body>{menu}<article><h1>{title}</h1>{inner}</article></body></html>"
    )


def write_json_lines(path: Path, records: list[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in records)
    data = lines.encode()
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    path.write_bytes(data)
    return path


def write_web(path: Path) -> Path:
    """50 good documents and one of each kind of dirt."""
    repeated = "\n".join(["Buy now and save the most of all that you have."] * 12 + ["And the end of it."])
    records: list[object] = [{"text": prose(i), "id": f"w{i}", "url": f"http://host/{i}"} for i in range(50)]
    records += [
        "{broken",
        {"txet": "x"},
        {"text": None},
        {"text": 7},
        {"text": "  "},
        {"text": prose(0), "id": "exact-copy"},
        {"text": prose(1).replace(". ", ".\n\n").replace(" ", "  "), "id": "whitespace-copy"},
        {"text": changed(prose(2), 0.02), "id": "near-copy"},
        {"text": GERMAN, "id": "german"},
        {"text": f"The short one is {SCRIPT} of that.", "id": "short"},
        {"text": repeated, "id": "repeated"},
        {"text": f"{prose(100)} And so {EVALUATION}, as that was told.", "id": "contaminated"},
        {"text": f"The schÃ¶ne of that, write to joe.doe@host.org. {prose(101)}", "id": "mojibake"},
    ]
    return write_json_lines(path, records)


def write_others(root: Path) -> None:
    """The same sort of documents as CSV, Parquet, HTML, WARC, text and a saved Hugging Face dataset."""
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    rows = [b"id,body,year", *(f'c{i},"{prose(200 + i)}",1990'.encode() for i in range(6)), b"bad,\xff\xfe,1991"]
    (root / "table.csv").write_bytes(b"\n".join(rows) + b"\n")
    texts = [prose(300 + i) for i in range(6)]
    table = {"text": [*texts, None], "raw": [b"\xff"] * 7, "score": [0.5] * 7}
    pq.write_table(pa.table(table), root / "columns.parquet")
    pages = root / "pages"
    pages.mkdir()
    (pages / "a.html").write_text(html("A page", [prose(400), prose(401)]))
    (pages / "b.html").write_text("<html><body></body></html>")
    (pages / "notes.txt").write_text(prose(402))
    (pages / "picture.png").write_bytes(b"\x89PNG")
    with (root / "crawl.warc.gz").open("wb") as stream:
        writer = WARCWriter(stream, gzip=True)
        for number in range(2):
            head = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.0")
            body = html(f"Page {number}", [prose(500 + number), prose(510 + number)]).encode()
            record = writer.create_warc_record(
                f"http://host/{number}", "response", payload=io.BytesIO(body), http_headers=head
            )
            writer.write_record(record)
    folder = root / "saved" / "train"
    folder.mkdir(parents=True)
    (root / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    rows_of_dataset = pa.table({"text": [prose(600 + i) for i in range(5)], "label": list(range(5))})
    with pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink:
        with pa.ipc.new_stream(sink, rows_of_dataset.schema) as stream:
            stream.write_table(rows_of_dataset)


def write_all(root: Path) -> Path:
    """Everything, and the recipe over it; returns the recipe."""
    write_web(root / "web" / "a.jsonl.gz")
    write_json_lines(root / "web" / "b.jsonl", [{"text": prose(700 + i), "id": f"b{i}"} for i in range(40)])
    (root / "web" / "empty.jsonl").write_bytes(b"")
    write_others(root)
    write_json_lines(root / "evaluation" / "quiz.jsonl", [{"question": EVALUATION, "answer": "seventeen"}])
    recipe = root / "recipe.yaml"
    recipe.write_text(
        f"""
output: {root / "clean"}
sources:
  web: {{input: {root / "web"}}}
  table: {{input: {root / "table.csv"}, text_field: body}}
  columns: {{input: {root / "columns.parquet"}}}
  pages: {{input: {root / "pages"}}}
  crawl: {{input: "{root}/*.warc.gz"}}
  saved: {{input: {root / "saved"}}}
stages:
  [unicode, language, gopher_quality, gopher_repetition, c4, fineweb, pii, exact_dedup, minhash_dedup, decontaminate]
language: {{keep: [en], candidates: [en, de, fr], min_confidence: 0.5}}
decontaminate: {{files: ["{root}/evaluation/*.jsonl"], n_grams: 10}}
c4: {{min_num_sentences: 3}}
tasks: 3
work_unit_bytes: 9000
max_malformed_share: 0.2
"""
    )
    return recipe
