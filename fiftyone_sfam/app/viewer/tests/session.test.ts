import assert from "node:assert/strict";
import { test } from "node:test";
import { commandOf } from "../src/keys";
import { Session } from "../src/session";
import { marked, opened as stateOf, toQuery } from "../src/store";
import type { Side } from "../src/types";
import { OPENED, runInfo, Server, settle } from "./fakes";

/** A session that shows the first pair of its queue. */
async function opened(): Promise<[Session, Server]> {
  const server = new Server();
  const session = new Session(server.client);
  await session.open();
  session.fetch();
  await settle();
  session.fetch();
  await settle();
  return [session, server];
}

/** Press keys while the panel has the focus. */
function press(session: Session, ...keys: string[]): void {
  const plain = { ctrlKey: false, metaKey: false, altKey: false, shiftKey: false, target: null };
  for (const key of keys) commandOf({ ...plain, key })?.(session);
}

function pairShown(session: Session): [number | undefined, boolean] {
  const { shown, current } = session.shown();
  return [shown?.neighbor.pair, current];
}

test("the first pair is shown, and what comes next is there before it is asked for", async () => {
  const [session, server] = await opened();
  assert.deepEqual(pairShown(session), [0, true]);
  press(session, "ArrowDown");
  assert.deepEqual(pairShown(session), [3, true]);
  // Pairs of the same query need no question.
  press(session, "ArrowRight");
  assert.deepEqual(pairShown(session), [4, true]);
  assert.equal(server.count("query"), 3);
});

test("an older answer that comes late does not replace what is shown", async () => {
  const [session, server] = await opened();
  server.client.forget();
  server.held = true;
  press(session, "ArrowDown");
  session.fetch();
  press(session, "ArrowDown");
  session.fetch();
  assert.deepEqual(pairShown(session), [0, false]);
  server.answer(server.findLast("query", { pair: 6 }));
  await settle();
  assert.deepEqual(pairShown(session), [6, true]);
  server.answer(server.findLast("query", { pair: 3 }));
  await settle();
  assert.deepEqual(pairShown(session), [6, true]);
});

test("of two queues the one that was asked for last is shown", async () => {
  const [session, server] = await opened();
  server.held = true;
  const one = session.filter({ outcome: "a" });
  const two = session.filter({ outcome: "b" });
  const at = server.asked.findIndex(
    ({ params }) => (params.spec as { outcome?: string } | undefined)?.outcome === "b",
  );
  server.answer(at, { result: { ...queueOf([9]), note: "second" } });
  server.answer(at - 1, { result: { ...queueOf([3, 6]), note: "first" } });
  await Promise.all([one, two]);
  assert.deepEqual([...(session.state.queue?.pairs ?? [])], [9]);
  assert.equal(session.state.queue?.note, "second");
});

function queueOf(pairs: number[]) {
  const data = Buffer.from(Int32Array.from(pairs).buffer).toString("base64");
  const array = { shape: [pairs.length], dtype: "i4", scale: 1, data };
  return { pairs: array, queries: array, reviewed: 0, note: null };
}

test("a verdict is shown at once and turns to the next pair; undo goes back", async () => {
  const [session, server] = await opened();
  server.held = true;
  press(session, "2");
  assert.equal(session.verdicts.of(0), "wrong label");
  assert.equal(session.state.pair, 3);
  await settle();
  const sent = server.asked[server.find("verdict")]?.params;
  assert.deepEqual([sent?.pairs, sent?.verdict, sent?.uid], [[0], "wrong label", "u1"]);
  server.answer(server.find("verdict"));
  await settle();
  assert.equal(session.verdicts.isPending(), false);
  server.held = false;
  press(session, "u");
  await settle();
  assert.equal(session.verdicts.of(0), null);
  assert.equal(session.state.pair, 0);
  const undo = server.asked[server.find("undo")]?.params;
  assert.deepEqual(undo?.entries, [{ pair: 0, verdict: null }]);
});

/** Let the server answer questions one after the other; return them. */
async function answered(server: Server, from: number): Promise<unknown[]> {
  for (let at = from; at < server.asked.length; at += 1) {
    server.answer(at);
    await settle();
  }
  const { asked } = server;
  return asked.slice(from).map(({ params }) => [params.question, params.verdict ?? params.entries]);
}

