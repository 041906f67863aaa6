/** From values to pixels, as fiftyone_sfam/attribution/render.py draws them. */

import type { Look } from "./drawing";

type Coloring = Pick<Look, "table" | "diverging" | "signed" | "threshold">;

const STEPS = 16384; // of the strength, on each side of zero

/** Return the index into a color map of a strength from -1 to 1. */
function indexOf(strength: number, look: Pick<Look, "diverging" | "signed">): number {
  return look.signed || look.diverging
    ? Math.round((strength + 1) * 127.5)
    : Math.round(Math.max(strength, 0) * 255);
}

/** Return a color of a strength from -1 to 1, as red, green and blue. */
export function colorOf(strength: number, look: Coloring): [number, number, number] {
  const at = 3 * indexOf(strength, look);
  return [look.table[at]!, look.table[at + 1]!, look.table[at + 2]!];
}

let lately: { look: Coloring; solid: boolean; pixels: Uint32Array }[] = [];

/** Return the pixel of each step of the strength: more opaque the stronger it is, or solid. */
function pixelsOf(look: Coloring, solid: boolean): Uint32Array {
  const same = lately.find(
    (kept) =>
      kept.solid === solid &&
      kept.look.table === look.table &&
      kept.look.diverging === look.diverging &&
      kept.look.signed === look.signed &&
      kept.look.threshold === look.threshold,
  );
  if (same) return same.pixels;
  const bytes = new Uint8ClampedArray(4 * (2 * STEPS + 1));
  for (let step = -STEPS; step <= STEPS; step++) {
    const strength = look.signed ? step / STEPS : Math.max(step, 0) / STEPS;
    const size = Math.abs(strength);
    const alpha = solid ? 1 : Math.sqrt(size);
    bytes.set(colorOf(strength, look), 4 * (step + STEPS));
    bytes[4 * (step + STEPS) + 3] = size < look.threshold ? 0 : Math.round(alpha * 255);
  }
  const pixels = new Uint32Array(bytes.buffer);
  lately = [{ look: { ...look }, solid, pixels }, ...lately].slice(0, 4);
  return pixels;
}

/** For each pixel of a side: the cells before and after its middle, and the part of the second. */
function between(cells: number, pixels: number) {
  const first = new Int32Array(pixels);
  const second = new Int32Array(pixels);
  const part = new Float32Array(pixels);
  for (let at = 0; at < pixels; at++) {
    const place = Math.min(Math.max(((at + 0.5) * cells) / pixels - 0.5, 0), cells - 1);
    first[at] = Math.floor(place);
    second[at] = Math.min(first[at]! + 1, cells - 1);
    part[at] = place - first[at]!;
  }
  return { first, second, part };
}

/** Color a map that is resized bilinearly; return red, green, blue, opacity of each pixel. */
export function colored(
  values: Float32Array,
  [rows, columns]: [number, number],
  [width, height]: [number, number],
  look: Coloring & Pick<Look, "limit">,
  solid = false,
): Uint8ClampedArray<ArrayBuffer> {
  const pixels = pixelsOf(look, solid);
  const result = new Uint32Array(width * height);
  const across = between(columns, width);
  const down = between(rows, height);
  const scale = STEPS / (look.limit > 0 ? look.limit : 1);
  const line = new Float32Array(columns);
  for (let y = 0; y < height; y++) {
    const [above, below, part] = [
      down.first[y]! * columns,
      down.second[y]! * columns,
      down.part[y]!,
    ];
    for (let column = 0; column < columns; column++) {
      const value = values[above + column]!;
      line[column] = (value + (values[below + column]! - value) * part) * scale;
    }
    for (let x = 0; x < width; x++) {
      const value = line[across.first[x]!]!;
      const step = value + (line[across.second[x]!]! - value) * across.part[x]!;
      const bounded = Math.min(Math.max(step, -STEPS), STEPS);
      result[y * width + x] = pixels[Math.round(bounded) + STEPS]!;
    }
  }
  return new Uint8ClampedArray(result.buffer);
}

/** Positive values in orange, negative in blue: two hues that the color-blind can tell apart. */
export const MATCHES: Coloring = {
  table: Uint8Array.from({ length: 768 }, (_, at) => {
    const color = at < 384 ? [86, 180, 233] : [255, 160, 20];
    return color[at % 3]!;
  }),
  diverging: true,
  signed: true,
  threshold: 0,
};
