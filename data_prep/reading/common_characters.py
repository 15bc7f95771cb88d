"""The characters that texts in some languages are mostly made of: how a text reads in an encoding is known by them."""

from __future__ import annotations

_CHINESE = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方"
    "多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情"
    "明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给"
    "世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太"
    "量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象"
    "完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清今切院让识候带导争运读久昨晚终故事笔店网页容语料研究"
)
_TRADITIONAL = (
    "這個們來為國說時會對過發後裡道種經麼學現當沒動還進樣開從實軍無與長機業將兩間問應戰頭體見產話內門兒東聲員論處義幾認條係氣題"
    "爾別變總電數報結務場計資許統區隊決馬書則聽達強難權設記類據邊張該規萬覺術領確傳師觀讓識帶導爭運讀終於筆臺灣灣網頁語需要"
    "於著裏點臉錢愛親歲錯買賣樂歡謝請誰誤讚優應該號圖館廳車連遠週"
)
_KANJI = (
    "日本語人一大年出上中下国会生学見行時分気間今来言思小子手自何事者前後場合同新物部"
    "長高書読夜作文章東京都最初問題度私彼女"
)
_KANA = "".join(map(chr, [*range(0x3041, 0x3094), *range(0x30A1, 0x30F7), 0x30FC]))
_HANGUL = (
    "이다는에을가의고하지은를한도로서리사기자어나그시아대일라스인정있보으만해들부수게면것제장전과니주여소마조원구비상성오할우"
    "경관동모요무방안와국세터당때되거실없연공중개내적진말생신위러미분선교유트물더바드치던음르입습했였았었니까저너우리데람사통"
    "계학문화회의발속월년후같많작운산계래알반불본된될간영호두집식양달살편못왜또든군행려야녕민업려심종색재표현용결명천책오랫읽젯밤"
    "글솜씨좋감디끝각체타크파카프포차외김친감여길남북름단강복절호열림날느합용격설프근견책언한국어세계말씀"
)
COMMON = {
    "gb18030": frozenset(_CHINESE + _TRADITIONAL),
    "big5hkscs": frozenset(_CHINESE + _TRADITIONAL),
    "cp932": frozenset(_KANJI + _KANA),
    "euc_jp": frozenset(_KANJI + _KANA),
    "cp949": frozenset(_HANGUL),
}
"""The most common characters of the language that each encoding is for."""
WESTERN_LETTERS = tuple(
    map(
        frozenset,
        (
            "éèêàâçîïôùûëœüÿæ",  # French
            "äöüßéàè",  # German
            "áéíóúñüºª",  # Spanish
            "ãõáéíóúâêôçàüºª",  # Portuguese
            "åäöéüà",  # Swedish, Finnish
            "æøåéèêòóôäöü",  # Danish, Norwegian
            "áéíóúýþæöð",  # Icelandic
            "àèéìòùî",  # Italian
            "àèéíïòóúüç·",  # Catalan
            "ëïéèöüóáê",  # Dutch
        ),
    )
)
"""Letters beside those of ASCII, of one language each."""
