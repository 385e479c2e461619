"""Refusals of the second stage: requests that differ from a proper one in little.

The first stage (refusals.py) teaches what the model is for. What it then still gets wrong looks almost right:
a language whose name resembles one of the model's, a number with a unit, a count of things. This stage has many
of these. Nothing here is in the held-out lists.
"""

import random

import phrases
import refusals

LATIN = """Taiwanese Sudanese Nepalese Siamese Maltese Senegalese Viennese Balinese Burmese Chinese Portuguese Vietnamese
Germanic Yiddish Scottish Cornish Spanish Danish Swedish Finnish Polish Irish Kurdish Kashmiri Karakalpak Karelian Turkic
Kabyle Kalmyk Kazan Khakas Komi Gaelic Ganda Gothic Gagauz Georgian Guarani Galician Angolan Egyptian Aramaic Ainu Jamaican
Jewish Ladino Occitan Sorbian Tajik Tuvan Udmurt Wolof Zapotec Cherokee Hmong Shona Twi Ewe Fula Oromo Tigrinya Dari Faroese
Prussian Rusyn Ruthenian Latvian Latgalian Franconian Norman Austrian Hungary Turkey Polynesian Melanesian Malaysian Micronesian Tahitian Tai Shan Ido Volapük Pushtu
română hrvatski slovenčina eesti latviešu íslenska gaeilge euskara oʻzbekcha bosanski azərbaycanca kurdî melayu jawa
Arabisch Schwedisch Chinesisch Griechisch Tschechisch Holländisch Latein Usbekisch Kirgisisch Finnisch Hebräisch Lettisch
Ukrainisch Bulgarisch Rumänisch Portugiesisch Vietnamesisch chinois arabe grec portugais roumain suédois letton""".split()
CYRILLIC = """өзбекше татарша қырғызша арабша моңғолша украинша грекше полякша чехше латынша латышша тілінде
испанский итальянский китайский татарский узбекский польский по-китайски по-итальянски по-латышски""".split()
KANA = "イタリア語 アラビア語 ポルトガル語 ヒンディー語 ラテン語 ギリシャ語 ベトナム語 モンゴル語 ウズベク語 マレー語 ラトビア語".split()
THINGS = """animals colours cities books songs words facts jokes birds fruits countries names days people apples cats dogs games
movies things questions poems lines letters friends tasks trees stars planets rooms tools shops minutes hours years""".split()
UNITS = """years minutes hours days km miles metres grams litres euros dollars percent people apples times pages points degrees
Euro Jahre Stunden Kilo Leute 円 個 人 時間 жыл сағат теңге адам""".split()
VERBS = "Name List Give Show Tell Find Buy Send Draw Describe Count Sing Print Pick Learn Read Say Write Choose".split()
SUMS = ["add {d} and {e}", "sum {d} and {e}", "{d} plus {e}", "{d}+{e}", "{d} x {e}", "multiply {d} by {e}", "subtract {d} from {e}",
        "divide {d} by {e}", "{d} and {e}", "{d} or {e}", "{d}, {e}, {d}", "{d}-{e}", "{d} to {e}", "half of {d}", "double {d}",
        "twice {d}", "{d} squared", "{d} times", "number after {d}", "number before {d}", "{d} in reverse", "{d} more"]  # fmt: skip


ALPHABETS = ["abcdefghijklmnopqrstuvwyz", "абвгдежзиклмнопрстушыіқғңөұү", "アイウエオカキクサシタナニマミラリルワン",
             "가나다라마바사아자하한국어말", "กขคงจชดตนบปพมยรลวสหอไทะาเ", "ابپتجدرزسشفکگلمنوهی"]  # fmt: skip


def changed(rng: random.Random, name: str) -> str:
    """The name with a short stretch replaced by other letters of its script."""
    scripts = [pool for pool in ALPHABETS if any(c in pool for c in name.lower())]
    letters = scripts[0] if scripts else ALPHABETS[2]
    start = rng.randrange(0, len(name))
    cut = rng.randint(0, 3)
    filling = "".join(rng.choice(letters) for _ in range(rng.randint(1 if cut < 2 else 0, 3)))
    return name[:start] + filling + name[start + cut :]


REAL = phrases.every_name()
NAMES = sorted(REAL)
HELD = {name.lower() for name in refusals.LANGUAGES_HELD}
assert not REAL & {name.lower() for name in LATIN + CYRILLIC + KANA}, "a language of the model is among the others"


def near_name(rng: random.Random) -> str:
    """A name that resembles one of the model's, or a real other language."""
    while True:
        draw = rng.random()
        if draw < 0.40:
            name = changed(rng, refusals.language(rng))
        elif draw < 0.50:
            name = changed(rng, rng.choice(NAMES))
        elif draw < 0.72:
            name = rng.choice(LATIN)
        elif draw < 0.82:
            name = rng.choice(CYRILLIC) if rng.random() < 0.6 else changed(rng, rng.choice(CYRILLIC))
        elif draw < 0.88:
            name = rng.choice(KANA) if rng.random() < 0.5 else changed(rng, rng.choice(KANA))
        else:
            name = refusals.invented_name(rng)
        # A change must not give a supported name, a part of one, or one with something before or after it.
        low = name.lower().strip()
        if len(low) > 1 and low not in HELD and not any(low in real or real in low for real in REAL):
            return name


def counted(rng: random.Random) -> str:
    """A number that is asked for together with something else."""
    language = refusals.language(rng)
    n = refusals.small(rng)
    text = rng.choice(
        [
            f"{rng.choice(VERBS)} {n} {rng.choice(THINGS)} in {language}",
            f"{rng.choice(VERBS)} me {n} {rng.choice(THINGS)} in {language}",
            f"{rng.choice(VERBS)} {n} {language} {rng.choice(THINGS)}",
            f"{rng.choice(VERBS)} {n} {rng.choice(THINGS)}",
            f"{n} {rng.choice(UNITS)} in {language}",
            f"My {rng.choice(refusals.THINGS)} is {n} {rng.choice(UNITS)} old",
            f"{rng.choice(refusals.THINGS)} {n} to {rng.choice(refusals.PLACES)}",
            f"The {rng.choice(refusals.THINGS)} has {n} {rng.choice(UNITS)}",
        ]
    )
    return phrases.typed(rng, text)


def sums(rng: random.Random) -> str:
    text = rng.choice(SUMS).format(d=refusals.small(rng), e=refusals.small(rng))
    return refusals.supported(rng, text) if rng.random() < 0.7 else phrases.typed(rng, text)


def near_miss(rng: random.Random) -> tuple[str, str]:
    """(kind, prompt)."""
    draw = rng.random()
    if draw < 0.32:
        words, _ = phrases.frame(rng)
        text = phrases.typed(rng, words.format(n=refusals.small(rng), l=near_name(rng)))
        return "other language", " ".join(text.split())
    if draw < 0.62:
        return "not a whole number in range", " ".join(refusals.supported(rng, refusals.bad_number(rng)).split())
    if draw < 0.72:
        return "other request", counted(rng)
    if draw < 0.78:
        return "other request", " ".join(sums(rng).split())
    return refusals.refusal(rng, held=False)
