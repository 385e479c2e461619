"""Phrasings of what the model is for: a number, a language, and a request around them."""

import random

from spelling import LANGUAGES

# How each language is named: in English, by its own speakers, and by speakers of five others.
IN_ENGLISH = {"en": ["English"], "de": ["German"], "fr": ["French"], "ru": ["Russian"], "lt": ["Lithuanian"], "kk": ["Kazakh"],
              "tr": ["Turkish"], "ja": ["Japanese"], "ko": ["Korean"], "id": ["Indonesian"], "hu": ["Hungarian"], "th": ["Thai"],
              "fa": ["Persian", "Persian", "Persian", "Farsi"], "eo": ["Esperanto"]}  # fmt: skip
OWN_NAME = {
    "en": ["English"],
    "de": ["Deutsch", "Deutsche", "deutsch"],
    "fr": ["français", "Français", "francais"],
    "ru": ["русский", "по-русски", "русском"],
    "lt": ["lietuviškai", "lietuvių", "lietuvių kalba"],
    "kk": ["қазақша", "қазақ тілі", "Қазақ тілі", "Qazaqsha", "қазақ"],
    "tr": ["Türkçe", "türkçe", "Turkce"],
    "ja": ["日本語", "にほんご", "Nihongo"],
    "ko": ["한국어", "한국말", "Hangugeo"],
    "id": ["Bahasa Indonesia", "bahasa Indonesia", "Indonesia"],
    "hu": ["magyar", "magyarul", "Magyar"],
    "th": ["ไทย", "ภาษาไทย", "Phasa Thai"],
    "fa": ["فارسی", "زبان فارسی"],
    "eo": ["Esperanto", "esperante", "esperanto"],
}


def names(text: str) -> dict[str, list[str]]:
    return {code: [name.replace("_", " ")] for code, name in zip(LANGUAGES, text.split(), strict=True)}


IN_GERMAN = names("""Englisch Deutsch Französisch Russisch Litauisch Kasachisch Türkisch Japanisch Koreanisch Indonesisch
Ungarisch Thailändisch Persisch Esperanto""")
IN_FRENCH = names("""anglais allemand français russe lituanien kazakh turc japonais coréen indonésien hongrois thaï persan
espéranto""")
IN_JAPANESE = names("""英語 ドイツ語 フランス語 ロシア語 リトアニア語 カザフ語 トルコ語 日本語 韓国語 インドネシア語 ハンガリー語 タイ語
ペルシア語 エスペラント語""")
IN_KAZAKH = names("""ағылшынша немісше французша орысша литваша қазақша түрікше жапонша кәрісше индонезияша мажарша тайша
парсыша эсперантоша""")
IN_RUSSIAN = names("""по-английски по-немецки по-французски по-русски по-литовски по-казахски по-турецки по-японски по-корейски
по-индонезийски по-венгерски по-тайски по-персидски на_эсперанто""")

