import assert from "node:assert/strict";
import { test } from "node:test";
import { commandOf, KEYS } from "../src/keys";

const plain = { ctrlKey: false, metaKey: false, altKey: false, shiftKey: false };
const known = (key: string, more: object = {}) =>
  commandOf({ ...plain, key, target: { tagName: "SECTION" }, ...more }) !== null;

test("arrows, digits, letters of both cases and signs are commands", () => {
  for (const key of ["ArrowDown", "ArrowLeft", "PageUp", "3", "u", "U", "m", "Escape"])
    assert.ok(known(key), key);
  assert.ok(known("+", { shiftKey: true }));
  assert.ok(known("?", { shiftKey: true }));
  assert.equal(KEYS.length, 15);
});

test("the browser's own keys and the cursor's are left alone", () => {
  assert.ok(!known("f", { ctrlKey: true }));
  assert.ok(!known("ArrowLeft", { altKey: true }));
  assert.ok(!known("ArrowDown", { shiftKey: true }));
  assert.ok(!known("Tab"));
  assert.ok(!known("x"));
});

test("keys in a field are typed, those on a box to tick are not", () => {
  assert.ok(!known("1", { target: { tagName: "INPUT", type: "text" } }));
  assert.ok(!known("ArrowRight", { target: { tagName: "INPUT", type: "range" } }));
  assert.ok(!known("m", { target: { tagName: "SELECT" } }));
  assert.ok(!known("m", { target: { tagName: "DIV", isContentEditable: true } }));
  assert.ok(known("m", { target: { tagName: "INPUT", type: "checkbox" } }));
});
