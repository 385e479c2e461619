const assert = require("assert");
const { OpenAI } = require("openai");

async function main() {
  const client = new OpenAI();
  const model = process.env.GRISTMILL_MODEL;
  const messages = [{ role: "user", content: "Spell 42 in English" }];

  const plain = await client.chat.completions.create({ model, messages, temperature: 0 });
  assert.strictEqual(plain.choices[0].message.content, "forty-two");
  assert.ok(plain.usage.cost > 0);

  let text = "";
  let last;
  const stream = await client.chat.completions.create({ model, messages, temperature: 0, stream: true });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    last = chunk;
  }
  assert.strictEqual(text, "forty-two");
  assert.strictEqual(last.choices[0].finish_reason, "stop");
  assert.ok(last.usage.cost > 0);

  const models = [];
  for await (const entry of client.models.list()) models.push(entry.id);
  assert.ok(models.includes(model));

  const several = await client.chat.completions.create({
    model, messages, temperature: 0, n: 2, logprobs: true, top_logprobs: 2,
  });
  assert.deepStrictEqual(several.choices.map((choice) => choice.message.content), ["forty-two", "forty-two"]);
  const tokens = several.choices[1].logprobs.content;
  assert.strictEqual(tokens.map((token) => token.token).join(""), "forty-two");
  assert.ok(tokens.every((token) => token.logprob <= 0 && token.top_logprobs.length === 2));

  const prompt = "<s>Spell 42 in English<|answer|>";
  const whole = await client.completions.create({ model, prompt, temperature: 0 });
  assert.strictEqual(whole.choices[0].text, "forty-two");
  let streamed = "";
  for await (const chunk of await client.completions.create({ model, prompt, temperature: 0, stream: true })) {
    streamed += chunk.choices[0]?.text ?? "";
    last = chunk;
  }
  assert.strictEqual(streamed, "forty-two");
  assert.ok(last.choices[0].finish_reason === "stop" && last.usage.cost > 0);
  await assert.rejects(client.completions.create({ model, prompt, echo: true }), (error) => error.status === 400);

  await assert.rejects(client.chat.completions.create({ model: "no/such", messages }), (error) => error.status === 404);
  console.log("ok");
}

main();
