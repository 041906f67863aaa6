import assert from "node:assert/strict";
import { test } from "node:test";
import { commandOf } from "../src/keys";

const key = (name: string, more: object = {}) =>
  commandOf({
    key: name,
    ctrlKey: false,
    metaKey: false,
    altKey: false,
    shiftKey: false,
    target: { tagName: "SECTION" },
    ...more,
  });

test("arrows, digits, letters and signs are commands", () => {
  assert.deepEqual(key("ArrowDown"), { name: "step", by: 1 });
  assert.deepEqual(key("ArrowLeft"), { name: "neighbor", by: -1 });
  assert.deepEqual(key("3"), { name: "verdict", digit: "3" });
  assert.deepEqual(key("U"), { name: "undo" });
  assert.deepEqual(key("+", { shiftKey: true }), { name: "opacity", by: 0.1 });
  assert.deepEqual(key("?", { shiftKey: true }), { name: "help" });
});

test("the browser's own keys and the cursor's are left alone", () => {
  assert.equal(key("f", { ctrlKey: true }), null);
  assert.equal(key("ArrowDown", { shiftKey: true }), null);
  assert.equal(key("Tab"), null);
  assert.equal(key("x"), null);
});

test("keys in a field are typed, those on a box to tick are not", () => {
  assert.equal(key("1", { target: { tagName: "INPUT", type: "text" } }), null);
  assert.equal(key("ArrowRight", { target: { tagName: "INPUT", type: "range" } }), null);
  assert.equal(key("m", { target: { tagName: "SELECT" } }), null);
  const box = { tagName: "INPUT", type: "checkbox" };
  assert.deepEqual(key("m", { target: box }), { name: "map" });
});
