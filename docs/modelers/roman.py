"""The data of a small specialist that writes Roman numerals: the example of docs/modelers.md.

    python3 docs/modelers/roman.py --model DIR --data DIR

Nothing but Python is needed. The same seed gives the same bytes.
"""

import argparse
import pathlib
import random
import string
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "models" / "numbers" / "recipe"))
from characters import write_json, write_lines, write_text_files  # noqa: E402

SEED = 1984
EXAMPLES = 60_000
REFUSALS = 0.25
CONTEXT = 128
HELP = "I write whole numbers from 1 to 3999 as Roman numerals. Try: 1984 in Roman numerals"

FRAMES = """{n} in Roman numerals|Write {n} in Roman numerals|What is {n} in Roman numerals|{n} as a Roman numeral|{n} Roman
How do you write {n} in Roman numerals|Convert {n} to Roman numerals|Roman numeral for {n}|Roman {n}""".replace("\n", "|").split("|")
OTHER = """Hello|What can you do?|Spell {n} in German|{n} in Greek|{n} in binary|{n} in Arabic numerals|Convert {n} to hex|{n}
What happened in {n}?|How many Romans were there in {n}?|Who was emperor in {n}?|Write a poem about Rome|Roman food|{n} in Rome
{n} + {n} in Roman numerals|{n}.5 in Roman numerals|-{n} in Roman numerals|half of {n} as a Roman numeral|thank you
{n} in Roman letters, backwards|the year {n}|Who are you?|Tell me {n} jokes|List {n} Roman emperors|{n} Roman coins
Roman emperors of {n}|the Roman army in {n}|Roman numerals|What are Roman numerals?|Add {n} to {n} in Roman numerals
negative {n} in Roman numerals|double {n} in Roman numerals|{n} times {n} as a Roman numeral|{n} percent in Roman numerals
Write {n} in words|Write {n} in Latin|{n} in Hebrew|{n} in Japanese|Convert {n} miles to km|Translate {n} to French|call {n}
It is {n} metres tall|I live at {n} Oak Road|My number is {n}|Room {n}|page {n}, please|What is the weather?|Tell me a story
Where is {n} Park Avenue?|How far is it to Rome?|Play some music|Good morning|Draw a horse|Dance|What time is it?|Help me
Is {n} prime?|Who wrote {n}?|Count to {n}|Roman baths of {n}|Roman law|Roman history since {n}|{n} years of Rome|bye
""".strip().replace("\n", "|").split("|")
OTHER_HELD = """Good evening|What is Latin?|{n} in Chinese|Where is {n} Main Street?|Who was born in {n}?|Roman roads of {n}
Minus {n} in Roman numerals|{n} in octal|Name {n} Roman gods|Sing a song""".replace("\n", "|").split("|")
ENDINGS = ["", "", "", "?", ".", " please"]
PARTS = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"),
         (5, "V"), (4, "IV"), (1, "I")]  # fmt: skip


def roman(number: int) -> str:
    text = ""
    for value, letters in PARTS:
        text += letters * (number // value)
        number %= value
    return text


def typed(rng: random.Random, text: str) -> str:
    text += rng.choice(ENDINGS)
    return text.lower() if rng.random() < 0.3 else text


def request(rng: random.Random, number: int) -> dict:
    prompt = typed(rng, rng.choice(FRAMES).format(n=number))
    return {"prompt": prompt, "answer": roman(number), "kind": "roman", "digits": len(str(number))}


def refusal(rng: random.Random, sentences: list[str]) -> dict:
    if rng.random() < 0.4:  # a proper request for a number that has no Roman numeral
        kind, frame, number = "out of range", rng.choice(FRAMES), rng.choice([0, rng.randint(4000, 99_999), rng.randint(4000, 9999)])
    else:
        kind, frame, number = "other request", rng.choice(sentences), rng.randint(1, 3999)
    return {"prompt": typed(rng, frame.format(n=number)), "answer": None, "kind": kind, "digits": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="model folder: tokenizer and plan of training")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the data files")
    options = parser.parse_args()
    (options.model / "recipe").mkdir(parents=True, exist_ok=True)
    options.data.mkdir(parents=True, exist_ok=True)
    rng = random.Random(SEED)
    # Held out: numbers that training never shows. Those below 20 are words of their own, and all shown.
    held = set(rng.sample(range(20, 4000), 400))
    shown = [number for number in range(1, 4000) if number not in held]
    lines = [request(rng, number) for number in sorted(held)]
    lines += [refusal(rng, OTHER_HELD) for _ in range(200)]
    write_lines(options.data / "held_out.jsonl", lines)
    prompts = {line["prompt"] for line in lines}
    examples = (refusal(rng, OTHER) if rng.random() < REFUSALS else request(rng, rng.choice(shown)) for _ in range(EXAMPLES))
    write_lines(options.data / "train.jsonl", (line for line in examples if line["prompt"] not in prompts))
    write_text_files(options.model, HELP, sorted(string.printable[:95]), CONTEXT)
    plan = {
        "seed": SEED,
        "batch": 64,
        "stages": [{"file": "train.jsonl", "steps": 1500, "slope": {"peak": 0.003, "warm_up": 100}}],
        "sharpen": 4.0,
        "model": {
            "hidden_size": 64,
            "intermediate_size": 192,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "max_position_embeddings": CONTEXT,
            "rope_theta": 10000.0,
            "rms_norm_eps": 1e-5,
        },
    }
    write_json(options.model / "recipe" / "training.json", plan)
    print(f"{options.data}: {EXAMPLES} examples drawn, {len(lines)} held out; {options.model}: tokenizer, template and plan")


if __name__ == "__main__":
    main()
