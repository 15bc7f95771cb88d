"""Languages other than English: codes that mean the same, words that are told, warnings where a stage does not fit."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path

import pytest
from chinese_texts import chinese, holding, near_copy
from cleaning_inputs import prose, write_json_lines
from datatrove.pipeline.decont import NGramsDecontConfig, NGramsDecontFilter
from datatrove.pipeline.dedup import MinhashConfig, MinhashDedupSignature
from datatrove.utils.word_tokenizers import load_tokenizer_assignments

from configs.errors import ConfigError, DataError
from configs.load import RECIPES, load_config
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.counts import StageCounts
from data_prep.cleaning.hashing import accept_strings
from data_prep.cleaning.language import candidates_of
from data_prep.cleaning.language_codes import check_splitter, two_letters, written_language
from data_prep.cleaning.language_warnings import warnings_of_result, warnings_of_settings
from data_prep.cleaning.run import clean
from data_prep.cleaning.scripts import language_of_script
from data_prep.cleaning.stage_config import LanguageSettings
from data_prep.cleaning.words import CountingSplitter, text_simplification, word_splitter

PRICES = (
    "Apples cost {} euro and pears cost {} euro, and {} of them were sold in the year {} to {} people of the town.\n"
)


@pytest.fixture
def run(run):
    return functools.partial(run, "clean")


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.cleaning.language_codes.find_spec", lambda name: None)


def config_of(**settings: object) -> CleanConfig:
    return CleanConfig(**{"output": Path("o"), "sources": {"a": {"input": "x"}}, "stages": [], **settings})


def same_buckets(left: str, right: str, language: str, ignore_numbers: bool = False) -> bool:
    """Whether the published near-deduplication takes two texts for one."""
    accept_strings()
    config = MinhashConfig(norm_config=text_simplification(language, ignore_numbers))
    step = MinhashDedupSignature("memory://signatures", config, language=word_splitter(language))
    shingles = [step.get_shingles(text) for text in (left, right)]
    if not all(len(found) for found in shingles):
        return False
    return any(a == b for a, b in zip(*map(step.get_signature, shingles)))


@pytest.mark.parametrize("code", ["zh", "ZH", "zho", "cmn", "cmn_Hani", "zh_Hani"])
def test_codes_of_chinese_are_one_language(code: str) -> None:
    assert written_language(code) == written_language("zh")
    assert written_language(code).splitter == "SpaCyTokenizer zh" and not written_language(code).is_spaced


def test_every_code_of_datatrove_has_its_usual_script() -> None:
    assert all(written_language(code).splitter for code in list(load_tokenizer_assignments())[::40])
    assert [written_language(code).key for code in ("hi", "ar", "kn", "ka", "ug")] == [
        "hin_Deva", "arb_Arab", "kan_Knda", "kat_Geor", "uig_Arab"
    ]  # fmt: skip


def test_codes_of_lingua_are_those_of_words() -> None:
    from lingua import Language

    for language in Language.all():
        one, three = language.iso_code_639_1.name.lower(), language.iso_code_639_3.name.lower()
        assert two_letters(three) == one and two_letters(one) == one
    assert candidates_of(LanguageSettings(keep=["cmn"], candidates=["zho", "eng"])) == ("en", "zh")
    given = ["cmn_Hani", "srp_Latn", "srp_Cyrl", "eng_Latn", "zh_Hani", "ARB_Arab"]
    assert [two_letters(code) for code in given] == ["zh", "sr", "sr", "en", "zh", "ar"]
    assert candidates_of(LanguageSettings(keep=["cmn_Hani"], candidates=["cmn_Hani", "srp_Latn"])) == ("sr", "zh")
    with pytest.raises(ConfigError, match=r"(?s)'eng_Hani' is no language that lingua knows.*did you mean: en$"):
        candidates_of(LanguageSettings(keep=["eng_Hani"]))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("zh", r"'zh' are told with jieba, which is not installed\n.*\[chinese\]"),
        ("jpn", r"'jpn' are told with sudachipy and sudachidict-core.*\n.*\[japanese\]"),
        ("th", r"'th' are told with pythainlp and python-crfsuite.*\n.*\[thai\]"),
        ("ko", r"'ko' are told with kiwipiepy.*\n.*pip install kiwipiepy"),
        ("und_Thai", r"no word splitter for 'und_Thai'"),
        ("zh-CN", r"no word splitter for 'zh-CN'\n.*\n.*did you mean: zh$"),
    ],
)
def test_words_that_cannot_be_told_are_refused(no_packages, code: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?m){said}"):
        check_splitter(code)
    for spaced in ("en", "de", "ka", "xx"):
        check_splitter(spaced)


@pytest.mark.slow
def test_near_copies_in_chinese_are_found_as_a_segmenter_finds_them() -> None:
    pairs = [(chinese(seed), near_copy(seed, 0.01)) for seed in range(16)]
    assert sum(same_buckets(*pair, "zh") for pair in pairs) >= 15
    assert sum(same_buckets(*pair, "xx") for pair in pairs) <= 2
    assert not any(same_buckets(chinese(seed), chinese(seed + 100), "zh") for seed in range(5))


@pytest.mark.slow
def test_evaluation_texts_in_chinese_are_found(monkeypatch) -> None:
    accept_strings()
    found = {}
    for language in ("zh", "xx"):
        config = NGramsDecontConfig(n_grams=8, norm_config=text_simplification(language, False))
        step = NGramsDecontFilter("memory://index", config, language=word_splitter(language))
        simple = functools.partial(text_simplification, language)
        assert not simple(True).norm_unicode_diacritics or language == "xx"
        from datatrove.utils.text import ngrams, simplify_text

        evaluation = [chinese(1000 + seed, 2) for seed in range(20)]
        words = [step.tokenizer.word_tokenize(simplify_text(text, config.norm_config)) for text in evaluation]
        step._index_hashes = {step.hash_func(" ".join(n)): "quiz" for text in words for n in ngrams(text, 8)}
        from datatrove.data import Document

        texts = [holding(seed, text) for seed, text in enumerate(evaluation)]
        found[language] = sum(step.filter(Document(text, "x", metadata={})) is not True for text in texts)
        assert all(step.filter(Document(chinese(seed), "x", metadata={})) is True for seed in range(20))
    assert found["zh"] >= 18 and found["xx"] <= 2


def test_price_lists_are_one_only_where_numbers_are_ignored() -> None:
    first, second = ("".join(PRICES.format(*range(k, k + 50, 10)) for k in range(s, s + 9)) for s in (100, 7000))
    assert not same_buckets(first, second, "en")
    assert same_buckets(first, second, "en", ignore_numbers=True)
    assert not config_of().minhash_dedup.ignore_numbers and not config_of().decontaminate.ignore_numbers


def test_marks_that_are_letters_stay_in_what_is_compared() -> None:
    from datatrove.utils.text import simplify_text

    for language, text in (("th", "ที่นี่"), ("ja", "がぎぐ"), ("ko", "한국"), ("hi", "कि")):
        assert simplify_text(text, text_simplification(language, False)) == text
    assert simplify_text("Café 12", text_simplification("fr", True)) == "cafe 0"


def test_stages_made_for_english_are_said() -> None:
    stages = ["unicode", "language", "gopher_quality", "c4", "fineweb", "minhash_dedup"]
    published = config_of(stages=stages, language={"keep": ["zh"]}, unicode={"normalization": "NFKC"})
    said = warnings_of_settings(published)
    for part in ("stop_words", "word_language=zh", "terminal_punct", "min_avg", "spaces", "short_line", "！"):
        assert sum(part in line for line in said) == 1, (part, said)
    assert warnings_of_settings(config_of(stages=stages)) == []
    assert warnings_of_settings(load_config(CleanConfig, RECIPES / "data_prep" / "clean-zh.yaml")) == []
    german = warnings_of_settings(config_of(stages=["gopher_quality"], word_language="deu"))
    assert len(german) == 1 and "texts in de have none" in german[0]


def test_what_was_recognised_is_compared_with_the_settings() -> None:
    config = config_of(stages=["language", "minhash_dedup"], language={"keep": []})
    stage = {"name": "minhash_dedup", "words": 99, "characters": 1000, "unspaced_characters": 0}
    report = {"languages": {"zh": 7, "en": 3}, "stages": [stage]}
    said = warnings_of_result(config, report)
    assert len(said) == 2 and "most documents are in zh" in said[0] and "word_language=zh" in said[0]
    assert "minhash_dedup saw 99 words in 1,000 characters" in said[1]
    report = {"languages": {"en": 3}, "stages": [{**stage, "words": 100}]}
    assert warnings_of_result(config, report) == []
    report["stages"] = [{**stage, "words": 200, "unspaced_characters": 51}]
    (said,) = warnings_of_result(config, report)
    assert "5% of a script without spaces" in said
    chinese_recipe = config_of(stages=["minhash_dedup"], word_language="zh")
    assert warnings_of_result(chinese_recipe, report) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("操作系统的测试文档 with some Latin", "zh"),
        ("これは日本語の文章です。東京都", "ja"),
        ("Це українська мова", "ru"),
        ("ภาษาไทย", "th"),
        ("한국어 문장", "ko"),
        ("Café “quoted” — naïve 操", ""),
        ("plain", ""),
    ],
)
def test_scripts_are_told(text: str, code: str) -> None:
    assert language_of_script(text) == code


def test_scripts_are_compared_with_the_settings() -> None:
    report = {"languages": {}, "stages": [], "scripts": {"": 90, "zh": 8, "ru": 2}}
    quality = config_of(stages=["gopher_quality"])
    said = warnings_of_result(quality, report)
    assert len(said) == 3 and all(line.startswith("8 of 100 documents are in the script of zh, ") for line in said)
    for part in ("word_language=zh", "stop_words", "min_avg_word_length"):
        assert sum(part in line for line in said) == 1
    (line,) = warnings_of_result(config_of(stages=["unicode"], unicode={"normalization": "NFKC"}), report)
    assert "NFKC makes ，！？ of zh ASCII" in line
    assert warnings_of_result(config_of(stages=["gopher_quality"], word_language="yue"), report) == []
    assert warnings_of_result(config_of(stages=["language", "gopher_quality"]), report) == []
    telling = config_of(stages=["language", "gopher_quality"], language={"keep": []})
    assert warnings_of_result(telling, report) == said


@pytest.mark.slow
def test_chinese_in_a_recipe_for_english_is_warned_about(run, tmp_path: Path) -> None:
    records = [{"text": text} for seed in range(8) for text in (chinese(seed), prose(seed))]
    given = ["clean-minimal", "stages=[gopher_quality]", "tasks=2", "workers=1"]
    source = write_json_lines(tmp_path / "a.jsonl", records)
    status, out, err = run(*given, f"sources.raw.input={source}", f"output={tmp_path / 'a'}")
    assert status == 0 and "warning: 8 of 16 documents are in the script of zh, word_language = en" in out, out + err
    source = write_json_lines(tmp_path / "b.jsonl", records[::2])
    status, out, err = run(*given, f"sources.raw.input={source}", f"output={tmp_path / 'b'}")
    assert status == 2 and "8 of 8 documents are in the script of zh, word_language = en" in err
    assert "min_avg_word_length = 3 is more than words of zh have" in err


@pytest.mark.slow
def test_c4_finds_the_sentences_of_long_chinese_lines(run, tmp_path: Path) -> None:
    source = write_json_lines(tmp_path / "a.jsonl", [{"text": chinese(seed, 30)} for seed in range(3)])
    status, out, err = run(
        "clean-zh", "stages=[c4]", f"sources.raw.input={source}", f"output={tmp_path / 'o'}", "tasks=1"
    )
    assert status == 0 and "3 of 3 documents kept" in out, out + err


def test_what_a_comparison_sees_is_counted() -> None:
    stage = StageCounts()
    for text in ("操作系统的 test", "two words"):
        CountingSplitter(word_splitter("zh"), stage).word_tokenize(text)
    assert (stage.words, stage.characters, stage.unspaced) == (5, 19, 5)
    sentences = StageCounts()
    CountingSplitter(word_splitter("zh"), sentences).sent_tokenize("操作系统。测试文档。")
    assert (sentences.units, sentences.words, sentences.characters, sentences.unspaced) == (2, 0, 10, 8)


@pytest.mark.slow
def test_chinese_is_cleaned_by_its_recipe(run, tmp_path: Path) -> None:
    planted = [{"text": near_copy(seed, 0.01), "id": f"near{seed}"} for seed in range(10)]
    evaluation = chinese(1000, 2)
    planted += [{"text": holding(500, evaluation), "id": "contaminated"}, {"text": prose(1), "id": "english"}]
    texts = [{"text": chinese(seed), "id": f"zh{seed}"} for seed in range(30)]
    source = write_json_lines(tmp_path / "a.jsonl", [*texts, *planted])
    quiz = write_json_lines(tmp_path / "quiz.jsonl", [{"question": evaluation}])
    stages = "stages=[unicode,language,gopher_repetition,gopher_quality,fineweb,minhash_dedup,decontaminate]"
    given = ["clean-zh", stages, f"sources.raw.input={source}", f"decontaminate.files=[{quiz}]", "tasks=2"]
    status, out, err = run(*given, "output=" + str(tmp_path / "zh"))
    assert (status, "warning" in out + err) == (0, False), out + err
    report = json.loads((tmp_path / "zh" / "report.json").read_text())
    dropped = {stage["name"]: stage["dropped"] for stage in report["stages"] if stage["dropped"]}
    assert dropped == {"language": 1, "minhash_dedup": 10, "decontaminate": 1}
    assert report["warnings"] == []
    status, out, err = run(
        *given,
        "word_language=xx",
        "stages=[minhash_dedup,decontaminate]",
        "decontaminate.n_grams=2",
        f"output={tmp_path / 'xx'}",
    )
    assert status == 0 and "warning: minhash_dedup saw" in out, out + err
    assert "Warning: minhash_dedup saw" in (tmp_path / "xx" / "report.html").read_text()


@pytest.mark.slow
def test_a_cleaning_that_keeps_nothing_is_an_error(run, tmp_path: Path) -> None:
    source = write_json_lines(tmp_path / "a.jsonl", [{"text": f"short {number}"} for number in range(5)])
    given = ["clean-minimal", f"sources.raw.input={source}", f"output={tmp_path / 'out'}", "tasks=1", "workers=1"]
    for _ in range(2):
        status, out, err = run(*given, "stages=[gopher_quality]")
        assert (status, out) == (2, "") and "keeps none of 5 documents" in err
        assert "gopher_quality: gopher_short_doc (5)" in err and "next:" not in err
        assert not (tmp_path / "out").exists() and (tmp_path / "out.partial" / "report.html").is_file()
    config = load_config(CleanConfig, RECIPES / "data_prep" / "clean-minimal.yaml", given[1:])
    with pytest.raises(DataError, match="keeps none"):
        clean(config.model_copy(update={"stages": ["gopher_quality"]}))


def test_jieba_says_nothing_about_its_dictionary(capfd) -> None:
    assert importlib.util.find_spec("jieba")
    assert len(word_splitter("zh").word_tokenize("操作系统的测试文档")) == 4
    assert capfd.readouterr() == ("", "")
