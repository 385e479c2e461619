const assert = require("assert");
const { OpenAI } = require("openai");

async function main() {
  const client = new OpenAI();
  const model = process.env.GRISTMILL_MODEL;
  const { texts, vectors } = JSON.parse(process.env.GRISTMILL_GOLDEN);
  const given = await client.embeddings.create({ model, input: texts });
  assert.strictEqual(given.data.length, texts.length);
  given.data.forEach((item, index) => {
    assert.strictEqual(item.embedding.length, vectors[index].length);
    item.embedding.forEach((number, at) => assert.ok(Math.abs(number - vectors[index][at]) < 1e-5));
  });
  const plain = await client.embeddings.create({ model, input: texts[0], encoding_format: "float" });
  assert.deepStrictEqual(plain.data[0].embedding.map(Math.fround), given.data[0].embedding.map(Math.fround));
  await assert.rejects(
    client.embeddings.create({ model, input: "a", dimensions: 8 }), (error) => error.status === 400);
  console.log("ok");
}

main();