ENGLISH_FRAMES = [
    "Spell {n} in {l}", "Spell {n} in {l}", "Spell {n} in {l}", "Spell out {n} in {l}", "Spell the number {n} in {l}",
    "{n} in {l}", "{n} in {l}", "{n} in {l} words", "{n} in words in {l}", "{n} {l}", "{l} {n}", "{l}: {n}", "{n}, {l}",
    "in {l}: {n}", "in {l}, {n}", "{n} to {l}", "number {n} in {l}", "the number {n} in {l}", "the {l} for {n}",
    "How do you say {n} in {l}", "How do I say {n} in {l}", "How to say {n} in {l}", "how would you say {n} in {l}",
    "How do you spell {n} in {l}", "How do you write {n} in {l}", "How is {n} written in {l}", "How is {n} spelled in {l}",
    "How is {n} said in {l}", "How is {n} pronounced in {l}", "What is {n} in {l}", "What is {n} in {l} words",
    "What's {n} in {l}", "What is the {l} for {n}", "What is the {l} word for {n}", "Write {n} in {l}",
    "Write {n} in {l} words", "Write {n} in words in {l}", "Write the number {n} in {l}", "Write out {n} in {l}",
    "Write {n} as {l} words", "Say {n} in {l}", "Say the number {n} in {l}", "Read {n} in {l}", "Read {n} aloud in {l}",
    "Convert {n} to {l}", "Convert {n} to {l} words", "Convert {n} into {l} words", "Translate {n} to {l}",
    "Translate {n} into {l}", "Translate the number {n} into {l}", "Verbalise {n} in {l}", "Verbalize {n} in {l}",
    "Please spell {n} in {l}", "Please write {n} in {l}", "Can you spell {n} in {l}", "Can you write {n} in {l}",
    "Could you spell {n} in {l}", "Could you say {n} in {l}", "Give me {n} in {l}", "Tell me {n} in {l}",
    "Show {n} in {l}", "I want {n} in {l}", "I need {n} in {l} words", "I need the number {n} spelled in {l}",
    "Spell it in {l}: {n}", "Spell in {l}: {n}", "Write in {l}: {n}", "Say in {l}: {n}", "In {l}, how do you say {n}",
    "In {l}, spell {n}", "Number to words, {l}: {n}", "spell {n}, in {l}", "{n} = ? in {l}", "n = {n}, language = {l}",
]  # fmt: skip
SHORT_FRAMES = ["Spell {n} in {l}", "{n} in {l}", "{n} {l}", "{l} {n}", "{l}: {n}"]
GERMAN_FRAMES = [
    "{n} auf {l}", "{n} auf {l}", "{l}: {n}", "Schreibe {n} auf {l}", "Schreib {n} auf {l}", "Sag {n} auf {l}",
    "Wie sagt man {n} auf {l}", "Wie schreibt man {n} auf {l}", "Wie heißt {n} auf {l}", "Was ist {n} auf {l}",
    "die Zahl {n} auf {l}", "Schreibe die Zahl {n} auf {l}", "Bitte {n} auf {l}", "{n} in Worten auf {l}",
    "{n} ausgeschrieben auf {l}",
]  # fmt: skip
FRENCH_FRAMES = [
    "{n} en {l}", "{n} en {l}", "{l} : {n}", "Écris {n} en {l}", "Écrivez {n} en {l}", "Comment dit-on {n} en {l}",
    "Comment écrit-on {n} en {l}", "le nombre {n} en {l}", "{n} en lettres en {l}", "Dis {n} en {l}",
]  # fmt: skip
JAPANESE_FRAMES = [
    "{n}を{l}で", "{n}を{l}で書いて", "{n}を{l}で書いてください", "{n}を{l}で読んで", "{l}で{n}", "{l}で{n}は何ですか",
    "{n}は{l}で何ですか", "{n}は{l}で何", "{n}を{l}で言って", "{n} {l}", "{l}: {n}", "数字の{n}を{l}で",
]  # fmt: skip
KAZAKH_FRAMES = [
    "{n} {l}", "{l} {n}", "{n} {l} жаз", "{n} {l} қалай", "{n} {l} қалай жазылады", "{n} {l} қалай айтылады",
    "{n} санын {l} жаз", "{n} санын {l} жазыңыз", "{l}: {n}", "{n} саны {l}",
]  # fmt: skip
RUSSIAN_FRAMES = ["{n} {l}", "Напиши {n} {l}", "Как будет {n} {l}", "Как сказать {n} {l}", "Число {n} {l}"]

