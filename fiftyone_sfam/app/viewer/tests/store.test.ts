import assert from "node:assert/strict";
import { test } from "node:test";
import { type Action, reduce, START, type State, soon, verdictOf } from "../src/store";
import { OPENED, runInfo } from "./fakes";

function queue(pairs: number[], queries: number[]): Action {
  const arrays = { pairs: Int32Array.from(pairs), queries: Int32Array.from(queries) };
  return { type: "queue", queue: { ...arrays, reviewed: 0, note: null } };
}

function after(...actions: Action[]): State {
  return actions.reduce(reduce, START);
}

const OPEN: Action = { type: "opened", opened: OPENED };
// Three queries with two, three and one pairs.
const QUEUE = queue([10, 11, 20, 21, 22, 30], [1, 1, 2, 2, 2, 3]);

test("the first pair of a queue is shown, and steps stay inside of it", () => {
  const state = after(OPEN, QUEUE);
  assert.deepEqual([state.place, state.pair], [0, 10]);
  const back = reduce(state, { type: "step", by: -1 });
  assert.deepEqual([back.place, back.pair], [0, 10]);
  const end = reduce(state, { type: "step", by: 9 });
  assert.deepEqual([end.place, end.pair], [5, 30]);
});

test("the next query starts with its first pair, in both directions", () => {
  const places = (from: number, by: number) =>
    reduce(after(OPEN, QUEUE, { type: "place", place: from }), { type: "stepQuery", by }).place;
  assert.deepEqual(
    [0, 1, 2, 4, 5].map((from) => places(from, 1)),
    [2, 2, 5, 5, 5],
  );
  assert.deepEqual(
    [0, 1, 2, 4, 5].map((from) => places(from, -1)),
    [0, 1, 0, 0, 2],
  );
});

test("the next pair, the next two queries and the previous one are fetched ahead", () => {
  assert.deepEqual(soon(after(OPEN, QUEUE, { type: "place", place: 2 })), [21, 30, 10]);
  assert.deepEqual(soon(after(OPEN, QUEUE)), [11, 20, 30]);
});

test("a neighbor keeps the place in the queue and the pins of the query", () => {
  const pins = [
    { side: "query" as const, row: 1, column: 1 },
    { side: "neighbor" as const, row: 2, column: 2 },
  ];
  const pinned = after(OPEN, QUEUE, { type: "set", change: { pins } });
  const turned = reduce(pinned, { type: "neighbor", pair: 99 });
  assert.deepEqual([turned.pair, turned.place], [99, 0]);
  assert.deepEqual(turned.pins, pins.slice(0, 1));
  const next = reduce(turned, { type: "step", by: 1 });
  assert.deepEqual([next.pair, next.place, next.pins], [11, 1, []]);
});

test("a pair from outside of the queue is shown, and the next step returns", () => {
  const state = after(OPEN, QUEUE, { type: "place", place: 3 }, { type: "locate", pair: 77 });
  assert.deepEqual([state.pair, state.place, state.outside], [77, 3, true]);
  const requeued = reduce(state, QUEUE);
  assert.equal(requeued.pair, 77);
  const back = reduce(state, { type: "step", by: 1 });
  assert.deepEqual([back.pair, back.place, back.outside], [21, 3, false]);
  const inside = reduce(state, { type: "locate", pair: 22 });
  assert.deepEqual([inside.place, inside.outside], [4, false]);
});

test("another queue keeps the shown pair where it has it, else it starts anew", () => {
  const state = after(OPEN, QUEUE, { type: "place", place: 3 });
  const kept = reduce(state, queue([5, 21], [0, 2]));
  assert.deepEqual([kept.pair, kept.place], [21, 1]);
  const anew = reduce(state, queue([5, 6], [0, 0]));
  assert.deepEqual([anew.pair, anew.place], [5, 0]);
  const none = reduce(state, queue([], []));
  assert.deepEqual([none.pair, none.place], [null, 0]);
});

test("another run of the same key starts anew; the same run does not", () => {
  const give: Action = { type: "give", id: 1, verdicts: new Map([[10, "fine"]]), undone: false };
  const state = after(OPEN, QUEUE, { type: "place", place: 3 }, give);
  assert.equal(reduce(state, OPEN).pair, 21);
  const run = { ...runInfo("u2"), pairs: 1, queries: 1 };
  const other = reduce(state, { type: "opened", opened: { ...OPENED, run } });
  assert.deepEqual([other.pair, other.queue, other.pending], [null, null, []]);
});

test("pending verdicts are shown, confirmed ones stay, refused ones go", () => {
  const give = (id: number, verdict: string): Action => {
    return { type: "give", id, verdicts: new Map([[10, verdict]]), undone: false };
  };
  const both = after(OPEN, QUEUE, give(1, "fine"), give(2, "wrong label"));
  assert.equal(verdictOf(both, 10, "old"), "wrong label");
  const answer = { verdicts: [{ pair: 10, verdict: "fine" }], previous: [] };
  const first = reduce(both, { type: "given", id: 1, answer, before: new Map([[10, "old"]]) });
  assert.equal(verdictOf(first, 10, "old"), "wrong label");
  const refused = reduce(first, { type: "refused", id: 2, text: "no.", undo: null });
  assert.equal(verdictOf(refused, 10, "old"), "fine");
  assert.equal(refused.message?.text, "no.");
  assert.equal(refused.undo.length, 1);
  assert.equal(verdictOf(refused, 11, "old"), "old");
  const undone = reduce(refused, { ...give(3, ""), undone: true } as Action);
  assert.equal(undone.undo.length, 0);
});

test("ranges and single pairs are selected, at most a thousand", () => {
  const mark = (place: number, how: "one" | "toggle" | "range"): Action => ({
    type: "mark",
    place,
    how,
  });
  const state = after(OPEN, QUEUE, mark(1, "one"), mark(3, "range"), mark(2, "toggle"));
  assert.deepEqual([...state.chosen].sort(), [11, 21]);
  assert.equal(reduce(state, mark(5, "one")).chosen.size, 0);
  const many = Array.from({ length: 3000 }, (_, at) => at);
  const all = after(OPEN, queue(many, many), mark(0, "one"), mark(2999, "range"));
  assert.equal(all.chosen.size, 1000);
  assert.match(all.message?.text ?? "", /At most 1000 pairs/);
});

test("opacity and threshold stay between 0 and 1", () => {
  const choose = (opacity: number) => after({ type: "choose", change: { opacity } });
  assert.equal(choose(1.2).choices.opacity, 1);
  assert.equal(choose(-0.1).choices.opacity, 0);
  assert.equal(choose(0.1 + 0.2).choices.opacity, 0.3);
});
