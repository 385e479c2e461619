"""Makes the data of the model "numbers": training and held-out files, the tokenizer and the sample for tests.

    python make_data.py --out DIR            # the stages' files, held-out files and agreement.json in DIR
    python make_data.py --out DIR --model .. # also tokenizer.json and held_out_sample.jsonl of the model folder

The same versions (requirements.txt) and seed give the same bytes. A line is
{"prompt", "answer", "kind", "digits"}; "answer" is null where the help text is due, "kind" is a language
or a kind of refusal.
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
from spelling import LANGUAGES, spell

SEED = 4217
FIRST_STAGE = (240_000, 0.17)  # examples, share of refusals
SECOND_STAGE = (120_000, 0.30)
THIRD_STAGE = (40_000, 0.28)
KAZAKH_THOUSANDS = 0.08  # share of numbers from 1000 to 1999 in Kazakh in the third stage
ONE_DIGIT = 0.03  # share of numbers of one digit, any of them, in the third stage
DIGIT_WEIGHTS = [2, 3, 4, 4, 5, 5]  # by number of digits; short numbers are few and learnt early
LANGUAGE_WEIGHTS = {"en": 4, "de": 6, "ja": 4, "kk": 5}
# Held-out numbers by digits, asked in every language. The last stage takes those of one digit back: there are
# only ten, each a word of its own, and a model that has never been asked for one refuses it.
HELD_OUT = [2, 18, 60, 80, 80, 80]
HELD_OUT_THOUSANDS = 100  # of the numbers from 1000 to 1999, in Kazakh
HELD_OUT_REFUSALS = 1500
SAMPLE = {"each language": 60, "refusals": 120}
MAX_PROMPT = 240

HELP = (
    "I spell whole numbers from 0 to 999 999 in English, German, Japanese and Kazakh. "
    "Try: Spell 4217 in Kazakh. For anything else attach another model: gristmill model publish DIR"
)
SPECIAL = ["<unk>", "<s>", "</s>", "<|answer|>"]


def draw_number(rng: random.Random, count: int) -> int:
    """Even among the numbers of `count` digits, with the rare round ones more often."""
    number = rng.randint(0 if count == 1 else 10 ** (count - 1), 10**count - 1)
    if count >= 3 and rng.random() < 0.12:  # zeros inside are one number in ten, and half of the rules
        text = [d if i == 0 or rng.random() < 0.5 else "0" for i, d in enumerate(str(number))]
        number = int("".join(text))
    return number


def held_out_numbers(rng: random.Random) -> dict[int, list[int]]:
    """By number of digits, numbers whose spelling all libraries agree on in every language."""
    chosen = {}
    for count, wanted in enumerate(HELD_OUT, start=1):
        # 0 and the teens are words of their own: they cannot be inferred from other numbers.
        low, high = {1: (2, 9), 2: (20, 99)}.get(count, (10 ** (count - 1), 10**count - 1))
        numbers = set()
        while len(numbers) < wanted:
            number = rng.randint(low, high)
            if all(spell(code, number) for code in LANGUAGES):
                numbers.add(number)
        chosen[count] = sorted(numbers)
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


def training(rng: random.Random, stage: tuple[int, float], refuse, held: set[int], held_prompts: set[str]):
    """Training lines, in random order; `refuse` makes the refusals."""
    examples, share = stage
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
            prompt = phrases.request(rng, code, number)
            line = {"prompt": prompt, "answer": answer, "kind": code, "digits": len(str(number))}
        made += 1
        yield line


def last_stage(rng: random.Random, held: set[int], held_prompts: set[str], held_thousands: set[int]):
    """The third stage: as the second, with what the first two leave out."""
    thousands = [number for number in range(1000, 2000) if number not in held_thousands]
    for line in training(rng, THIRD_STAGE, near_misses.near_miss, held, held_prompts):
        draw = rng.random()
        if draw < KAZAKH_THOUSANDS:
            yield thousand(rng, rng.choice(thousands))
        elif draw < KAZAKH_THOUSANDS + ONE_DIGIT:
            code, number = rng.choice(list(LANGUAGES)), rng.randint(0, 9)
            answer = spell(code, number)
            yield {"prompt": phrases.request(rng, code, number), "answer": answer, "kind": code, "digits": 1}
        else:
            yield line


def thousand(rng: random.Random, number: int) -> dict:
    """A line that asks for a number from 1000 to 1999 in Kazakh."""
    answer = spell("kk", number, optional_one=True)
    return {"prompt": phrases.request(rng, "kk", number), "answer": answer, "kind": "kk", "digits": 4}


def held_out(rng: random.Random, numbers: dict[int, list[int]]) -> list[dict]:
    """Held-out lines: every held-out number in every language, and refusals."""
    lines = []
    for code in LANGUAGES:
        for count, chosen in numbers.items():
            for number in chosen:
                prompt = phrases.request(rng, code, number)
                lines.append({"prompt": prompt, "answer": spell(code, number), "kind": code, "digits": count})
    for _ in range(HELD_OUT_REFUSALS):
        kind, prompt = refusals.refusal(rng, held=True)
        lines.append({"prompt": prompt, "answer": None, "kind": kind, "digits": 0})
    return lines


def sample(rng: random.Random, lines: list[dict]) -> list[dict]:
    """A few hundred of the held-out lines, for the repository's tests."""
    chosen = []
    for code in LANGUAGES:
        chosen += rng.sample([line for line in lines if line["kind"] == code], SAMPLE["each language"])
    chosen += rng.sample([line for line in lines if line["answer"] is None], SAMPLE["refusals"])
    return chosen


