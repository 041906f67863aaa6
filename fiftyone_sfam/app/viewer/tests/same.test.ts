import assert from "node:assert/strict";
import { test } from "node:test";
import { same } from "../src/same";

test("objects and lists are compared by what is in them", () => {
  assert.ok(same({ zoom: { scale: 1 }, pins: [] }, { zoom: { scale: 1 }, pins: [] }));
  assert.ok(!same({ zoom: { scale: 1 } }, { zoom: { scale: 2 } }));
  assert.ok(!same([1, 2], [1, 2, 3]));
  assert.ok(!same({ swipe: null }, { swipe: {} }));
  assert.ok(same({ onPins: () => 1 }, { onPins: () => 2 }));
});

test("numbers of a map, sets and maps are the same only if they are one object", () => {
  const values = Float32Array.of(1, 2);
  assert.ok(same({ values }, { values }));
  assert.ok(!same({ values }, { values: Float32Array.of(1, 2) }));
  assert.ok(!same(new Set([1]), new Set([2])));
  assert.ok(!same(new Map(), new Map()));
});
