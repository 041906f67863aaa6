/** From values to pixels, as fiftyone_sfam/attribution/render.py draws them. */

import { clamp, type Look } from "./geometry";

type Coloring = Pick<Look, "table" | "diverging" | "signed" | "threshold" | "limit">;

/** Return red, green, blue and opacity of each value: more opaque the stronger, or solid. */
export function colored(values: Float32Array, look: Coloring, solid = false) {
  const { table, diverging, threshold } = look;
  const limit = look.limit > 0 ? look.limit : 1;
  const lowest = look.signed ? -1 : 0;
  const pixels = new Uint8ClampedArray(4 * values.length);
  for (let pixel = 0; pixel < values.length; pixel++) {
    const strength = clamp(values[pixel]! / limit, lowest, 1);
    const size = Math.abs(strength);
    if (size < threshold) continue;
    const place = diverging ? (strength + 1) / 2 : Math.max(strength, 0);
    const at = 3 * Math.round(255 * place);
    pixels[4 * pixel] = table[at]!;
    pixels[4 * pixel + 1] = table[at + 1]!;
    pixels[4 * pixel + 2] = table[at + 2]!;
    pixels[4 * pixel + 3] = 255 * (solid ? 1 : Math.sqrt(size));
  }
  return pixels;
}

/** Resize a map bilinearly. */
export function resized(
  values: Float32Array,
  [rows, columns]: [number, number],
  [width, height]: [number, number],
): Float32Array {
  const result = new Float32Array(width * height);
  for (let y = 0; y < height; y++) {
    const down = clamp(((y + 0.5) * rows) / height - 0.5, 0, rows - 1);
    const above = columns * Math.floor(down);
    const below = columns * Math.ceil(down);
    for (let x = 0; x < width; x++) {
      const right = clamp(((x + 0.5) * columns) / width - 0.5, 0, columns - 1);
      const [before, after] = [Math.floor(right), Math.ceil(right)];
      const upper = mixed(values[above + before]!, values[above + after]!, right % 1);
      const lower = mixed(values[below + before]!, values[below + after]!, right % 1);
      result[y * width + x] = mixed(upper, lower, down % 1);
    }
  }
  return result;
}

const mixed = (first: number, second: number, part: number) => first + (second - first) * part;

const BLUE = [86, 180, 233];
const ORANGE = [255, 160, 20];

/** Positive values in orange, negative in blue: two hues that the color-blind can tell apart. */
export const MATCHES: Coloring = {
  table: Uint8Array.from({ length: 768 }, (_, at) => (at < 384 ? BLUE : ORANGE)[at % 3]!),
  diverging: true,
  signed: true,
  threshold: 0,
  limit: 1,
};
