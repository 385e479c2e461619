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

  await assert.rejects(client.chat.completions.create({ model: "no/such", messages }), (error) => error.status === 404);
  console.log("ok");
}

main();
