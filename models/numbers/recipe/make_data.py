"""Makes the data of the model "numbers": training and held-out files, the tokenizer and the sample for tests.

    python make_data.py --out DIR            # the stages' files, held-out files and agreement.json in DIR
    python make_data.py --out DIR --model .. # also tokenizer.json and held_out_sample.jsonl of the model folder

The same versions (requirements.txt) and seed give the same bytes. A line is
{"prompt", "answer", "kind", "digits"}; "answer" is null where the help text is due, "kind" is a language
or a kind of refusal. What it makes is trained as training.json says.
"""

import argparse
import json
import pathlib
import random
import string
from functools import partial

import near_misses
import phrases
import refusals
from characters import write_json, write_lines, write_text_files
from spelling import LANGUAGES, both, spell

SEED = 4217
# Stages: examples, share of refusals, share of the numbers that are asked for in few characters.
FIRST_STAGE = (440_000, 0.14, 0.6)
SECOND_STAGE = (150_000, 0.33, 0.2)
DIGIT_WEIGHTS = [1, 3, 4, 4, 5, 6]  # by number of digits; short numbers are few and learnt early
# Languages whose spellings are irregular weigh more than those that are put together from a few characters.
LANGUAGE_WEIGHTS = {"en": 5, "de": 7, "fr": 7, "ru": 7, "lt": 7, "kk": 5, "tr": 5, "ja": 4, "ko": 4, "id": 5, "hu": 6, "th": 5, "fa": 5,
                    "eo": 4}  # fmt: skip
# Held-out numbers by digits, asked in every language where the libraries agree. Numbers of one digit are not held
# out: there are only ten, each a word of its own.
HELD_OUT = [0, 18, 60, 80, 80, 80]
HELD_OUT_REFUSALS = 1500
SAMPLE = {"each language": 40, "refusals": 120}
MAX_PROMPT = 240
CONTEXT = 512

HELP = (
    "I spell whole numbers from 0 to 999 999 in English, German, French, Russian, Lithuanian, Kazakh, Turkish, "
    "Japanese, Korean, Indonesian, Hungarian, Thai, Persian and Esperanto. "
    "Try: Spell 4217 in Kazakh. For anything else attach another model: gristmill model publish DIR"
)


def draw_number(rng: random.Random, count: int) -> int:
    """Even among the numbers of `count` digits, with the rare round ones more often."""
    number = rng.randint(0 if count == 1 else 10 ** (count - 1), 10**count - 1)
    if count >= 3 and rng.random() < 0.12:  # zeros inside are one number in ten, and half of the rules
        text = [d if i == 0 or rng.random() < 0.5 else "0" for i, d in enumerate(str(number))]
        number = int("".join(text))
    return number


def held_out_numbers(rng: random.Random) -> list[int]:
    """Numbers that are never in training, in any language."""
    chosen = []
    for count, wanted in enumerate(HELD_OUT, start=1):
        # The teens are words of their own: they cannot be inferred from other numbers.
        low, high = (20, 99) if count == 2 else (10 ** (count - 1), 10**count - 1)
        chosen += sorted(rng.sample(range(low, high + 1), wanted))
    return chosen


def agreement(rng: random.Random) -> dict:
    """Share of numbers that the libraries spell the same, by language: 500 numbers of each length."""
    found = {}
    for code in LANGUAGES:
        rows = []
        for count in range(1, 7):
            low, high = (0 if count == 1 else 10 ** (count - 1)), 10**count - 1
            numbers = range(low, high + 1) if count < 3 else [rng.randint(low, high) for _ in range(500)]
            rows.append(sum(spell(code, n) is not None for n in numbers) / len(numbers))
        found[code] = {"by digits": [round(r, 4) for r in rows], "mean": round(sum(rows) / 6, 4)}
    return found


def training(rng: random.Random, stage: tuple[int, float, float], refuse, held: set[int], held_prompts: set[str]):
    """Training lines, in random order; `refuse` makes the refusals."""
    examples, share, short = stage
    codes, weights = list(LANGUAGE_WEIGHTS), list(LANGUAGE_WEIGHTS.values())
    made = 0
    while made < examples:
        if rng.random() < share:
            kind, prompt = refuse(rng)
            if prompt in held_prompts or len(prompt) > MAX_PROMPT:
                continue
            line = {"prompt": prompt, "answer": None, "kind": kind, "digits": 0}
        else:
            count = rng.choices(range(1, 7), DIGIT_WEIGHTS)[0]
            number, code = draw_number(rng, count), rng.choices(codes, weights)[0]
            answer = spell(code, number)
            if number in held or answer is None:
                continue
            ask = phrases.short_request if rng.random() < short else phrases.request
            line = {"prompt": ask(rng, code, number), "answer": answer, "kind": code, "digits": len(str(number))}
        made += 1
        yield line


