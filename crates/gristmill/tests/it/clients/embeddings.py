import json
import os
import struct
import openai

client = openai.OpenAI()
model = os.environ["GRISTMILL_MODEL"]
golden = json.loads(os.environ["GRISTMILL_GOLDEN"])
texts, expected = golden["texts"], golden["vectors"]


def near(a, b):
    return len(a) == len(b) and all(abs(x - y) < 1e-5 for x, y in zip(a, b))


# The client asks for base64 unless told otherwise, and reads it.
given = client.embeddings.create(model=model, input=texts)
assert [d.index for d in given.data] == list(range(len(texts))), given
assert all(near(d.embedding, v) for d, v in zip(given.data, expected)), given.data[0]
assert given.usage.prompt_tokens == golden["tokens"] and given.usage.cost > 0, given.usage
assert len(given.gristmill["receipt"]) == 64, given

plain = client.embeddings.create(model=model, input=texts[0], encoding_format="float")
assert near(plain.data[0].embedding, expected[0]), plain
as_sent = [struct.pack("<f", number) for number in plain.data[0].embedding]
assert as_sent == [struct.pack("<f", number) for number in given.data[0].embedding], "the same in either form"

for refused, about in (
    ({"dimensions": 8}, "dimensions"),
    ({"input": []}, "input"),
    ({"input": ["a", ""]}, "input[1]"),
    ({"input": [[1, 2, 3]]}, "token"),
    ({"input": "word " * 2000}, "tokens"),
):
    try:
        client.embeddings.create(**{"model": model, "input": "a", **refused})
        raise SystemExit(f"{about} was taken")
    except openai.BadRequestError as error:
        assert about in str(error), error
for call in (
    lambda: client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}]),
    lambda: client.embeddings.create(model=os.environ["GRISTMILL_CHAT"], input="a"),
):
    try:
        call()
        raise SystemExit("a model did what it is not for")
    except openai.BadRequestError as error:
        assert "ask POST" in str(error), error
print("ok")