test("verdicts and undo are shown at once, and sent one after the other", async () => {
  const [session, server] = await opened();
  server.held = true;
  session.set({ advance: false });
  press(session, "1");
  press(session, "2");
  assert.equal(session.verdicts.of(0), "wrong label");
  press(session, "u");
  assert.equal(session.verdicts.of(0), "fine");
  await settle();
  const first = server.find("verdict");
  assert.equal(first, server.asked.length - 1); // only one is sent
  const none = [{ pair: 0, verdict: null }];
  assert.deepEqual(await answered(server, first), [
    ["verdict", "fine"],
    ["verdict", "wrong label"],
    ["undo", none],
  ]);
  const requests = server.asked.slice(first).map(({ params }) => params.request_id);
  assert.equal(new Set(requests).size, 3);
});

test("a verdict that is given after an undo is sent after it", async () => {
  const [session, server] = await opened();
  server.held = true;
  session.set({ advance: false });
  press(session, "1", "u", "2");
  assert.equal(session.verdicts.of(0), "wrong label");
  await settle();
  const sent = await answered(server, server.find("verdict"));
  assert.deepEqual(
    sent.map((one) => (one as string[])[0]),
    ["verdict", "undo", "verdict"],
  );
  assert.equal(session.verdicts.of(0), "wrong label");
});

test("an undo of a verdict that is then refused takes nothing else back", async () => {
  const [session, server] = await opened();
  session.set({ advance: false });
  press(session, "1");
  await settle();
  server.held = true;
  press(session, "2", "u");
  await settle();
  const refusal = { result: { problem: "read only.", stale: false } };
  server.answer(server.find("verdict", { verdict: "wrong label" }), refusal);
  await settle();
  assert.equal(server.count("undo"), 0);
  assert.equal(session.verdicts.of(0), "fine");
  assert.equal(session.verdicts.isPending(), false);
  assert.equal(session.state.message?.text, "The verdict was not saved: read only.");
});

test("another run under the same key has no verdicts of the one before", async () => {
  const [session, server] = await opened();
  press(session, "1");
  await settle();
  assert.ok(session.verdicts.undoable());
  server.held = true;
  const again = session.open("sfam");
  server.answer(server.asked.length - 1, { result: { ...OPENED, run: runInfo("u2") } });
  await settle();
  assert.equal(session.verdicts.of(0), null);
  assert.equal(session.verdicts.undoable(), undefined);
  server.answer(server.asked.length - 1);
  await again;
});

test("a refused verdict is rolled back with a sentence", async () => {
  const [session, server] = await opened();
  server.held = true;
  press(session, "1");
  await settle();
  server.answer(server.find("verdict"), { result: { problem: "read only.", stale: false } });
  await settle();
  assert.equal(session.verdicts.of(0), null);
  assert.equal(session.state.message?.text, "The verdict was not saved: read only.");
  assert.equal(session.verdicts.undoable(), undefined);
});

test("a verdict on a selection is one question", async () => {
  const [session, server] = await opened();
  session.become(marked(session.state, 0, "one"));
  session.become(marked(session.state, 2, "range"));
  press(session, "1");
  await settle();
  assert.deepEqual(server.asked[server.find("verdict")]?.params.pairs, [0, 3, 6]);
  assert.deepEqual(
    [0, 3, 6, 9].map((pair) => session.verdicts.of(pair)),
    ["fine", "fine", "fine", null],
  );
  assert.equal(session.state.pair, 0);
});

test("the stored map is shown until the best one is there; one range serves all", async () => {
  const [session, server] = await opened();
  server.held = true;
  const shown = session.shown().shown;
  assert.ok(shown);
  assert.equal(session.map(shown)?.kind.name, "sfam");
  assert.equal(session.limit(shown, mapOf(session), true), 3);
  session.choose({ kind: "scales" });
  session.fetch();
  assert.equal(mapOf(session).kind.name, "sfam");
  assert.equal(mapOf(session).waiting?.name, "scales");
  server.answer(server.find("live", { pair: 0 }));
  await settle();
  assert.equal(mapOf(session).kind.name, "scales");
  assert.equal(session.limit(shown, mapOf(session), false), 5);
  session.choose({ kind: "best" });
  assert.equal(mapOf(session).kind.name, "scales");
  assert.equal(session.map(shown, true)?.kind.name, "sfam"); // which all neighbors have
  session.choose({ kind: "scales" });
  assert.equal(session.map(shown, true)?.kind.name, "scales");
  press(session, "ArrowRight", "ArrowRight");
  session.fetch();
  assert.equal(mapOf(session).kind.name, "sfam");
  server.answer(server.find("live", { pair: 2 }));
  await settle();
  assert.equal(session.limit(shown, mapOf(session), false), 7);
});