def alphabet() -> list[str]:
    """Every character with a token of its own."""
    listed = set(string.ascii_letters + string.digits + string.punctuation + " \n" + "ÄÖÜäöüß")
    listed |= set(map(chr, range(ord("А"), ord("я") + 1))) | set("ЁёӘәҒғҚқҢңӨөҰұҮүҺһІі")
    listed |= set(map(chr, range(ord("ぁ"), ord("ん") + 1))) | set(map(chr, range(ord("ァ"), ord("ヶ") + 1)))
    listed |= set("ー、。？！「」零〇一二三四五六七八九十百千万")
    frames = phrases.ENGLISH_FRAMES + phrases.GERMAN_FRAMES + phrases.JAPANESE_FRAMES + phrases.KAZAKH_FRAMES
    names = [*phrases.IN_JAPANESE.values(), *phrases.IN_KAZAKH.values(), *sum(phrases.OWN_NAME.values(), [])]
    listed |= set("".join(frames + names + refusals.SENTENCES)) - set("éèçñáóúíø¿¡")
    return sorted(listed)


def tokenizer() -> dict:
    """A tokenizers file: one token a character, one for the whole help text."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, HELP, *alphabet()])}
    added = [
        {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i, token in enumerate(SPECIAL)
    ]  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False},
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    }


def write_lines(path: pathlib.Path, lines) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the data files")
    parser.add_argument("--model", type=pathlib.Path, help="model folder: also write its tokenizer and sample")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    numbers = held_out_numbers(random.Random(SEED))
    lines = held_out(random.Random(SEED + 1), numbers)
    prompts = {line["prompt"] for line in lines}
    lines = [line for line in lines if line["digits"] != 1]
    write_lines(options.out / "held_out.jsonl", lines)
    if options.model:
        text = json.dumps(tokenizer(), ensure_ascii=False, indent=1)
        (options.model / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
        write_lines(options.model / "recipe" / "held_out_sample.jsonl", sample(random.Random(SEED + 2), lines))
    held = {number for chosen in numbers.values() for number in chosen}
    first = training(random.Random(SEED + 3), FIRST_STAGE, partial(refusals.refusal, held=False), held, prompts)
    write_lines(options.out / "train.jsonl", first)
    second = training(random.Random(SEED + 5), SECOND_STAGE, near_misses.near_miss, held, prompts)
    write_lines(options.out / "near.jsonl", second)
    rng = random.Random(SEED + 6)
    thousands = sorted(rng.sample(range(1000, 2000), HELD_OUT_THOUSANDS))
    write_lines(options.out / "held_out_thousands.jsonl", [thousand(rng, number) for number in thousands])
    write_lines(options.out / "last.jsonl", last_stage(rng, held, prompts, set(thousands)))
    found = json.dumps(agreement(random.Random(SEED + 4)), indent=1)
    (options.out / "agreement.json").write_text(found + "\n")


if __name__ == "__main__":
    main()
