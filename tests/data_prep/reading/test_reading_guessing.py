"""What encoding bytes are guessed to be in: of short texts the right one or none, and never a page of DOS by chance."""

import time

import pytest

from data_prep.reading.guessing import guess_encoding, said_guess
from data_prep.reading.page_decoding import decode_page

WESTERN = [
    "Café déjà vu naïve.",
    "Café déjà vu naïve à la façon é è ê.",
    "été à l'école",
    "J'ai lu ce livre très longtemps",
    "Größe über Öl, schöne Straße",
    "Müller aus Köln und Bäcker aus Düsseldorf",
    "El niño comió piña en la montaña mañana",
    "¿Qué tal, señor? ¡Adiós!",
    "coração, não, você, ação",
    "A informação não está disponível às três",
    "Räksmörgås på sjön",
    "är för små åäö",
    "rødgrød med fløde på Ærø",
    "Það er góður dagur í Reykjavík",
]
OTHERS = [
    ("Zażółć gęślą jaźń", "cp1250", "cp1250"),
    ("Łódź, Kraków, Wrocław, Gdańsk", "cp1250", "cp1250"),
    ("Dzień dobry, jak się masz? Dziękuję, świetnie.", "cp1250", "cp1250"),
    ("Příliš žluťoučký kůň úpěl ďábelské ódy", "cp1250", "cp1250"),
    ("čeština je krásná řeč", "cp1250", "cp1250"),
    ("Příliš žluťoučký kůň úpěl ďábelské ódy", "iso8859-2", "iso8859-2"),
    ("שלום עולם, מה שלומך היום", "cp1255", "cp1255"),
    ("Καλημέρα κόσμε, τι κάνεις σήμερα", "iso8859-7", "iso8859-7"),
    *(
        (text, written, written)
        for text in ("Привет, мир", "Москва", "Эту книгу я читал очень долго", "ПРИВЕТ МИР", "Где он?")
        for written in ("cp1251", "koi8-r")
    ),
    *(
        (text, "gbk", "gb18030")
        for text in ("中文", "你好", "日本语", "这本书我读了很久", "这本书我读了很久，终于在昨天晚上读完了。")
    ),
    *(
        (text, "big5", "big5hkscs")
        for text in ("中文", "你好", "中文中文", "這本書我讀了很久", "這本書我讀了很久，終於在昨天晚上讀完了。")
    ),
    *(
        (text, written, guessed)
        for text in ("日本語", "東京都", "こんにちは", "ありがとう", "カタカナ", "この本をずっと読んでいましたが、昨日")
        for written, guessed in (("shift_jis", "cp932"), ("euc_jp", "euc_jp"))
    ),
    *((text, "euc_kr", "cp949") for text in ("한국어", "안녕", "안녕하세요", "이 책을 오랫동안 읽었는데 어젯밤에")),
]
CERTAIN = 16  # bytes that are not ASCII: with so many there is a guess


@pytest.mark.parametrize("written", ["latin-1", "cp1252"])
@pytest.mark.parametrize("text", WESTERN)
def test_short_western_texts_are_in_one_western_encoding(text, written):
    raw = text.encode(written)
    assert guess_encoding(raw) in ("cp1252", None)
    if sum(not character.isascii() for character in text) >= 4:
        assert guess_encoding(raw) == "cp1252"
        assert "encoding=cp1252 reads it" in (said_guess(raw) or "")


def test_that_few_letters_tell_no_encoding_is_said_with_what_to_set():
    expected = (
        "is in an encoding that so few letters do not tell: encoding=cp1252, encoding=gb18030 or another names it"
    )
    assert said_guess("中文".encode("big5")) == said_guess(b"M\xfcller, K\xf6ln") == expected
    assert said_guess("Müller, Köln".encode()) is said_guess(b"caf\xe9") is None


def test_punctuation_of_western_texts_is_that_of_windows():
    assert guess_encoding("“It’s only a test” – she said…".encode("cp1252")) == "cp1252"
    assert guess_encoding("« déjà » – l’œuvre “vue”".encode("cp1252")) == "cp1252"


@pytest.mark.parametrize("times", [1, 20])
@pytest.mark.parametrize(
    "text",
    [
        "Åbent kl. 8–16, det er på Ærø. ",
        "Le menu à 15€, l’entrée à 5€. Température : 25°C l’été. Réservé aux élèves. ",
        "Els col·legis de la il·luminació i la novel·la són molt útils. ",
        "Nach §5 Abs. 2 und §7 BGB gilt: Die Prüfung muß früh erfolgen. ",
        "Il prezzo è di 15€ al mese. Così è più economico. ",
        "Our shop sells tea from £5 and coffee from £7. ",
        "Home\xa0page | About\xa0us | Our\xa0products | Contact\xa0us\n",
        "20° in London, 18° in Leeds ",
    ],
)
def test_pages_with_signs_of_numbers_and_spaces_are_western(text, times):
    found = decode_page((text * times).encode("cp1252"))
    assert (found.text, found.encoding, found.reason) == (text * times, "cp1252", "guess")


@pytest.mark.parametrize("times", [1, 3, 30])
@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Praha je hlavní město České republiky. ", "cp1250"),
        ("Praha je hlavní město České republiky. ", "iso8859-2"),
        ("Această pădure este şi ţara noastră, mai frumoasă ca oricând. ", "iso8859-2"),
        ("Über die Brücke läuft ein Mädchen mit schönen Füßen nach München. ", "cp850"),
        ("Über die Brücke läuft ein Mädchen mit schönen Füßen nach München. ", "mac-roman"),
        ("5µm ", "cp1252"),
    ],
)
def test_a_guess_reads_the_text_or_there_is_none(text, written, times):
    raw = (text * times).encode(written)
    guessed = guess_encoding(raw)
    assert guessed is None or raw.decode(guessed) == text * times


