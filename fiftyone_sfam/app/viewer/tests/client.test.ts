import assert from "node:assert/strict";
import { test } from "node:test";
import type { Problem } from "../src/client";
import { Server, settle } from "./fakes";

const LOST = { error: new TypeError("Failed to fetch") };

test("a question whose answer is lost is asked again after growing pauses", async () => {
  const server = new Server();
  server.held = true;
  const asked = server.client.ask("open", {});
  for (const at of [0, 1, 2]) {
    server.answer(at, LOST);
    await settle();
  }
  server.answer(3, { result: { runs: ["a"] } });
  assert.deepEqual(await asked, { runs: ["a"] });
  assert.deepEqual(server.pauses, [500, 1000, 2000]);
});

test("after five more tries it says that the server does not answer", async () => {
  const server = new Server();
  server.client.send = (_, done) => done(LOST);
  const problem = await server.client.ask("open", {}).catch((error: Problem) => error);
  assert.equal((problem as Problem).message, "The server of FiftyOne does not answer.");
  assert.deepEqual(server.pauses, [500, 1000, 2000, 4000, 8000]);
});

test("a refusal and an error of Python are not repeated", async () => {
  const replies = [
    { result: { problem: "no such pair.", stale: true } },
    { error: "Traceback", errorMessage: "boom\nTraceback" },
  ];
  for (const [at, said] of ["no such pair.", "The server failed: boom"].entries()) {
    const server = new Server();
    server.client.send = (_, done) => done(replies[at] ?? {});
    const problem = (await server.client.ask("open", {}).catch((error) => error)) as Problem;
    assert.equal(problem.message, said);
    assert.equal(problem.stale, at === 0);
    assert.deepEqual(server.pauses, []);
  }
});

test("a kept answer is asked for once, and found by its parameters", async () => {
  const { client, ...server } = new Server();
  for (const pair of [3, 3, 4]) client.want("query", { pair });
  await settle();
  client.want("query", { pair: 3 });
  assert.equal(server.asked.length, 2);
  assert.equal(client.read("query", { pair: 3 }).value?.item, 1);
  assert.equal(client.read("query", { pair: 5 }).value, undefined);
});

test("one question runs in the background, four at all, the newest urgent one first", async () => {
  const server = new Server();
  server.held = true;
  const started = () => server.asked.map(({ params }) => params.pair);
  for (const pair of [0, 3, 6, 9]) server.client.want("query", { pair }, false);
  assert.deepEqual(started(), [0]);
  for (const pair of [9, 12, 15, 18, 21]) server.client.want("query", { pair });
  assert.deepEqual(started(), [0, 9, 12, 15]);
  server.answer(0);
  await settle();
  assert.deepEqual(started(), [0, 9, 12, 15, 21]);
});

test("what has not begun is given up, and can be asked for again", async () => {
  const server = new Server();
  server.held = true;
  for (const pair of [0, 3, 6]) server.client.want("query", { pair }, false);
  server.client.giveUp();
  server.answer(0);
  await settle();
  assert.equal(server.asked.length, 1);
  server.client.want("query", { pair: 6 }, false);
  assert.equal(server.asked.length, 2);
});

test("the answers that were used last are kept, others are forgotten", async () => {
  const { client } = new Server();
  for (let pair = 0; pair < 8; pair += 1) client.want("correspondences", { pair });
  await settle();
  client.want("correspondences", { pair: 0 });
  client.want("correspondences", { pair: 8 });
  await settle();
  assert.notEqual(client.read("correspondences", { pair: 0 }).value, undefined);
  assert.equal(client.read("correspondences", { pair: 1 }).value, undefined);
});

test("an answer that was forgotten meanwhile is not brought back", async () => {
  const server = new Server();
  server.held = true;
  server.client.want("query", { pair: 0 });
  server.client.forget();
  server.answer(0);
  await settle();
  assert.equal(server.client.values("query").length, 0);
});
