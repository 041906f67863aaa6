/** Where things are: frames on the stage, images in frames, cells on images. */

import type { Look, Pin, Points, SideName, StageImage, Zoom } from "./drawing";
import type { Box } from "./types";

export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Width and height. */
export type Size = [number, number];

export interface Cell {
  row: number;
  column: number;
}

/** A frame and what is drawn in it; the first view of a side shows its picture, if any does. */
export interface View {
  side: SideName;
  what: "overlay" | "picture" | "map";
  frame: Rect;
}

export const FIT: Zoom = { scale: 1, x: 0.5, y: 0.5 };

const GAP = 8; // pixels between frames
const LARGEST = 64; // scale
const SLIMMEST = 1 / 40; // shorter side by longer side: slimmer images are drawn wider

/** Return an image's size, of a shape that can be seen. */
export function sizeOf(image: StageImage): Size {
  const { full, width, height } = image.picture;
  const known = [full, [width, height], [image.shape[1], image.shape[0]]].find(
    ([w = 0, h = 0]) => w > 0 && h > 0,
  );
  const [w = 1, h = 1] = known ?? [1, 1];
  return [Math.max(w, h * SLIMMEST), Math.max(h, w * SLIMMEST)];
}

/** Return the largest rectangle of a shape in the middle of a frame. */
export function fitted(frame: Rect, [w, h]: Size): Rect {
  const scale = Math.min(frame.width / w, frame.height / h);
  const [width, height] = [w * scale, h * scale];
  return {
    x: frame.x + (frame.width - width) / 2,
    y: frame.y + (frame.height - height) / 2,
    width,
    height,
  };
}

/** Halve a frame, left and right of a gap or above and below it. */
function halves(frame: Rect, stacked: boolean): [Rect, Rect] {
  const width = stacked ? frame.width : Math.max((frame.width - GAP) / 2, 1);
  const height = stacked ? Math.max((frame.height - GAP) / 2, 1) : frame.height;
  const second = stacked ? { y: frame.y + height + GAP } : { x: frame.x + width + GAP };
  return [
    { ...frame, width, height },
    { ...frame, ...second, width, height },
  ];
}

/** Lay out two images beside or above each other, whichever makes them larger. */
export function layout(width: number, height: number, a: Size, b: Size) {
  const whole = { x: 0, y: 0, width: Math.max(width, 1), height: Math.max(height, 1) };
  const options = [false, true].map((stacked) => {
    const frames = halves(whole, stacked);
    const shown = [fitted(frames[0], a), fitted(frames[1], b)];
    return { stacked, frames, area: shown.reduce((sum, at) => sum + at.width * at.height, 0) };
  });
  return largest(options);
}

/** Lay out the views of a mode; beside its map an image needs twice the room. */
export function arrange(width: number, height: number, a: Size, b: Size, mode: Look["mode"]) {
  const names: [SideName, SideName] = ["query", "neighbor"];
  if (mode !== "side") {
    const { stacked, frames } = layout(width, height, a, b);
    const what: View["what"] = mode === "maps" ? "map" : "overlay";
    return { stacked, views: names.map((side, at): View => ({ side, what, frame: frames[at]! })) };
  }
  const twice = ([w, h]: Size, below: boolean): Size => (below ? [w, 2 * h] : [2 * w, h]);
  const options = [0, 1, 2, 3].map((choice) => {
    const below = [choice % 2 === 1, choice > 1];
    return { below, ...layout(width, height, twice(a, below[0]!), twice(b, below[1]!)) };
  });
  const { below, stacked, frames } = largest(options);
  const views = names.flatMap((side, at): View[] => {
    const [picture, map] = halves(frames[at]!, below[at]!);
    return [
      { side, what: "picture", frame: picture },
      { side, what: "map", frame: map },
    ];
  });
  return { stacked, views };
}

/** Return the option of the largest area, of equal ones the first. */
function largest<T extends { area: number }>(options: T[]): T {
  return options.reduce((best, option) => (option.area > best.area * 1.0001 ? option : best));
}

/** Return where the whole image lies on the stage, parts of it outside its frame. */
export function placed(frame: Rect, size: Size, zoom: Zoom): Rect {
  const fit = fitted(frame, size);
  const [width, height] = [fit.width * zoom.scale, fit.height * zoom.scale];
  return {
    x: frame.x + frame.width / 2 - zoom.x * width,
    y: frame.y + frame.height / 2 - zoom.y * height,
    width,
    height,
  };
}

export function contains(rect: Rect, x: number, y: number): boolean {
  return x >= rect.x && y >= rect.y && x < rect.x + rect.width && y < rect.y + rect.height;
}

