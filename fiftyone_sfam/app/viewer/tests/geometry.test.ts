import assert from "node:assert/strict";
import { test } from "node:test";
import type { Look, Pin, Points, SideName, StageImage, StageProps } from "../src/geometry";
import * as geometry from "../src/geometry";

const { FIT } = geometry;

function image(full: [number, number], shape: [number, number] = [16, 8]): StageImage {
  const picture = { url: "", width: 1, height: 1, full, problem: null };
  return { picture, values: null, shape, box: [0, 0, 1, 1], label: "" };
}

const POINTS: Points = {
  query: { shape: [1, 2], box: [0, 0, 1, 1] },
  neighbor: { shape: [2, 2], box: [0, 0, 0.5, 1] },
  values: Float32Array.of(1, -3, 2, 0, -1, -2, -4, -1),
  similarity: 1,
};

function props(size: [number, number], mode: Look["mode"]): StageProps {
  const look = { table: new Uint8Array(768), diverging: false, signed: false, limit: 1 };
  return {
    query: image(size),
    neighbor: image(size),
    swipe: null,
    look: { ...look, opacity: 1, threshold: 0, smooth: true, mode },
    zoom: FIT,
    onZoom: () => undefined,
    points: POINTS,
    pins: [],
    onPins: () => undefined,
    loupe: false,
    hint: null,
  };
}

function frames(pane: [number, number], size: [number, number], mode: Look["mode"]) {
  return geometry
    .viewsOf(props(size, mode), pane, 0.5)
    .map(({ side, what, frame }) => [side, what, frame.x, frame.y, frame.width, frame.height]);
}

test("images are beside each other unless the pane is slimmer than they are", () => {
  // Tall images are close to each other: of 200 pixels in rooms of 1.2 times that.
  assert.deepEqual(frames([800, 400], [1, 2], "overlay"), [
    ["query", "overlay", 160, 0, 237.6, 400],
    ["neighbor", "overlay", 402.4, 0, 237.6, 400],
  ]);
  assert.deepEqual(frames([400, 600], [3, 1], "maps"), [
    ["query", "map", 0, 0, 400, 297],
    ["neighbor", "map", 0, 303, 400, 297],
  ]);
  const wide = frames([1600, 500], [4, 1], "overlay"); // 1600 wide against 796
  assert.deepEqual(wide[1]?.slice(2), [0, 252.5, 1600, 247.5]);
});

test("beside its map an image gets half of a frame", () => {
  assert.deepEqual(frames([800, 400], [1, 1], "side"), [
    ["query", "picture", 0, 0, 196.02, 400],
    ["query", "map", 199.98, 0, 196.02, 400],
    ["neighbor", "picture", 404, 0, 196.02, 400],
    ["neighbor", "map", 603.98, 0, 196.02, 400],
  ]);
  const stacked = frames([400, 400], [2, 1], "side");
  assert.deepEqual(
    stacked.map(([, , x, y]) => [x, y]),
    [
      [0, 0],
      [202, 0],
      [0, 202],
      [202, 202],
    ],
  );
});

test("another neighbor shares the frame of the first one, at the same place", () => {
  const swiped = { ...props([1, 1], "overlay"), swipe: image([1, 2]) };
  const [, left, right] = geometry.viewsOf(swiped, [800, 400], 0.25);
  assert.deepEqual(left?.frame, { x: 404, y: 0, width: 99, height: 400 });
  assert.deepEqual(right?.frame, { x: 503, y: 0, width: 297, height: 400 });
  assert.deepEqual(left?.at, { x: 404, y: 2, width: 396, height: 396 });
  assert.deepEqual(right?.at, { x: 502, y: 0, width: 200, height: 400 });
  assert.deepEqual(left?.grid, {
    shape: [2, 2],
    rect: { x: 404, y: 2, width: 198, height: 396 },
  });
  assert.equal(right?.grid, null); // the places belong to the first one
});

test("an image is drawn with its own shape unless that is too slim or unknown", () => {
  assert.deepEqual(geometry.sizeOf(image([2, 1])), [2, 1]);
  assert.deepEqual(geometry.sizeOf(image([20000, 20])), [20000, 500]);
  assert.deepEqual(geometry.sizeOf(image([20, 20000])), [500, 20000]);
  assert.deepEqual(geometry.sizeOf(image([0, 0])), [8, 16]); // as its map
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

test("a zoomed image covers where the whole one lies", () => {
  assert.deepEqual(geometry.bounded(4, 0.25, 0.625), { scale: 4, x: 0.25, y: 0.625 });
  assert.deepEqual(geometry.bounded(4, 0, 1), { scale: 4, x: 0.125, y: 0.875 });
});

test("cells are found on the part of the image that the map covers", () => {
  const at = { x: 10, y: 20, width: 100, height: 200 };
  const grid: geometry.Grid = { shape: [4, 2], rect: geometry.partOf(at, [0.25, 0.5, 0.75, 1]) };
  const cell = (x: number, y: number) => geometry.cellAt(x, y, grid);
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
  assert.deepEqual(geometry.cellRect({ row: 1, column: 1 }, grid), {
    x: 60,
    y: 145,
    width: 25,
    height: 25,
  });
});

const pin = (side: SideName, row: number, column: number) => ({ side, row, column });

test("a place of the query is matched by its row, one of the neighbor by its column", () => {
  const query = geometry.matched(POINTS, pin("query", 0, 0));
  assert.deepEqual([...(query?.values ?? [])], [1, -3, 2, 0]);
  assert.deepEqual([query?.share, query?.limit], [0, 3]);
  assert.deepEqual(query?.best, pin("neighbor", 1, 0));
  const neighbor = geometry.matched(POINTS, pin("neighbor", 1, 0));
  assert.deepEqual([...(neighbor?.values ?? [])], [2, -4]);
  assert.deepEqual([neighbor?.share, neighbor?.limit], [-2, 4]);
  assert.deepEqual(neighbor?.best, pin("query", 0, 0));
  assert.equal(geometry.matched(POINTS, pin("query", 0, 1))?.best, null); // nothing positive
  assert.equal(geometry.matched(POINTS, pin("query", 0, 2)), null);
});

test("the cursor stays on its image", () => {
  const move = (from: Pin, step: [number, number]) => geometry.moved(POINTS, from, step);
  assert.deepEqual(move(pin("query", 0, 0), [0, 1]), pin("query", 0, 1));
  assert.deepEqual(move(pin("query", 0, 1), [0, 1]), pin("query", 0, 1));
  assert.deepEqual(move(pin("neighbor", 1, 1), [-1, 0]), pin("neighbor", 0, 1));
  assert.deepEqual(move(pin("neighbor", 0, 0), [-1, 0]), pin("neighbor", 0, 0));
});
