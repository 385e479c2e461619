"""Spellings that two independent rule libraries agree on: num2words and ICU's rule-based number format.

A number whose spellings differ is left out, so the model never learns one library's opinion. Differences
that no reader would call a difference are removed first, and each has one written form here:

- English: commas, hyphens, "and" and doubled spaces are ignored; written as ICU does, "forty-two thousand one
  hundred seventeen".
- German: ICU's soft hyphens are removed.
- Kazakh: one thousand is "бір мың" in one library and "мың" in the other; the "one" is optional, as "and" is in
  English. Numbers from 1000 to 1999 are left out, except where `optional_one` asks for them; written "мың".
- Japanese: zero is 零 in one library and 〇 in the other, both in common use; written 零.
"""

import icu
from num2words import num2words

LANGUAGES = {"en": "en", "de": "de", "ja": "ja", "kk": "kz"}  # our code, num2words' code

_rules = {
    code: icu.RuleBasedNumberFormat(icu.URBNFRuleSetTag.SPELLOUT, icu.Locale(code)) for code in LANGUAGES
}


def normalise(code: str, text: str) -> str:
    """One written form of what counts as the same spelling."""
    text = text.replace("\u00ad", "")
    if code == "en":
        words = text.replace(",", " ").replace("-", " ").split()
        text = " ".join(word for word in words if word != "and")
    if code == "ja" and text == "〇":
        text = "零"
    return text


def spell(code: str, number: int, optional_one: bool = False) -> str | None:
    """The spelling, or None where the libraries differ."""
    if optional_one and code == "kk" and 1000 <= number < 2000:
        ours = num2words(number, lang=LANGUAGES[code]).removeprefix("бір ")
        return ours if ours == _rules[code].format(number) else None
    ours = normalise(code, num2words(number, lang=LANGUAGES[code]))
    theirs = _rules[code].format(number)
    if ours != normalise(code, theirs):
        return None
    return theirs if code == "en" else ours