def held_out(rng: random.Random, numbers: list[int]) -> list[dict]:
    """Held-out lines: every held-out number in every language whose libraries agree on it, and refusals."""
    lines = []
    for code in LANGUAGES:
        for number in numbers:
            prompt, answer = phrases.request(rng, code, number), spell(code, number)
            if answer is not None:
                lines.append({"prompt": prompt, "answer": answer, "kind": code, "digits": len(str(number))})
    for _ in range(HELD_OUT_REFUSALS):
        kind, prompt = refusals.refusal(rng, held=True)
        lines.append({"prompt": prompt, "answer": None, "kind": kind, "digits": 0})
    return lines


def disputed(rng: random.Random, numbers: list[int]) -> list[dict]:
    """Held-out numbers, and others, whose spellings differ: answered as ICU writes them and, apart, as num2words does."""
    lines = []
    for code in LANGUAGES:
        for number in numbers + [rng.randint(1000, 999_999) for _ in range(2000)]:
            ours, theirs = both(code, number)
            if spell(code, number) is None:
                prompt = phrases.short_request(rng, code, number)
                for kind, answer in [("num2words", ours), ("ICU", theirs)]:
                    lines.append({"prompt": prompt, "answer": answer, "kind": f"{code}, as {kind}", "digits": len(str(number))})
    return lines


def longer_texts(rng: random.Random) -> list[dict]:
    """Held-out sentences in a row, longer than anything in training."""
    lines = []
    while len(lines) < 200:
        parts = [refusals.sentence(rng, held=True) for _ in range(24)]
        prompt = rng.choice([" ", ". ", "\n"]).join(parts)[: rng.randint(280, 500)].strip()
        lines.append({"prompt": prompt, "answer": None, "kind": "280 to 500 characters", "digits": 0})
    return lines


def sample(rng: random.Random, lines: list[dict]) -> list[dict]:
    """A few hundred of the held-out lines, for the repository's tests."""
    chosen = []
    for code in LANGUAGES:
        chosen += rng.sample([line for line in lines if line["kind"] == code], SAMPLE["each language"])
    chosen += rng.sample([line for line in lines if line["answer"] is None], SAMPLE["refusals"])
    return chosen


def alphabet() -> list[str]:
    """Every character with a token of its own: ASCII, the letters of names, frames and sentences, and all spellings."""
    listed = set(string.ascii_letters + string.digits + string.punctuation + " \n" + "ÄÖÜäöüß")
    listed |= set(map(chr, range(ord("А"), ord("я") + 1))) | set("ЁёӘәҒғҚқҢңӨөҰұҮүҺһІі")
    listed |= set(map(chr, range(ord("ぁ"), ord("ん") + 1))) | set(map(chr, range(ord("ァ"), ord("ヶ") + 1)))
    listed |= set("ー、。？！「」零〇一二三四五六七八九十百千万")
    frames = [text for texts, _ in phrases.TABLES + phrases.OWN_FRAMES for text in texts]
    text = "".join(frames + refusals.SENTENCES) + "".join(phrases.every_name())
    listed |= set(text + text.upper())
    listed -= set("ñóø¿¡")  # in sentences of languages that are not the model's
    for code in LANGUAGES:
        for number in [*range(1000), *range(1000, 1_000_000, 997)]:
            listed |= set("".join(both(code, number)))
    return sorted(listed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the data files")
    parser.add_argument("--model", type=pathlib.Path, help="model folder: also write its tokenizer and sample")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    numbers = held_out_numbers(random.Random(SEED))
    lines = held_out(random.Random(SEED + 1), numbers)
    prompts = {line["prompt"] for line in lines}
    write_lines(options.out / "held_out.jsonl", lines)
    write_lines(options.out / "disputed.jsonl", disputed(random.Random(SEED + 6), numbers))
    write_lines(options.out / "longer.jsonl", longer_texts(random.Random(SEED + 7)))
    if options.model:
        write_text_files(options.model, HELP, alphabet(), CONTEXT)
        write_lines(options.model / "recipe" / "held_out_sample.jsonl", sample(random.Random(SEED + 2), lines))
    held = set(numbers)
    first = training(random.Random(SEED + 3), FIRST_STAGE, partial(refusals.refusal, held=False), held, prompts)
    write_lines(options.out / "train.jsonl", first)
    second = training(random.Random(SEED + 5), SECOND_STAGE, near_misses.near_miss, held, prompts)
    write_lines(options.out / "near.jsonl", second)
    write_json(options.out / "agreement.json", agreement(random.Random(SEED + 4)))


if __name__ == "__main__":
    main()
