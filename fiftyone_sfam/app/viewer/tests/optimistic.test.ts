import assert from "node:assert/strict";
import { test } from "node:test";
import { Optimistic } from "../src/optimistic";
import type { Stored } from "../src/types";
import { settle } from "./fakes";

/** Verdicts on two keys, and what answers those that are sent, one after the other. */
function held() {
  let changes = 0;
  const sent: { done: (stored: Stored<string, string>) => void; fail: () => void }[] = [];
  const verdicts = new Optimistic<string, string>(
    (key) => `old ${key}`,
    () => {
      changes += 1;
    },
  );
  const store = () =>
    new Promise<Stored<string, string>>((done, reject) => {
      sent.push({ done, fail: () => reject(new Error("no.")) });
    });
  return { verdicts, store, sent, changes: () => changes };
}

const previous = [{ pair: 3, verdict: null }];

test("pending verdicts are shown, stored ones stay, refused ones go", async () => {
  const { verdicts, store, sent, changes } = held();
  const first = verdicts.give(["a", "b"], "fine", store);
  const second = verdicts.give(["a"], "wrong", store).catch((error) => error.message);
  assert.equal(changes(), 2);
  const shown = () => ["a", "b"].map((key) => verdicts.of(key));
  assert.deepEqual(shown(), ["wrong", "fine"]);
  await settle();
  assert.equal(sent.length, 1);
  // What the server has stored counts, of other keys too.
  const stored = { a: "fine", b: "better" };
  sent[0]?.done({ verdicts: Object.entries(stored), previous });
  await first;
  assert.deepEqual(shown(), ["wrong", "better"]);
  assert.deepEqual([verdicts.isPending("a"), verdicts.isPending("b")], [true, false]);
  await settle();
  sent[1]?.fail();
  assert.equal(await second, "no.");
  assert.deepEqual(shown(), ["fine", "better"]);
  verdicts.forget();
  assert.deepEqual(shown(), ["old a", "old b"]);
});

test("the last verdict on a key is taken back, then the one before", async () => {
  const { verdicts, store, sent } = held();
  const answer = async (at: number, verdict: string) => {
    await settle();
    sent[at]?.done({ verdicts: [["a", verdict]], previous });
    await settle();
  };
  for (const [at, verdict] of ["one", "two"].entries()) {
    void verdicts.give(["a"], verdict, store);
    await answer(at, verdict);
  }
  void verdicts.give(["b"], "other", store);
  await answer(2, "two");
  for (const [at, before] of ["one", "old a"].entries()) {
    const last = verdicts.undoable("a");
    assert.ok(last);
    void verdicts.undo(last, (entries) => {
      assert.deepEqual(entries, previous);
      return store();
    });
    assert.equal(verdicts.of("a"), before);
    await answer(3 + at, before);
    assert.equal(verdicts.of("a"), before);
  }
  assert.equal(verdicts.undoable("a"), undefined);
  assert.equal(verdicts.undoable()?.before.get("b"), "old b");
});

test("an undo that is refused can be tried again", async () => {
  const { verdicts, store, sent } = held();
  void verdicts.give(["a"], "fine", store);
  await settle();
  sent[0]?.done({ verdicts: [["a", "fine"]], previous });
  await settle();
  const last = verdicts.undoable();
  assert.ok(last);
  const undone = verdicts.undo(last, store).catch((error) => error.message);
  assert.equal(verdicts.undoable(), undefined);
  await settle();
  sent[1]?.fail();
  assert.equal(await undone, "no.");
  assert.equal(verdicts.of("a"), "fine");
  assert.equal(verdicts.undoable(), last);
});
