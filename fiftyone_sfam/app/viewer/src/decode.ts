/** Arrays as Python sends them. */

import type { Encoded } from "./types";

const ARRAYS = { f4: Float32Array, f2: Uint16Array, i4: Int32Array, i1: Int8Array, u1: Uint8Array };

/** Decode an array into numbers; "i1" is multiplied by its scale. */
export function decode(encoded: Encoded): Float32Array {
  const { dtype, scale } = encoded;
  const values = new Float32Array(new ARRAYS[dtype](bytesOf(encoded).buffer));
  // Loops over typed arrays: `map` and `from` take several times as long.
  for (let at = 0; at < values.length; at++)
    if (dtype === "f2") values[at] = half(values[at]!);
    else if (dtype === "i1") values[at]! *= scale;
  return values;
}

/** Decode an array of "i4" without loss above 2 ** 24. */
export const integers = (encoded: Encoded) => new Int32Array(bytesOf(encoded, "i4").buffer);

/** Decode a color map of shape (256, 3). */
export const colorTable = (encoded: Encoded): Uint8Array => bytesOf(encoded, "u1");

function bytesOf({ data, dtype, shape }: Encoded, wanted = dtype): Uint8Array<ArrayBuffer> {
  if (dtype !== wanted) throw new Error(`Expected ${wanted}, got ${dtype}.`);
  const text = atob(data);
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  const expected = shape.reduce((product, size) => product * size, ARRAYS[dtype].BYTES_PER_ELEMENT);
  const sizes = `${bytes.length} bytes instead of ${expected}`;
  if (expected !== bytes.length) throw new Error(`An array of shape ${shape} has ${sizes}.`);
  return bytes;
}

/** Return the value of a float16, which is finite, from its bits. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
