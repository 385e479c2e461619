import os
import openai

client = openai.OpenAI()
model = os.environ["GRISTMILL_MODEL"]
messages = [{"role": "user", "content": "Spell 42 in English"}]

assert model in [m.id for m in client.models.list()]

plain = client.chat.completions.create(model=model, messages=messages, temperature=0)
assert plain.choices[0].message.content == "forty-two", plain
assert plain.choices[0].finish_reason == "stop", plain
assert plain.usage.completion_tokens > 0 and plain.usage.cost > 0, plain
assert len(plain.gristmill["receipt"]) == 64, plain

chunks = list(client.chat.completions.create(model=model, messages=messages, temperature=0, stream=True))
assert "".join(c.choices[0].delta.content or "" for c in chunks) == "forty-two", chunks
assert chunks[-1].choices[0].finish_reason == "stop" and chunks[-1].usage.cost > 0, chunks[-1]

options = {"include_usage": True}
chunks = list(
    client.chat.completions.create(model=model, messages=messages, temperature=0, stream=True, stream_options=options)
)
assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0, chunks[-1]

# The same seed gives the same answer, at any temperature.
draws = {
    client.chat.completions.create(model=model, messages=messages, temperature=1.5, seed=7).choices[0].message.content
    for _ in range(3)
}
assert len(draws) == 1, draws
# Of a nucleus of one the likeliest is drawn.
narrow = client.chat.completions.create(model=model, messages=messages, temperature=1.5, top_p=0)
assert narrow.choices[0].message.content == "forty-two", narrow

short = client.chat.completions.create(model=model, messages=messages, temperature=0, max_completion_tokens=3)
assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 3, short

cut = client.chat.completions.create(model=model, messages=messages, temperature=0, stop=["-"])
assert cut.choices[0].message.content == "forty" and cut.choices[0].finish_reason == "stop", cut

# Several answers: each has a seed of its own, and each is paid.
several = client.chat.completions.create(model=model, messages=messages, temperature=1.5, seed=7, n=3)
assert [c.index for c in several.choices] == [0, 1, 2] and len(several.gristmill["receipts"]) == 3, several
alone = [
    client.chat.completions.create(model=model, messages=messages, temperature=1.5, seed=seed) for seed in (7, 8, 9)
]
assert [c.message.content for c in several.choices] == [a.choices[0].message.content for a in alone], several
assert abs(several.usage.cost - sum(a.usage.cost for a in alone)) < 1e-12, several.usage
texts = {}
for chunk in client.chat.completions.create(
    model=model, messages=messages, temperature=1.5, seed=7, n=3, stream=True, stream_options=options
):
    for choice in chunk.choices:
        texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    usage = chunk.usage
assert [texts[i] for i in range(3)] == [c.message.content for c in several.choices], texts
assert usage.completion_tokens == several.usage.completion_tokens, usage

# Log probabilities: the tokens are the text, and the likeliest is what temperature 0 takes.
judged = client.chat.completions.create(model=model, messages=messages, temperature=0, logprobs=True, top_logprobs=3)
tokens = judged.choices[0].logprobs.content
assert "".join(t.token for t in tokens) == "forty-two", tokens
assert all(t.logprob <= 0 and len(t.top_logprobs) == 3 and t.top_logprobs[0].token == t.token for t in tokens), tokens
assert bytes(b for t in tokens for b in t.bytes).decode() == "forty-two", tokens
streamed = []
for chunk in client.chat.completions.create(
    model=model, messages=messages, temperature=0, logprobs=True, top_logprobs=3, stream=True
):
    for choice in chunk.choices:
        streamed += choice.logprobs.content if choice.logprobs else []
assert streamed == tokens, streamed
assert plain.choices[0].logprobs is None, plain

# Texts, as they stand: the template's own tokens are the caller's business.
prompt = "<s>Spell 42 in English<|answer|>"
text = client.completions.create(model=model, prompt=prompt, temperature=0)
assert text.object == "text_completion" and text.choices[0].text == "forty-two", text
assert text.choices[0].finish_reason == "stop" and text.usage.cost > 0 and text.id.startswith("cmpl-"), text
assert text.usage.prompt_tokens == plain.usage.prompt_tokens, text
chunks = list(client.completions.create(model=model, prompt=[prompt], temperature=0, stream=True))
assert "".join(c.choices[0].text for c in chunks) == "forty-two", chunks
assert chunks[-1].choices[0].finish_reason == "stop" and chunks[-1].usage.cost > 0, chunks[-1]
cut = client.completions.create(model=model, prompt=prompt, temperature=0, max_tokens=5, n=2, logprobs=2)
assert [c.text for c in cut.choices] == ["forty"] * 2 and cut.choices[1].finish_reason == "length", cut
judged = cut.choices[1].logprobs
assert judged.tokens == list("forty") and judged.text_offset == [0, 1, 2, 3, 4], judged
assert judged.token_logprobs == [t.logprob for t in tokens[:5]] and len(judged.top_logprobs[0]) == 2, judged
long = client.completions.create(model=model, prompt="<s>Spell 777777 in English<|answer|>", temperature=0)
assert long.usage.completion_tokens == 16 and long.choices[0].finish_reason == "length", long

for refused in ({"echo": True}, {"suffix": "."}, {"best_of": 2}, {"top_p": 1.5}, {"prompt": ["a", "b"]}):
    try:
        client.completions.create(**{"model": model, "prompt": prompt, **refused})
        raise SystemExit(f"{refused} was taken")
    except openai.BadRequestError as error:
        assert list(refused)[0] in str(error), error
try:
    client.chat.completions.create(model=model, messages=messages, n=17)
    raise SystemExit("seventeen answers were given")
except openai.BadRequestError as error:
    assert "16" in str(error), error

try:
    client.chat.completions.create(model="no/such", messages=messages)
    raise SystemExit("an unknown model was answered")
except openai.NotFoundError as error:
    assert "no/such" in str(error), error
try:
    openai.OpenAI(api_key="sk-wrong").models.list()
    raise SystemExit("a wrong key was taken")
except openai.AuthenticationError:
    pass
print("ok")
