import assert from "node:assert/strict";
import { test } from "node:test";
import { colored, resized } from "../src/coloring";
import type { Look } from "../src/geometry";

/** A color map of which only the entries that a test reads are filled. */
function table(entries: Record<number, number[]>): Uint8Array {
  const bytes = new Uint8Array(768);
  for (const [at, color] of Object.entries(entries)) bytes.set(color, 3 * Number(at));
  return bytes;
}

const VIRIDIS = table({
  0: [68, 1, 84],
  32: [71, 44, 122],
  96: [45, 114, 142],
  128: [34, 144, 139],
  255: [253, 231, 37],
});
const RED_BLUE = table({
  0: [5, 48, 97],
  96: [194, 221, 236],
  128: [247, 246, 246],
  143: [251, 230, 218],
  175: [245, 172, 139],
  191: [229, 131, 104],
  255: [103, 0, 31],
});
const PLAIN = { diverging: false, signed: false, limit: 1, threshold: 0 };
const VALUES = Float32Array.of(0, 0.5, -1, 2); // 2 x 2

type Coloring = Pick<Look, "table" | "diverging" | "signed" | "limit" | "threshold">;

function drawn(size: [number, number], look: Coloring): Uint8ClampedArray {
  return colored(resized(VALUES, [2, 2], size), look);
}

/** Draw over a picture of one color, as the canvas does. */
function over(pixels: Uint8ClampedArray, opacity: number): number[][] {
  return Array.from({ length: pixels.length / 4 }, (_, pixel) =>
    [100, 150, 200].map((below, channel) => {
      const alpha = (opacity * pixels[4 * pixel + 3]!) / 255;
      return below * (1 - alpha) + pixels[4 * pixel + channel]! * alpha;
    }),
  );
}

/** `expected` is what attribution.render.overlay returns for the same picture and map. */
function assertDrawn(found: number[][], expected: number[][]): void {
  assert.equal(found.length, expected.length);
  found.flat().forEach((value, at) => {
    assert.ok(Math.abs(value - expected.flat()[at]!) <= 1, `${found} instead of ${expected}`);
  });
}

test("the positive part of a map is drawn as Python draws it", () => {
  const look = { ...PLAIN, table: VIRIDIS };
  assertDrawn(over(drawn([4, 2], look), 0.6), [
    [100, 150, 200],
    [94, 128, 183],
    [80, 137, 179],
    [72, 147, 174],
    [100, 150, 200],
    [100, 150, 200],
    [192, 199, 102],
    [192, 199, 102],
  ]);
  assertDrawn(over(drawn([2, 3], look), 1), [
    [100, 150, 200],
    [53, 146, 157],
    [100, 150, 200],
    [253, 231, 37],
    [100, 150, 200],
    [253, 231, 37],
  ]);
});

test("a signed map is drawn as Python draws it", () => {
  const look = { ...PLAIN, table: RED_BLUE, signed: true, diverging: true };
  assertDrawn(over(drawn([4, 2], look), 0.6), [
    [100, 150, 200],
    [132, 167, 204],
    [153, 158, 178],
    [155, 142, 159],
    [43, 89, 138],
    [128, 171, 211],
    [102, 60, 99],
    [102, 60, 99],
  ]);
});

test("opacity is the square root of the strength relative to the limit", () => {
  const opacities = (look: object) => {
    const map = Float32Array.of(0, 0.25, 1, -4);
    const pixels = colored(map, { ...PLAIN, table: VIRIDIS, limit: 4, ...look });
    return [3, 7, 11, 15].map((at) => pixels[at]);
  };
  assert.deepEqual(opacities({}), [0, 64, 128, 0]); // sqrt(1 / 16) and sqrt(1 / 4) of 255
  assert.deepEqual(opacities({ signed: true }), [0, 64, 128, 255]);
  assert.deepEqual(opacities({ threshold: 0.25 }), [0, 0, 128, 0]);
  assert.deepEqual(opacities({ threshold: 0.26, signed: true }), [0, 0, 0, 255]);
  assert.deepEqual(opacities({ limit: 0 }), [0, 128, 255, 0]); // as a limit of 1
});

test("a map alone is opaque, apart from what is below the threshold", () => {
  const look = { ...PLAIN, table: VIRIDIS, threshold: 0.1 };
  const pixels = colored(Float32Array.of(0, 0.125, 1), look, true);
  assert.deepEqual([...pixels.subarray(4)], [71, 44, 122, 255, 253, 231, 37, 255]);
  assert.equal(pixels[3], 0);
});

test("positive values alone take the upper half of a diverging color map", () => {
  const colors = (diverging: boolean) => {
    const look = { ...PLAIN, table: RED_BLUE, diverging };
    return [...colored(Float32Array.of(0.5), look, true)];
  };
  assert.deepEqual(colors(true), [229, 131, 104, 255]);
  assert.deepEqual(colors(false), [247, 246, 246, 255]);
});