/** Return a part of an image on the stage. */
export function partOf(image: Rect, [left, top, right, bottom]: Box): Rect {
  return {
    x: image.x + left * image.width,
    y: image.y + top * image.height,
    width: (right - left) * image.width,
    height: (bottom - top) * image.height,
  };
}

/** Find the cell of a grid over a part of an image at a place on the stage. */
export function cellAt(x: number, y: number, image: Rect, shape: [number, number], box: Box) {
  const part = partOf(image, box);
  const row = Math.floor(((y - part.y) / part.height) * shape[0]);
  const column = Math.floor(((x - part.x) / part.width) * shape[1]);
  const inside = row >= 0 && column >= 0 && row < shape[0] && column < shape[1];
  return inside ? { row, column } : null;
}

/** Return where a cell of a grid lies on the stage. */
export function cellRect(cell: Cell, image: Rect, shape: [number, number], box: Box): Rect {
  const part = partOf(image, box);
  const [width, height] = [part.width / shape[1], part.height / shape[0]];
  return { x: part.x + cell.column * width, y: part.y + cell.row * height, width, height };
}

/** Keep the zoomed image over the place that the whole one takes. */
function bounded(scale: number, x: number, y: number): Zoom {
  const edge = 0.5 / scale;
  const within = (value: number) => Math.min(Math.max(value, edge), 1 - edge);
  return { scale, x: within(x), y: within(y) };
}

/** Zoom by a factor so that the place (u, v), relative to the image, stays where it is. */
export function zoomAround(zoom: Zoom, factor: number, u: number, v: number): Zoom {
  const scale = Math.min(Math.max(zoom.scale * factor, 1), LARGEST);
  const kept = zoom.scale / scale;
  return bounded(scale, u - (u - zoom.x) * kept, v - (v - zoom.y) * kept);
}

/** Move both images by a distance relative to the size that they are drawn with. */
export function panned(zoom: Zoom, du: number, dv: number): Zoom {
  return bounded(zoom.scale, zoom.x - du, zoom.y - dv);
}

export function otherSide(side: SideName): SideName {
  return side === "query" ? "neighbor" : "query";
}

export function gridOf(points: Points, side: SideName) {
  return side === "query"
    ? { shape: points.queryShape, box: points.queryBox }
    : { shape: points.neighborShape, box: points.neighborBox };
}

/** What a cell adds with each cell of the other image. */
export interface Match {
  values: Float32Array; // of the cells of the other image
  shape: [number, number];
  share: number; // their sum
  limit: number; // largest absolute value
  best: Cell | null; // where the largest positive value is
}

/** Read the row (of the query) or the column (of the neighbor) of a cell; null outside. */
export function matched(points: Points, side: SideName, row: number, column: number) {
  const { shape } = gridOf(points, side);
  if (row < 0 || column < 0 || row >= shape[0] || column >= shape[1]) return null;
  const other = gridOf(points, otherSide(side)).shape;
  const count = other[0] * other[1];
  const at = row * shape[1] + column;
  const values = new Float32Array(count);
  const [start, stride] = side === "query" ? [at * count, 1] : [at, shape[0] * shape[1]];
  for (let k = 0; k < count; k++) values[k] = points.values[start + k * stride]!;
  const match: Match = { values, shape: other, share: 0, limit: 0, best: null };
  let most = 0;
  values.forEach((value, k) => {
    match.share += value;
    match.limit = Math.max(match.limit, Math.abs(value));
    if (value > most) {
      most = value;
      match.best = { row: Math.floor(k / other[1]), column: k % other[1] };
    }
  });
  return match;
}

/** Move a cursor by one cell, over the inner edge onto the other image. */
export function moved(from: Pin, dRow: number, dColumn: number, points: Points, stacked: boolean) {
  const [rows, columns] = gridOf(points, from.side).shape;
  const [row, column] = [from.row + dRow, from.column + dColumn];
  const outward = from.side === "query" ? 1 : -1;
  const [along, cells] = stacked ? [row, rows] : [column, columns];
  const over = outward > 0 ? along >= cells : along < 0;
  if (over) {
    const side = otherSide(from.side);
    const [r, c] = gridOf(points, side).shape;
    const edge = outward > 0 ? 0 : (stacked ? r : c) - 1;
    const across = (place: number, of: number, to: number) => Math.floor(((place + 0.5) / of) * to);
    return stacked
      ? { side, row: edge, column: across(from.column, columns, c) }
      : { side, row: across(from.row, rows, r), column: edge };
  }
  const within = (value: number, count: number) => Math.min(Math.max(value, 0), count - 1);
  return { side: from.side, row: within(row, rows), column: within(column, columns) };
}
