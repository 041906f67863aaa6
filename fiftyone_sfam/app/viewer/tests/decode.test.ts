import assert from "node:assert/strict";
import { test } from "node:test";
import { colorTable, decode, integers } from "../src/decode";
import type { Encoded } from "../src/types";

function encoded(dtype: Encoded["dtype"], bytes: number[], shape: number[], scale = 1): Encoded {
  return { dtype, shape, scale, data: Buffer.from(bytes).toString("base64") };
}

test("float32 is read as little-endian", () => {
  // 1.5 is 0x3fc00000, -0.25 is 0xbe800000.
  const values = decode(encoded("f4", [0, 0, 0xc0, 0x3f, 0, 0, 0x80, 0xbe], [1, 2]));
  assert.deepEqual([...values], [1.5, -0.25]);
});

test("float16 has negative, subnormal and largest values", () => {
  // 0xc100: -(1 + 256/1024) * 2; 0x0001 and 0x83ff: subnormal; 0x7bff: the largest.
  const bytes = [0x00, 0xc1, 0x01, 0x00, 0xff, 0x83, 0xff, 0x7b, 0x00, 0x3c];
  const values = decode(encoded("f2", bytes, [5]));
  assert.deepEqual([...values], [-2.5, 2 ** -24, -1023 * 2 ** -24, 65504, 1]);
});

test("int8 is multiplied by its scale", () => {
  const values = decode(encoded("i1", [0x81, 0x00, 0x7f, 0x80], [2, 2], 0.5));
  assert.deepEqual([...values], [-63.5, 0, 63.5, -64]);
});

test("int32 and uint8 are taken as they are", () => {
  const four = encoded("i4", [0xfe, 0xff, 0xff, 0xff, 1, 0, 0, 1], [2]);
  assert.deepEqual([...decode(four)], [-2, 16777216]); // a float32 cannot hold 2 ** 24 + 1
  assert.deepEqual([...integers(four)], [-2, 16777217]);
  assert.deepEqual([...decode(encoded("u1", [0, 128, 255], [1, 3]))], [0, 128, 255]);
  assert.deepEqual([...colorTable(encoded("u1", [0, 128, 255], [1, 3]))], [0, 128, 255]);
});

test("an empty array is empty, a cut one is refused", () => {
  assert.equal(decode(encoded("i4", [], [0])).length, 0);
  assert.throws(() => decode(encoded("f4", [0, 0, 0, 0], [2])), {
    message: "An array of shape 2 has 4 bytes instead of 8.",
  });
  assert.throws(() => integers(encoded("f4", [0, 0, 0, 0], [1])), {
    message: "Expected i4, got f4.",
  });
});
