import assert from "node:assert/strict";
import { test } from "node:test";
import * as lists from "../src/findings_state";
import type { Finding, Findings } from "../src/types";
import { type Params, Server, settle } from "./fakes";

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
const previous = [{ pair: 3, verdict: null }];

/** A list that has come, of a server that has stored what `now` says. */
async function listed(now: Record<string, Finding["answer"]>) {
  const stored = { verdicts: Object.entries(now), expected: "2 errors", previous };
  const made = ({ question }: Params) => (question === "findings" ? { ...list } : stored);
  const server = new Server(made);
  const shown = new lists.FindingsList({ run: "sfam", uid: "u1" }, server.client);
  await shown.load(lists.FIRST);
  server.held = true;
  return { server, shown, answers: () => ["a", "b", "c"].map((key) => shown.verdicts.of(key)) };
}

const refusal = { result: { problem: "gone.", stale: false } };

test("a verdict is shown at once, and stays when it is stored", async () => {
  const { server, shown, answers } = await listed({ a: "accepted", b: "", c: "" });
  assert.deepEqual(answers(), ["", "", "rejected"]);
  const settled = shown.settle("a", "accept");
  assert.deepEqual(answers(), ["accepted", "", "rejected"]);
  assert.equal(shown.verdicts.isPending("a"), true);
  await settle();
  const { request_id, ...sent } = server.asked[1]?.params ?? {};
  const keys = { finding: "a", shown: ["a", "b", "c"] };
  assert.deepEqual(sent, { question: "accept", run: "sfam", uid: "u1", ...keys });
  assert.equal(typeof request_id, "string");
  server.answer(1);
  await settled;
  assert.deepEqual(answers(), ["accepted", "", ""]);
  assert.equal(shown.answer?.expected, "2 errors");
  assert.equal(shown.verdicts.isPending("a"), false);
});

test("what is refused is taken back, with the sentence", async () => {
  const { server, shown, answers } = await listed({});
  const settled = shown.settle("c", "accept");
  await settle();
  server.answer(1, refusal);
  await settled;
  assert.deepEqual(answers(), ["", "", "rejected"]);
  assert.equal(shown.refused.get("c"), "gone.");
  void shown.settle("c", "accept");
  assert.equal(shown.refused.has("c"), false);
});

test("an undo that is given while a verdict is being stored waits for it", async () => {
  const { server, shown, answers } = await listed({ c: "rejected" });
  void shown.settle("c", "accept");
  void shown.settle("c", "restore");
  assert.deepEqual(answers(), ["", "", "rejected"]);
  await settle();
  assert.equal(server.asked.length, 2);
  server.answer(1);
  await settle();
  const { question, entries } = server.asked[2]?.params ?? {};
  assert.deepEqual([question, entries], ["restore", previous]);
  // There is nothing else to take back.
  await shown.settle("c", "restore");
  assert.equal(server.asked.length, 3);
});

test("a new list keeps only verdicts that are on their way", async () => {
  const { server, shown, answers } = await listed({ b: "accepted" });
  const settled = shown.settle("b", "accept");
  await settle();
  server.answer(1);
  await settled;
  void shown.settle("a", "accept");
  await settle();
  const loaded = shown.load({ ...lists.FIRST, kind: "x" });
  const findings = [finding("a"), finding("b", "rejected"), finding("c")];
  server.answer(3, { result: { ...list, findings } });
  await loaded;
  assert.deepEqual(answers(), ["accepted", "rejected", ""]);
});

test("of two lists the one that was asked for last is shown; a problem is said", async () => {
  const { server, shown } = await listed({});
  const first = shown.load({ ...lists.FIRST, start: 8 });
  const second = shown.load({ ...lists.FIRST, start: 16 });
  server.answer(2, { result: { ...list, total: 17 } });
  server.answer(1);
  await Promise.all([first, second]);
  assert.deepEqual([shown.answer?.total, shown.place.start], [17, 16]);
  const third = shown.load(lists.FIRST);
  server.answer(3, refusal);
  await third;
  assert.equal(shown.problem, "gone.");
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