test("the best map is the stored one where a pair has it, and is computed elsewhere", async () => {
  const [session, server] = await opened();
  server.held = true;
  const shown = session.shown().shown;
  assert.ok(shown);
  const side = { box: [0, 0, 1, 1], remainder: null };
  const maps = (names: string[]) =>
    ({ ...side, maps: Object.fromEntries(names.map((name) => [name, {}])) }) as unknown as Side;
  shown.neighbor.query_side = maps(["sfam"]);
  assert.equal(mapOf(session).kind.name, "sfam");
  assert.equal(mapOf(session).waiting?.name, "scales");
  shown.neighbor.query_side = maps(["scales", "sfam"]);
  assert.equal(mapOf(session).kind.name, "scales");
  assert.equal(mapOf(session).waiting, null);
  const before = server.asked.length;
  session.choose({ kind: "scales" });
  session.fetch();
  const asked = server.asked.slice(before).map(({ params }) => params.question);
  assert.ok(!asked.includes("live"));
});

function mapOf(session: Session) {
  const shown = session.shown().shown;
  const map = shown && session.map(shown);
  assert.ok(map);
  return map;
}

test("the map of a failed computation is the stored one, and says why", async () => {
  const [session, server] = await opened();
  server.held = true;
  session.choose({ kind: "scales" });
  session.fetch();
  server.answer(server.find("live"), { result: { problem: "no model.", stale: false } });
  await settle();
  assert.equal(mapOf(session).kind.name, "sfam");
  assert.equal(mapOf(session).waiting, null);
  assert.equal(mapOf(session).problem?.message, "no model.");
});

test("handed over pairs are the queue until they are left", async () => {
  const [session] = await opened();
  await session.handOver({
    run: "sfam",
    uid: "u1",
    title: "worst",
    pairs: [7, 8, 2],
    queries: [3, 3, 1],
  });
  assert.deepEqual([...(session.state.queue?.pairs ?? [])], [7, 8, 2]);
  assert.deepEqual(session.state.pair, 7);
  session.become(toQuery(session.state, 1));
  assert.deepEqual(session.state.pair, 2); // 8 is of the same query as 7
  await session.leaveHanded();
  assert.deepEqual([...(session.state.queue?.pairs ?? [])], [0, 3, 6, 9]);
  await session.handOver({ run: "sfam", uid: "gone", title: "old", pairs: [1], queries: [0] });
  assert.equal(session.state.handed, null);
  assert.match(session.state.message?.text ?? "", /^The run 'sfam' of "old" was deleted/);
});

test("a queue that is on its way does not replace what was handed over", async () => {
  const [session, server] = await opened();
  server.held = true;
  const filtered = session.filter({ outcome: "a" });
  await session.handOver({ run: "sfam", uid: "u1", title: "worst", pairs: [7], queries: [2] });
  server.answer(server.find("queue", { spec: session.state.spec }));
  await filtered;
  assert.deepEqual([...(session.state.queue?.pairs ?? [])], [7]);
});

test("a run that was made anew is opened again, with a sentence", async () => {
  const [session, server] = await opened();
  server.held = true;
  const filtered = session.filter({ outcome: "a" });
  server.answer(server.asked.length - 1, { result: { problem: "it is gone.", stale: true } });
  await settle();
  const run = runInfo("u2");
  server.answer(server.asked.length - 1, { result: { ...OPENED, run } });
  await settle();
  server.answer(server.asked.length - 1);
  await filtered;
  await settle();
  assert.equal(session.state.run?.uid, "u2");
  assert.equal(session.state.message?.text, "it is gone.");
  assert.equal(session.state.pair, 0);
});

