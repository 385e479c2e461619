"""Files of a model that reads characters: its tokenizer, its chat template, and lines of data.

The program that trains (crates/engine/examples/starter) expects this form: one token a character, and one for the
whole help text, with which the model answers what it was not made for.
"""

import json
import pathlib

SPECIAL = ["<unk>", "<s>", "</s>", "<|answer|>"]

# The last user message alone, without blanks around it.
TEMPLATE = (
    "{%- set ns = namespace(question='') -%}{%- for message in messages -%}{%- if message['role'] == 'user' -%}"
    "{%- if message['content'] is string -%}{%- set ns.question = message['content'] -%}{%- else -%}"
    "{%- set ns.question = '' -%}{%- for part in message['content'] -%}{%- if part['type'] == 'text' -%}"
    "{%- set ns.question = ns.question + part['text'] -%}{%- endif -%}{%- endfor -%}{%- endif -%}{%- endif -%}"
    "{%- endfor -%}{{- bos_token + (ns.question | trim) -}}{%- if add_generation_prompt -%}{{- '<|answer|>' -}}"
    "{%- endif -%}"
)


def tokenizer(help_text: str, characters: list[str]) -> dict:
    """A tokenizers file: one token a character, one for the whole help text."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, help_text, *characters])}
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


def tokenizer_config(context: int) -> dict:
    """The chat template and the special tokens, in Hugging Face's form."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "chat_template": TEMPLATE,
    }


def write_json(path: pathlib.Path, value: dict) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_text_files(model: pathlib.Path, help_text: str, characters: list[str], context: int) -> None:
    """Tokenizer and chat template of a model folder."""
    write_json(model / "tokenizer.json", tokenizer(help_text, characters))
    write_json(model / "tokenizer_config.json", tokenizer_config(context))


def write_lines(path: pathlib.Path, lines) -> None:
    """A data file: {"prompt", "answer", "kind", "digits"} a line; "answer" is null where the help text is due."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