# Frames in which people ask for their own language.
OWN_FRAMES = [
    (["{n} {l}", "{n} {l} nasıl yazılır", "{n} {l} nasıl okunur", "{l} {n}", "{n} sayısını {l} yaz"], {"tr": ["Türkçe", "türkçe"]}),
    (["{n} {l}", "{n} {l}로", "{n}을 {l}로 써 줘", "{n}은 {l}로 뭐예요", "{l}: {n}"], {"ko": ["한국어", "한국말"]}),
    (["{n} dalam {l}", "Tulis {n} dalam {l}", "Bagaimana menulis {n} dalam {l}", "Eja {n} dalam {l}"],
     {"id": ["bahasa Indonesia", "Bahasa Indonesia"]}),
    (["{n} {l}", "Írd le {l}: {n}", "Hogy van {n} {l}", "Hogyan írjuk {n} {l}"], {"hu": ["magyarul"]}),
    (["{n} {l}", "เขียน {n} เป็น{l}", "{n} เป็น{l}", "อ่าน {n} เป็น{l}"], {"th": ["ภาษาไทย"]}),
    (["{n} به {l}", "{n} به {l} بنویس", "{n} را به {l} بنویس", "عدد {n} به {l}"], {"fa": ["فارسی"]}),
    (["{n} {l}", "Skribu {n} {l}", "Kiel oni diras {n} {l}", "Kiel skribi {n} {l}"], {"eo": ["esperante", "Esperante"]}),
    (["{n} {l}", "Parašyk {n} {l}", "Kaip parašyti {n} {l}", "Kaip bus {n} {l}"], {"lt": ["lietuviškai"]}),
]  # fmt: skip

ENDINGS = [""] * 14 + [".", "?", "?", "!", " ?", " please", ", please", "...", "??", " thanks"]
OPENINGS = [""] * 30 + ["Hi, ", "Hello, ", "Hey, ", "please ", "Please, ", "ok, ", "Now ", "So, "]


def grouped(number: int, by: str) -> str:
    """With a separator before each group of three digits."""
    return f"{number:,}".replace(",", by)


def written(rng: random.Random, number: int) -> str:
    """The number as people type it."""
    if number >= 1000:
        draw = rng.random()
        if draw < 0.14:
            return grouped(number, ",")
        if draw < 0.24:
            return grouped(number, " ")
    return str(number)


TABLES = [(ENGLISH_FRAMES, IN_ENGLISH), (ENGLISH_FRAMES, OWN_NAME), (GERMAN_FRAMES, IN_GERMAN), (FRENCH_FRAMES, IN_FRENCH),
          (JAPANESE_FRAMES, IN_JAPANESE), (KAZAKH_FRAMES, IN_KAZAKH), (RUSSIAN_FRAMES, IN_RUSSIAN)]  # fmt: skip
TABLE_WEIGHTS = [64, 14, 4, 3, 4, 4, 3]


def frame(rng: random.Random) -> tuple[str, dict[str, list[str]]]:
    """A phrasing, and the names of the languages that fit into it."""
    if rng.random() < 0.05:
        frames, fitting = rng.choice(OWN_FRAMES)
    else:
        frames, fitting = rng.choices(TABLES, TABLE_WEIGHTS)[0]
    return rng.choice(frames), fitting


def typed(rng: random.Random, text: str) -> str:
    """Openings, endings and capitals as people leave them."""
    text = rng.choice(OPENINGS) + text + rng.choice(ENDINGS)
    draw = rng.random()
    if draw < 0.25:
        return text.lower()
    if draw < 0.28:
        return text.upper()
    if draw < 0.40:
        return text[:1].lower() + text[1:]
    return text


def request(rng: random.Random, code: str, number: int) -> str:
    """A request to spell `number` in the language `code`."""
    own = [pair for pair in OWN_FRAMES if code in pair[1]]
    if own and rng.random() < 0.10:
        frames, fitting = own[0]
        words = rng.choice(frames)
    else:
        frames, fitting = rng.choices(TABLES, TABLE_WEIGHTS)[0]
        words = rng.choice(frames)
    return typed(rng, words.format(n=written(rng, number), l=rng.choice(fitting[code])))


def short_request(rng: random.Random, code: str, number: int) -> str:
    """A request in few characters: a reader's time goes to the answer."""
    return rng.choice(SHORT_FRAMES).format(n=written(rng, number), l=rng.choice(IN_ENGLISH[code]))


def every_name() -> set[str]:
    """Every name of a language of the model, in small letters."""
    tables = [fitting for _, fitting in TABLES + OWN_FRAMES]
    return {name.lower() for table in tables for listed in table.values() for name in listed}