test("a failed queue says so, and a push on Retry asks for it again", async () => {
  const server = new Server();
  const session = new Session(server.client);
  const send = server.client.send;
  server.client.send = (params, done) =>
    params.question === "queue" ? done({ error: new TypeError() }) : send(params, done);
  await session.open();
  assert.equal(session.state.message?.retry, true);
  server.client.send = send;
  await session.again();
  assert.equal(session.state.message, null);
  assert.equal(session.state.pair, 0);
});

test("the App's selection is followed: one sample, two, none", async () => {
  const [session, server] = await opened();
  await session.follow(["a"]);
  assert.deepEqual([session.state.pair, session.state.outside], [7, true]);
  server.held = true;
  const followed = session.follow(["a", "b"]);
  const at = server.find("selected", { samples: ["a", "b"] });
  const query = { ...OPENED, neighbors: [{ pair: -1 }], kinds: [], notes: [], limits: {} };
  server.answer(at, { result: { pair: null, query } });
  await followed;
  assert.equal(session.shown().shown?.neighbor.pair, -1);
  session.fetch();
  const about = server.asked[server.find("correspondences", { samples: ["a", "b"] })]?.params;
  assert.equal(about?.uid, "u1");
  await session.follow([]);
  assert.equal(session.state.two, null);
  assert.equal(session.state.pair, 7);
});

test("without a run the only model explains two samples; of several one is chosen", async () => {
  const server = new Server();
  const session = new Session(server.client);
  const model = (name: string) => ({ name, label: name });
  const without = { ...OPENED, run: null, models: [model("a")] };
  session.become(stateOf(session.state, without));
  server.held = true;
  void session.follow(["x", "y"]);
  assert.deepEqual(server.asked[0]?.params.model, "a");
  session.set({ two: null });
  session.become(stateOf(session.state, { ...without, models: [model("a"), model("b")] }));
  void session.follow(["x", "z"]);
  assert.equal(server.asked[1]?.params.model, undefined);
  assert.deepEqual(session.state.two?.samples, ["x", "z"]);
  void session.explain(["x", "z"], "b");
  void session.follow(["x", "w"]);
  assert.equal(server.asked[3]?.params.model, "b");
});

test("each key for the next map shows another one, and after the last the best", async () => {
  const [session] = await opened();
  const seen = [0, 1, 2].map(() => {
    press(session, "m");
    return session.state.choices.kind;
  });
  assert.deepEqual(seen, ["scales", "sfam", "best"]);
});

test("keys change the opacity, open the filters, and close what is open", async () => {
  const [session] = await opened();
  press(session, "+", "+", "-", "f", "s", "l", "?");
  const { choices, filters, help } = session.state;
  assert.deepEqual([choices.opacity, choices.swipe, choices.loupe], [0.7, true, true]);
  assert.deepEqual([filters, help], [true, true]);
  session.become(marked(session.state, 1, "toggle"));
  press(session, "Escape");
  assert.deepEqual([session.state.help, session.state.chosen.size], [false, 1]);
  press(session, "Escape");
  assert.equal(session.state.chosen.size, 0);
});

test("clearing the filters keeps the order and the view", async () => {
  const [session] = await opened();
  await session.filter({ outcome: "a", order: "margin", in_view: true });
  await session.filter({ identity: "x" });
  const { spec } = session.state;
  assert.deepEqual(spec, { order: "margin", in_view: true, outcome: "a", identity: "x" });
  await session.filter(null);
  assert.deepEqual(session.state.spec, { order: "margin", in_view: true });
});

test("a larger picture is asked for once one is zoomed into", async () => {
  const [session, server] = await opened();
  session.fetch();
  assert.equal(server.count("picture"), 0);
  session.set({ zoom: { scale: 3, x: 0.5, y: 0.5 } });
  session.fetch();
  assert.deepEqual(server.asked[server.find("picture")]?.params.size, 1600);
});

test("rows come in pages, and know the verdicts given since", async () => {
  const [session, server] = await opened();
  session.wantRows(0, 3);
  await settle();
  assert.deepEqual(server.asked[server.find("rows")]?.params.pairs, [0, 3, 6, 9]);
  assert.equal(session.row(2)?.pair, 6);
  assert.equal(session.row(4), undefined);
});
