import assert from "node:assert/strict";
import { test } from "node:test";
import * as store from "../src/store";
import { START, type State, soon } from "../src/store";
import { OPENED, runInfo } from "./fakes";

type Change = (state: State) => State;

function queue(pairs: number[], queries: number[]): Change {
  const arrays = { pairs: Int32Array.from(pairs), queries: Int32Array.from(queries) };
  return (state) => store.queued(state, { ...arrays, reviewed: 0, note: null });
}

function after(...changes: Change[]): State {
  return changes.reduce((state, change) => change(state), START);
}

const OPEN: Change = (state) => store.opened(state, OPENED);
const place = (to: number): Change => {
  return (state) => store.toPlace(state, to);
};
// Three queries with two, three and one pairs.
const QUEUE = queue([10, 11, 20, 21, 22, 30], [1, 1, 2, 2, 2, 3]);

test("the first pair of a queue is shown, and steps stay inside of it", () => {
  const state = after(OPEN, QUEUE);
  assert.deepEqual([state.place, state.pair], [0, 10]);
  const back = store.toPair(state, -1);
  assert.deepEqual([back.place, back.pair], [0, 10]);
  const end = store.toPair(state, 9);
  assert.deepEqual([end.place, end.pair], [5, 30]);
});

test("the next query starts with its first pair, in both directions", () => {
  const places = (from: number, by: number) =>
    store.toQuery(after(OPEN, QUEUE, place(from)), by).place;
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
  assert.deepEqual(soon(after(OPEN, QUEUE, place(2))), [21, 30, 10]);
  assert.deepEqual(soon(after(OPEN, QUEUE)), [11, 20, 30]);
});

test("a neighbor keeps the place in the queue and the pins of the query", () => {
  const pins = [
    { side: "query" as const, row: 1, column: 1 },
    { side: "neighbor" as const, row: 2, column: 2 },
  ];
  const pinned = { ...after(OPEN, QUEUE), pins };
  const turned = store.toNeighbor(pinned, 99);
  assert.deepEqual([turned.pair, turned.place], [99, 0]);
  assert.deepEqual(turned.pins, pins.slice(0, 1));
  const next = store.toPair(turned, 1);
  assert.deepEqual([next.pair, next.place, next.pins], [11, 1, []]);
});

test("a pair from outside of the queue is shown, and the next step returns", () => {
  const state = store.located(after(OPEN, QUEUE, place(3)), 77);
  assert.deepEqual([state.pair, state.place, state.outside], [77, 3, true]);
  const requeued = QUEUE(state);
  assert.equal(requeued.pair, 77);
  const back = store.toPair(state, 1);
  assert.deepEqual([back.pair, back.place, back.outside], [21, 3, false]);
  const inside = store.located(state, 22);
  assert.deepEqual([inside.place, inside.outside], [4, false]);
});

test("another queue keeps the shown pair where it has it, else it starts anew", () => {
  const state = after(OPEN, QUEUE, place(3));
  const kept = queue([5, 21], [0, 2])(state);
  assert.deepEqual([kept.pair, kept.place], [21, 1]);
  const anew = queue([5, 6], [0, 0])(state);
  assert.deepEqual([anew.pair, anew.place], [5, 0]);
  const none = queue([], [])(state);
  assert.deepEqual([none.pair, none.place], [null, 0]);
});

test("another run of the same key starts anew; the same run does not", () => {
  const state = after(OPEN, QUEUE, place(3));
  assert.equal(OPEN(state).pair, 21);
  const run = runInfo("u2");
  const other = store.opened(state, { ...OPENED, run });
  assert.deepEqual([other.pair, other.queue], [null, null]);
});

test("ranges and single pairs are selected, at most a thousand", () => {
  const mark = (at: number, how: "one" | "toggle" | "range"): Change => {
    return (state) => store.marked(state, at, how);
  };
  const state = after(OPEN, QUEUE, mark(1, "one"), mark(3, "range"), mark(2, "toggle"));
  assert.deepEqual([...state.chosen].sort(), [11, 21]);
  assert.equal(mark(5, "one")(state).chosen.size, 0);
  const many = Array.from({ length: 3000 }, (_, at) => at);
  const all = after(OPEN, queue(many, many), mark(0, "one"), mark(2999, "range"));
  assert.equal(all.chosen.size, 1000);
  assert.match(all.message?.text ?? "", /At most 1000 pairs/);
});

test("opacity and threshold stay between 0 and 1", () => {
  const choose = (opacity: number) => store.chosen(START, { opacity });
  assert.equal(choose(1.2).choices.opacity, 1);
  assert.equal(choose(-0.1).choices.opacity, 0);
  assert.equal(choose(0.1 + 0.2).choices.opacity, 0.3);
});