@pytest.mark.parametrize(
    "text", ["Οι λειτουργίες τερματισμού λειτουργίας είναι:", "μετατροπής associative πίνακα σε indexed πίνακα"]
)
def test_greek_of_old_macs_is_no_other_greek(text):
    assert guess_encoding(text.encode("mac_greek")) is None
    for written in ("iso8859-7", "cp737"):
        assert guess_encoding(text.encode(written)) == written


@pytest.mark.parametrize(("text", "written", "guessed"), OTHERS)
def test_a_guess_at_a_short_text_is_right_or_there_is_none(text, written, guessed):
    raw = text.encode(written)
    expected = (guessed,) if sum(byte > 0x7F for byte in raw) >= CERTAIN else (guessed, None)
    assert guess_encoding(raw) in expected


@pytest.mark.parametrize(("text", "written", "guessed"), OTHERS)
def test_several_lines_of_it_are_guessed_no_worse(text, written, guessed):
    raw = "".join(f"{number}: {text}\n" for number in range(5)).encode(written)
    assert guess_encoding(raw) in (guessed, None)


@pytest.mark.parametrize("written", ["cp437", "cp850", "cp852", "mac_roman", "cp500"])
def test_short_texts_of_dos_are_no_other_encoding(written):
    for text in ("Café déjà vu naïve.", "Größe über Öl, schön"):
        raw = text.encode(written, "ignore")
        guessed = guess_encoding(raw)
        assert guessed is None or raw.decode(guessed) == raw.decode(written)


@pytest.mark.parametrize("meta", ["", '<meta charset="utf-8">'])
@pytest.mark.parametrize("written", ["latin-1", "cp1252"])
def test_a_western_page_that_declares_nothing_or_another_encoding(meta, written):
    page = f"<html><head>{meta}</head><body><p>Café déjà vu naïve.</p>{'<p>A page in English.</p>' * 9}</body></html>"
    found = decode_page(page.encode(written))
    assert (found.text, found.encoding, found.reason, found.replaced) == (page, "cp1252", "guess", 0)


@pytest.mark.parametrize("written", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["这本书\n", "第一章", "text\n第一\n", "id,text\n1,Café\n", "Привет мир"])
def test_small_texts_of_two_bytes_a_letter(text, written):
    raw = text.encode(written)
    assert guess_encoding(raw) == (written if b"\0" in raw and text != "第一章" else None)


def test_binary_data_is_no_text_of_two_bytes_a_letter():
    assert guess_encoding(bytes(range(8)) * 4) is None
    assert guess_encoding(b"plain\0text") is None


@pytest.mark.parametrize(
    ("page", "written"),
    [
        ("Łódź jest trzecim co do wielkości miastem w Polsce.", "cp1250"),
        ("Nőttek a fűzfák.", "cp1250"),
        ("Işıklar söndü, herkes uyudu.", "cp1254"),
        ("Rīgā dzīvo daudz cilvēku.", "cp1257"),
        ("Price: 100 元 / 5 米", "gb18030"),
        ("Prices: 100 元, 水 water", "big5"),
        ("Learn kanji: 水 water, 火 fire, 木 tree", "euc_jp"),
    ],
)
def test_small_pages_of_other_languages_are_not_taken_for_western_ones(page, written):
    assert decode_page(f"<p>{page}</p>".encode(written)).reason == "unreadable"


@pytest.mark.parametrize("page", ["© 2020 Müller", "only 5 £", "a naïve idea – at best", "She said “no”"])
def test_pages_with_few_western_letters_and_signs_are_read(page):
    found = decode_page(f"<p>{page}</p>".encode("cp1252"))
    assert (found.text, found.reason) == (f"<p>{page}</p>", "guess")


@pytest.mark.parametrize("times", [1, 4, 50])
@pytest.mark.parametrize(
    ("text", "written", "right"),
    [
        ("株式会社 電話番号 住所 氏名 ", "euc_jp", ["euc_jp"]),
        ("会社概要\n採用情報\n製品案内\n", "euc_jp", ["euc_jp"]),
        ("Rīgā dzīvo daudz cilvēku. ", "cp1257", [None, "cp1257", "iso8859-13"]),
        ("Močiutė jiems pasakojo pasaką apie piktą vilką. ", "cp1257", [None, "cp1257", "iso8859-13"]),
        ("Le café était fermé, nous sommes allés à l'hôtel.\n", "cp850", [None, "cp850"]),
        ("Le café était fermé, nous sommes allés à l'hôtel.\n", "mac_roman", [None]),
        ("ВЧЕРА ВЕЧЕРОМ ШЁЛ ДОЖДЬ, И ДЕТИ ОСТАЛИСЬ ", "cp866", [None, "cp866"]),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy. " * 2, "cp852", ["cp852"]),
        ("Вчера вечером шёл дождь, и дети остались дома. ", "cp866", ["cp866"]),
    ],
)
def test_the_guess_is_the_right_one_or_none(text, written, right, times):
    assert guess_encoding((text * times).encode(written)) in right


@pytest.mark.parametrize("sign", "°×€–")
def test_a_number_before_many_signs_is_seen_at_once(sign: str) -> None:
    begin = time.process_time()
    guess_encoding(f"El niño comió piña en la montaña mañana 1{sign * 24}é".encode("cp1252"))
    assert time.process_time() - begin < 0.2


def test_a_declaration_of_many_blanks_is_seen_at_once() -> None:
    raw = b"<meta" * 20 + b"charset=" + b" " * 3500 + b"!"
    begin = time.process_time()
    assert decode_page(raw).encoding == "utf-8"
    assert time.process_time() - begin < 0.2
