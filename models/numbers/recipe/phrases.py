"""Phrasings of what the model is for: a number, a language, and a request around them."""

import random

# How each language is named, by the language of the request.
IN_ENGLISH = {"en": ["English"], "de": ["German"], "ja": ["Japanese"], "kk": ["Kazakh"]}
OWN_NAME = {
    "en": ["English"],
    "de": ["Deutsch", "Deutsche", "deutsch"],
    "ja": ["日本語", "にほんご", "Nihongo"],
    "kk": ["қазақша", "қазақ тілі", "Қазақ тілі", "Qazaqsha", "қазақ"],
}
IN_GERMAN = {"en": "Englisch", "de": "Deutsch", "ja": "Japanisch", "kk": "Kasachisch"}
IN_JAPANESE = {"en": "英語", "de": "ドイツ語", "ja": "日本語", "kk": "カザフ語"}
IN_KAZAKH = {"en": "ағылшынша", "de": "немісше", "ja": "жапонша", "kk": "қазақша"}
IN_RUSSIAN = {"en": "по-английски", "de": "по-немецки", "ja": "по-японски", "kk": "по-казахски"}

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
]
GERMAN_FRAMES = [
    "{n} auf {l}", "{n} auf {l}", "{l}: {n}", "Schreibe {n} auf {l}", "Schreib {n} auf {l}", "Sag {n} auf {l}",
    "Wie sagt man {n} auf {l}", "Wie schreibt man {n} auf {l}", "Wie heißt {n} auf {l}", "Was ist {n} auf {l}",
    "die Zahl {n} auf {l}", "Schreibe die Zahl {n} auf {l}", "Bitte {n} auf {l}", "{n} in Worten auf {l}",
    "{n} ausgeschrieben auf {l}",
]
JAPANESE_FRAMES = [
    "{n}を{l}で", "{n}を{l}で書いて", "{n}を{l}で書いてください", "{n}を{l}で読んで", "{l}で{n}", "{l}で{n}は何ですか",
    "{n}は{l}で何ですか", "{n}は{l}で何", "{n}を{l}で言って", "{n} {l}", "{l}: {n}", "数字の{n}を{l}で",
]
KAZAKH_FRAMES = [
    "{n} {l}", "{l} {n}", "{n} {l} жаз", "{n} {l} қалай", "{n} {l} қалай жазылады", "{n} {l} қалай айтылады",
    "{n} санын {l} жаз", "{n} санын {l} жазыңыз", "{l}: {n}", "{n} саны {l}",
]
RUSSIAN_FRAMES = ["{n} {l}", "Напиши {n} {l}", "Как будет {n} {l}", "Как сказать {n} {l}", "Число {n} {l}"]

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


def frame(rng: random.Random) -> tuple[str, dict]:
    """A phrasing, and the names of the languages that fit into it."""
    draw = rng.random()
    if draw < 0.70:
        return rng.choice(ENGLISH_FRAMES), IN_ENGLISH
    if draw < 0.80:
        return rng.choice(ENGLISH_FRAMES), OWN_NAME
    if draw < 0.86:
        return rng.choice(GERMAN_FRAMES), IN_GERMAN
    if draw < 0.92:
        return rng.choice(JAPANESE_FRAMES), IN_JAPANESE
    if draw < 0.98:
        return rng.choice(KAZAKH_FRAMES), IN_KAZAKH
    return rng.choice(RUSSIAN_FRAMES), IN_RUSSIAN


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
    words, names = frame(rng)
    name = names[code] if isinstance(names[code], str) else rng.choice(names[code])
    return typed(rng, words.format(n=written(rng, number), l=name))
