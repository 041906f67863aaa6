import assert from "node:assert/strict";
import { test } from "node:test";
import type { Points, StageImage } from "../src/drawing";
import * as geometry from "../src/geometry";

const { FIT } = geometry;

test("two tall images are laid out beside each other", () => {
  const { stacked, frames } = geometry.layout(800, 400, [1, 2], [50, 100]);
  assert.equal(stacked, false);
  assert.deepEqual(frames, [
    { x: 0, y: 0, width: 396, height: 400 },
    { x: 404, y: 0, width: 396, height: 400 },
  ]);
});

test("two wide images are laid out above each other, also in a narrow pane", () => {
  const { stacked, frames } = geometry.layout(300, 600, [3, 1], [3, 1]);
  assert.equal(stacked, true);
  assert.deepEqual(frames, [
    { x: 0, y: 0, width: 300, height: 296 },
    { x: 0, y: 304, width: 300, height: 296 },
  ]);
  assert.equal(geometry.layout(1600, 500, [4, 1], [4, 1]).stacked, true); // 1600 wide against 796
});

test("beside its map an image gets half of a frame", () => {
  const { stacked, views } = geometry.arrange(800, 400, [1, 2], [1, 2], "side");
  assert.equal(stacked, false);
  assert.deepEqual(
    views.map(({ side, what, frame }) => [side, what, frame.x, frame.width, frame.height]),
    [
      ["query", "picture", 0, 194, 400],
      ["query", "map", 202, 194, 400],
      ["neighbor", "picture", 404, 194, 400],
      ["neighbor", "map", 606, 194, 400],
    ],
  );
  const wide = geometry.arrange(300, 620, [2, 1], [2, 1], "side").views;
  assert.deepEqual(
    wide.map(({ frame }) => [frame.x, frame.y, frame.width, frame.height]),
    [
      [0, 0, 300, 149],
      [0, 157, 300, 149],
      [0, 314, 300, 149],
      [0, 471, 300, 149],
    ],
  );
  const maps = geometry.arrange(800, 400, [1, 2], [1, 2], "maps").views;
  assert.deepEqual(
    maps.map(({ what }) => what),
    ["map", "map"],
  );
});

test("a pane without a size has frames that can be divided by", () => {
  for (const { width, height } of geometry.layout(0, 0, [1, 1], [1, 1]).frames) {
    assert.ok(width >= 1 && height >= 1);
  }
});

function image(full: [number, number], width: number, height: number): StageImage {
  const picture = { url: "", width, height, full, problem: null };
  return { picture, values: null, shape: [16, 8], box: [0, 0, 1, 1], label: "" };
}

test("an image is drawn with its own shape unless that is too slim or unknown", () => {
  assert.deepEqual(geometry.sizeOf(image([2, 1], 2, 1)), [2, 1]);
  assert.deepEqual(geometry.sizeOf(image([20000, 20], 1600, 2)), [20000, 500]);
  assert.deepEqual(geometry.sizeOf(image([20, 20000], 2, 1600)), [500, 20000]);
  assert.deepEqual(geometry.sizeOf(image([0, 0], 64, 128)), [64, 128]);
  assert.deepEqual(geometry.sizeOf(image([0, 0], 0, 0)), [8, 16]); // as its map
});

test("zooming keeps the place under the pointer and stays on the image", () => {
  const zoomed = geometry.zoomAround(FIT, 2, 0.25, 0.75);
  assert.deepEqual(zoomed, { scale: 2, x: 0.375, y: 0.625 });
  const frame = { x: 100, y: 0, width: 200, height: 100 };
  const before = geometry.placed(frame, [1, 1], FIT);
  const after = geometry.placed(frame, [1, 1], zoomed);
  assert.deepEqual(before, { x: 150, y: 0, width: 100, height: 100 });
  assert.deepEqual(after, { x: 125, y: -75, width: 200, height: 200 });
  assert.equal(before.x + 0.25 * before.width, after.x + 0.25 * after.width);
  assert.equal(before.y + 0.75 * before.height, after.y + 0.75 * after.height);
  assert.deepEqual(geometry.zoomAround(zoomed, 0.1, 0.9, 0.9), FIT);
  assert.equal(geometry.zoomAround(FIT, 1000, 0.5, 0.5).scale, 64);
});

