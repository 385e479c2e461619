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

short = client.chat.completions.create(model=model, messages=messages, temperature=0, max_completion_tokens=3)
assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 3, short

cut = client.chat.completions.create(model=model, messages=messages, temperature=0, stop=["-"])
assert cut.choices[0].message.content == "forty" and cut.choices[0].finish_reason == "stop", cut

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
