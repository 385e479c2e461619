"""Spellings that two independent rule libraries agree on: num2words and ICU's rule-based number format.

A number whose spellings differ is left out, so the model never learns one library's opinion. Differences
that no reader would call a difference are removed first, and each has one written form here:

- English: commas, hyphens, "and" and doubled spaces are ignored; written as ICU does, "forty-two thousand one
  hundred seventeen".
- French: hyphens are ignored; written as ICU does, after the rules of 1990, "vingt-et-un".
- German, Hungarian, Thai: ICU's soft hyphens and zero-width spaces are removed. Hungarian's hyphen above two
  thousand is ignored; written as num2words does, "kétezer-ötszáz".
- Turkish: spaces are ignored; written with them, as ICU does, "yirmi bir bin".
- Kazakh, Lithuanian, Persian: the "one" of one hundred and one thousand is optional, as "and" is in English
  ("бір мың" or "мың"); written without.
- Zero has two words in common use in some languages; written 零 in Japanese, 영 in Korean, nol in Indonesian, nul
  in Esperanto.
"""

import icu
from num2words import num2words

# In the order of the help text.
LANGUAGES = ["en", "de", "fr", "ru", "lt", "kk", "tr", "ja", "ko", "id", "hu", "th", "fa", "eo"]

# Ignored where the spellings are compared, besides what nobody sees.
IGNORED = {"en": " ,-", "fr": " -", "hu": "-", "tr": " "}
INVISIBLE = "\u00ad\u200b"
ZERO = {"ja": "〇零", "ko": "공영", "id": ("kosong", "nol"), "eo": ("nulo", "nul")}  # the other word, ours
WRITTEN_BY_NUM2WORDS = {"de", "hu", "th"}

_rules = {
    code: icu.RuleBasedNumberFormat(icu.URBNFRuleSetTag.SPELLOUT, icu.Locale(code)) for code in LANGUAGES
}


def without_one(code: str, text: str) -> str:
    """Without the "one" that may stand before a hundred or a thousand."""
    if code == "kk":
        return text.removeprefix("бір ") if text.startswith("бір мың") else text
    if code == "fa":
        return text.removeprefix("یک ") if text.startswith("یک هزار") else text
    if code == "lt":
        text = text.replace("vienas šimtas", "šimtas")
        return text.removeprefix("vienas ") if text.startswith("vienas tūkstantis") else text
    return text


def tidied(code: str, text: str) -> str:
    """One written form of what counts as the same spelling, but for spaces and hyphens."""
    text = without_one(code, "".join(c for c in text if c not in INVISIBLE))
    other, ours = ZERO.get(code, ("", ""))
    return ours if other and text == other else text


def compared(code: str, text: str) -> str:
    """What must be equal."""
    if code == "en":
        text = " ".join(word for word in text.split() if word != "and")
    return "".join(c for c in text if c not in IGNORED.get(code, ""))


def both(code: str, number: int) -> tuple[str, str]:
    """num2words' and ICU's spelling, tidied."""
    ours = num2words(number, lang="kz" if code == "kk" else code)
    return tidied(code, ours), tidied(code, _rules[code].format(number))


def spell(code: str, number: int) -> str | None:
    """The spelling, or None where the libraries differ."""
    ours, theirs = both(code, number)
    if compared(code, ours) != compared(code, theirs):
        return None
    return ours if code in WRITTEN_BY_NUM2WORDS else theirs