test("dragging moves the image with the pointer, not further than its edge", () => {
  const moved = geometry.panned({ scale: 4, x: 0.5, y: 0.5 }, 0.25, -0.125);
  assert.deepEqual(moved, { scale: 4, x: 0.25, y: 0.625 });
  const edge = geometry.panned({ scale: 4, x: 0.5, y: 0.5 }, 0.5, -0.5);
  assert.deepEqual(edge, { scale: 4, x: 0.125, y: 0.875 });
});

test("cells are found on the part of the image that the map covers", () => {
  const at = { x: 10, y: 20, width: 100, height: 200 };
  const cell = (x: number, y: number) => geometry.cellAt(x, y, at, [4, 2], [0.25, 0.5, 0.75, 1]);
  assert.deepEqual(cell(36, 121), { row: 0, column: 0 });
  assert.deepEqual(cell(60, 145), { row: 1, column: 1 });
  assert.deepEqual(cell(84.9, 219.9), { row: 3, column: 1 });
  for (const [x, y] of [
    [34, 121],
    [36, 119],
    [85.1, 150],
    [60, 220.1],
  ] as const) {
    assert.equal(cell(x, y), null);
  }
  assert.deepEqual(geometry.cellRect({ row: 1, column: 1 }, at, [4, 2], [0.25, 0.5, 0.75, 1]), {
    x: 60,
    y: 145,
    width: 25,
    height: 25,
  });
});

const POINTS: Points = {
  queryShape: [1, 2],
  neighborShape: [2, 2],
  queryBox: [0, 0, 1, 1],
  neighborBox: [0, 0, 1, 1],
  values: Float32Array.of(1, -3, 2, 0, -1, -2, -4, -1),
  similarity: 1,
};

test("a place of the query is matched by its row, one of the neighbor by its column", () => {
  const query = geometry.matched(POINTS, "query", 0, 0);
  assert.deepEqual([...(query?.values ?? [])], [1, -3, 2, 0]);
  assert.deepEqual([query?.share, query?.limit], [0, 3]);
  assert.deepEqual(query?.best, { row: 1, column: 0 });
  const neighbor = geometry.matched(POINTS, "neighbor", 1, 0);
  assert.deepEqual([...(neighbor?.values ?? [])], [2, -4]);
  assert.deepEqual([neighbor?.share, neighbor?.limit, neighbor?.shape], [-2, 4, [1, 2]]);
  assert.deepEqual(neighbor?.best, { row: 0, column: 0 });
  assert.equal(geometry.matched(POINTS, "query", 0, 1)?.best, null); // nothing positive
  assert.equal(geometry.matched(POINTS, "query", 0, 2), null);
  assert.equal(geometry.matched(POINTS, "neighbor", -1, 0), null);
});

test("the cursor moves over the inner edge onto the other image and back", () => {
  const from = (side: "query" | "neighbor", row: number, column: number) => ({ side, row, column });
  const right = geometry.moved(from("query", 0, 1), 0, 1, POINTS, false);
  assert.deepEqual(right, from("neighbor", 1, 0));
  assert.deepEqual(geometry.moved(right, 0, -1, POINTS, false), from("query", 0, 1));
  assert.deepEqual(geometry.moved(right, 1, 0, POINTS, false), right); // the lower edge
  const down = geometry.moved(from("query", 0, 1), 1, 0, POINTS, true);
  assert.deepEqual(down, from("neighbor", 0, 1));
  assert.deepEqual(geometry.moved(down, -1, 0, POINTS, true), from("query", 0, 1));
  assert.deepEqual(geometry.moved(from("query", 0, 0), 0, -1, POINTS, false), from("query", 0, 0));
});
