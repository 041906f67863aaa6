import assert from "node:assert/strict";
import { test } from "node:test";
import * as lists from "../src/findings_state";
import type { Finding, Findings } from "../src/findings_types";

const finding = (key: string, answer: Finding["answer"] = ""): Finding => ({
  key,
  kind: "mislabeled image",
  score: "0.90",
  probable: true,
  sentence: "",
  proposal: "",
  answer,
  note: "",
  can_settle: true,
  groups: [],
});
const list: Findings = {
  findings: [finding("a"), finding("b"), finding("c", "rejected")],
  total: 20,
  kinds: [],
  expected: "3 errors",
  pictures: {},
};
const start = lists.listed(lists.EMPTY, list);
const answers = (state: lists.State) =>
  list.findings.map(({ key }) => lists.verdictOf(state, key).answer);

test("a verdict is shown at once, and stays when it is stored", () => {
  const previous = [{ pair: 3, verdict: null }];
  const waiting = lists.settling(start, "a", "accepted");
  assert.deepEqual(answers(waiting), ["accepted", "", "rejected"]);
  assert.equal(lists.verdictOf(waiting, "a").pending, true);
  const now = { answers: { a: "accepted", b: "", c: "" } as const, expected: "2 errors", previous };
  const stored = lists.settled(waiting, "a", now);
  assert.deepEqual(answers(stored), ["accepted", "", ""]);
  assert.equal(stored.list?.expected, "2 errors");
  assert.deepEqual(lists.verdictOf(stored, "a").previous, previous);
  assert.equal(lists.verdictOf(stored, "a").pending, false);
});

test("what is refused is taken back, with the sentence", () => {
  const refused = lists.refused(lists.settling(start, "c", "accepted"), "c", "gone");
  assert.deepEqual(answers(refused), ["", "", "rejected"]);
  assert.equal(lists.verdictOf(refused, "c").problem, "gone");
  assert.equal(lists.verdictOf(refused, "c").pending, false);
  const again = lists.settling(refused, "c", "accepted");
  assert.equal(lists.verdictOf(again, "c").problem, null);
});

test("an answer leaves a verdict alone that waits for its own", () => {
  const both = lists.settling(lists.settling(start, "a", "accepted"), "b", "rejected");
  const now = { answers: { a: "accepted", b: "", c: "rejected" } as const, expected: "" };
  const stored = lists.settled(both, "a", now);
  assert.deepEqual(answers(stored), ["accepted", "rejected", "rejected"]);
  assert.deepEqual(answers(lists.refused(stored, "b", "no")), ["accepted", "", "rejected"]);
});

test("undo shows what there was before the verdict", () => {
  const previous = [{ pair: 3, verdict: { text: "fine" } }];
  const answer = { answers: { c: "accepted" } as const, expected: "", previous };
  const accepted = lists.settled(lists.settling(start, "c", "accepted"), "c", answer);
  const undone = lists.settling(accepted, "c", "undo");
  assert.deepEqual(answers(undone), ["", "", "rejected"]);
  const stored = lists.settled(undone, "c", { answers: { c: "rejected" }, expected: "" });
  assert.equal(lists.verdictOf(stored, "c").previous, null);
  assert.deepEqual(answers(stored), ["", "", "rejected"]);
});

test("what is given while a verdict is being stored waits; the latest counts", () => {
  const waiting = lists.settling(start, "c", "accepted");
  const twice = lists.postponed(lists.postponed(waiting, "c", "rejected"), "c", "undo");
  assert.deepEqual(answers(twice), ["", "", "accepted"]);
  assert.equal(lists.verdictOf(twice, "c").next, "undo");
  const previous = [{ pair: 3, verdict: null }];
  const now = { answers: { c: "accepted" } as const, expected: "", previous };
  const stored = lists.settled(twice, "c", now);
  assert.equal(lists.verdictOf(stored, "c").next, null);
  assert.deepEqual(lists.verdictOf(stored, "c").previous, previous);
  assert.deepEqual(answers(lists.settling(stored, "c", "undo")), ["", "", "rejected"]);
  assert.equal(lists.verdictOf(lists.refused(twice, "c", "gone"), "c").next, null);
});

test("a new list keeps only verdicts that are on their way", () => {
  const two = lists.settling(start, "a", "accepted");
  const now = { answers: { b: "accepted" } as const, expected: "" };
  const both = lists.settled(lists.settling(two, "b", "accepted"), "b", now);
  const renewed = lists.listed(both, { ...list, findings: [finding("b", "rejected")] });
  assert.equal(lists.verdictOf(renewed, "b").answer, "rejected");
  assert.equal(lists.verdictOf(renewed, "a").answer, "accepted");
});

test("pages end at the first and the last finding", () => {
  const place = { ...lists.FIRST, start: 8, count: 8 };
  assert.equal(lists.turned(place, 16, 1), null);
  assert.equal(lists.turned(place, 17, 1)?.start, 16);
  assert.equal(lists.turned(place, 17, -1)?.start, 0);
  assert.equal(lists.turned(lists.FIRST, 17, -1), null);
  assert.equal(lists.turned({ ...place, start: 3 }, 17, -1)?.start, 0);
});

test("keys go from finding to finding", () => {
  assert.equal(lists.stepped("ArrowDown", 1, 3), 2);
  assert.equal(lists.stepped("ArrowDown", 2, 3), 2);
  assert.equal(lists.stepped("ArrowUp", 0, 3), 0);
  assert.equal(lists.stepped("End", 0, 3), 2);
  assert.equal(lists.stepped("x", 1, 3), null);
});
