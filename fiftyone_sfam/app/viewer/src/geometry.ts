/** What is drawn, and where it is: views on the stage, images in views, cells on images. */

import type { Box, Correspondences, Picture } from "./types";

/** One image with its map; keep `values` the same object while the map is the same. */
export interface StageImage {
  picture: Picture;
  values: Float32Array | null; // null until the map has come, or if the image has none
  shape: [number, number]; // rows and columns of the map
  box: Box; // part of the image that the map covers
  label: string; // for screen readers
}

export interface Look {
  table: Uint8Array; // 256 * 3; keep it the same object too
  diverging: boolean;
  signed: boolean; // negative values are drawn too
  limit: number; // value at full strength
  opacity: number; // from 0 to 1, of the overlay
  threshold: number; // from 0 to 1 of the limit: what is weaker is transparent
  smooth: boolean;
  mode: "overlay" | "side" | "maps";
}

/** Of both images: `x` and `y` (from 0 to 1) are the place shown in the middle of a frame. At a
 * `scale` of 1 the whole image fits. */
export type Zoom = Record<"scale" | "x" | "y", number>;

/** What each place of the query adds with each place of the neighbor. */
export interface Points extends Pick<Correspondences, "query" | "neighbor" | "similarity"> {
  values: Float32Array; // one row for each place of the query
}

export type SideName = "query" | "neighbor";

export type Pin = { side: SideName; row: number; column: number };

export interface StageProps {
  query: StageImage;
  neighbor: StageImage;
  swipe: StageImage | null; // another neighbor, on the right of a divider
  look: Look;
  zoom: Zoom;
  onZoom: (zoom: Zoom) => void;
  points: Points | null;
  pins: Pin[];
  onPins: (pins: Pin[]) => void;
  loupe: boolean;
  hint: string | null; // shown at the bottom, such as why there are no points
}

/** A part of the stage, in pixels. */
export type Rect = Record<"x" | "y" | "width" | "height", number>;

/** Width and height. */
export type Size = [number, number];

/** Cells over a part of the stage. */
export type Grid = { shape: [number, number]; rect: Rect };

/** A part of the stage, and the image that is drawn in it. */
export interface View {
  side: SideName | "swiped";
  what: "overlay" | "picture" | "map";
  image: StageImage;
  room: Rect; // where it fits without zoom
  frame: Rect; // the part of the room outside of which nothing is drawn
  at: Rect; // where the whole image lies
  grid: Grid | null; // the places of the image that are matched
}

export const FIT: Zoom = { scale: 1, x: 0.5, y: 0.5 };

const LARGEST = 64; // scale
const SLIMMEST = 1 / 40; // shorter side by longer side: slimmer images are drawn wider
const SPREAD = 1.2; // widest room by the width of its image: tall ones stay close to each other
const WHATS: Record<Look["mode"], View["what"][]> = {
  overlay: ["overlay"],
  side: ["picture", "map"],
  maps: ["map"],
};

export const clamp = (value: number, low: number, high: number) =>
  Math.min(Math.max(value, low), high);

/** Return an image's size, of a shape that can be seen; without an image its map's. */
export function sizeOf(image: StageImage): Size {
  const [rows, columns] = image.shape;
  const [w, h] = Math.min(...image.picture.full) > 0 ? image.picture.full : [columns, rows];
  return [Math.max(w, h * SLIMMEST), Math.max(h, w * SLIMMEST)];
}

/** Lay out both images, above each other where the stage is slimmer than they are. */
export function viewsOf(props: StageProps, [width, height]: Size, split: number): View[] {
  const { query, neighbor, swipe, points } = props;
  const whats = WHATS[props.look.mode];
  const [a, b] = [sizeOf(query), sizeOf(neighbor)];
  const [one, other] = [a[0] / a[1], b[0] / b[1]];
  const stacked = width < whats.length * Math.sqrt(one * other) * height;
  const needed = 2 * whats.length * SPREAD * height * Math.max(one, other);
  const used = stacked ? width : Math.min(width, needed);
  const [first, second] = halves({ x: (width - used) / 2, y: 0, width: used, height }, stacked);
  const sides: [View["side"], StageImage, Rect, Box][] = [
    ["query", query, first, [0, 0, 1, 1]],
    ["neighbor", neighbor, second, [0, 0, swipe ? split : 1, 1]],
  ];
  if (swipe) sides.push(["swiped", swipe, second, [split, 0, 1, 1]]);
  return sides.flatMap(([side, image, half, part]) => {
    const rooms = whats.length > 1 ? halves(half, false) : [half];
    return rooms.map((room, index): View => {
      const at = placed(room, sizeOf(image), props.zoom);
      const frame = partOf(room, part);
      const cells = side === "swiped" ? null : points?.[side];
      const grid = cells ? { shape: cells.shape, rect: partOf(at, cells.box) } : null;
      return { side, what: whats[index]!, image, room, frame, at, grid };
    });
  });
}

/** Halve a rectangle, left and right of a gap or above and below it. */
function halves(whole: Rect, stacked: boolean): [Rect, Rect] {
  return stacked
    ? [partOf(whole, [0, 0, 1, 0.495]), partOf(whole, [0, 0.505, 1, 1])]
    : [partOf(whole, [0, 0, 0.495, 1]), partOf(whole, [0.505, 0, 1, 1])];
}

/** Return where the whole image lies that is zoomed in a rectangle. */
export function placed(room: Rect, [w, h]: Size, zoom: Zoom): Rect {
  const scale = zoom.scale * Math.min(room.width / w, room.height / h);
  return {
    x: room.x + room.width / 2 - zoom.x * w * scale,
    y: room.y + room.height / 2 - zoom.y * h * scale,
    width: w * scale,
    height: h * scale,
  };
}

/** Return the place of a part of a rectangle. */
export function partOf(whole: Rect, [left, top, right, bottom]: Box): Rect {
  return {
    x: whole.x + left * whole.width,
    y: whole.y + top * whole.height,
    width: (right - left) * whole.width,
    height: (bottom - top) * whole.height,
  };
}

export const contains = (rect: Rect, x: number, y: number) =>
  x >= rect.x && y >= rect.y && x < rect.x + rect.width && y < rect.y + rect.height;

/** Find the row and the column of a place on the stage. */
export function cellAt(x: number, y: number, { shape, rect }: Grid) {
  const row = Math.floor(((y - rect.y) / rect.height) * shape[0]);
  const column = Math.floor(((x - rect.x) / rect.width) * shape[1]);
  return contains(rect, x, y) ? { row, column } : null;
}

/** Return where a cell lies on the stage. */
export function cellRect({ row, column }: Pick<Pin, "row" | "column">, grid: Grid): Rect {
  const [h, w] = [1 / grid.shape[0], 1 / grid.shape[1]];
  return partOf(grid.rect, [column * w, row * h, (column + 1) * w, (row + 1) * h]);
}

/** Zoom to a place, so that the image stays over all of where the whole one lies. */
export function bounded(scale: number, x: number, y: number): Zoom {
  const edge = 0.5 / scale;
  return { scale, x: clamp(x, edge, 1 - edge), y: clamp(y, edge, 1 - edge) };
}

/** Zoom by a factor so that the place (u, v), relative to the image, stays where it is. */
export function zoomAround(zoom: Zoom, factor: number, u: number, v: number): Zoom {
  const scale = clamp(zoom.scale * factor, 1, LARGEST);
  const kept = zoom.scale / scale;
  return bounded(scale, u - (u - zoom.x) * kept, v - (v - zoom.y) * kept);
}

/** What a cell adds with each cell of the other image. */
export interface Match {
  pin: Pin; // the cell
  values: Float32Array; // of the cells of the other image
  share: number; // their sum
  limit: number; // largest absolute value
  best: Pin | null; // where the largest positive value is
}

/** Read the row (of the query) or the column (of the neighbor) of a cell; null outside. */
export function matched(points: Points, pin: Pin): Match | null {
  const [rows, columns] = points[pin.side].shape;
  if (pin.row >= rows || pin.column >= columns) return null;
  const side = pin.side === "query" ? "neighbor" : "query";
  const [otherRows, otherColumns] = points[side].shape;
  const count = otherRows * otherColumns;
  const at = pin.row * columns + pin.column;
  const [start, stride] = side === "neighbor" ? [at * count, 1] : [at, rows * columns];
  const values = Float32Array.from({ length: count }, (_, k) => points.values[start + k * stride]!);
  const share = values.reduce((sum, value) => sum + value, 0);
  const limit = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  const most = values.reduce((best, value, k) => (value > values[best]! ? k : best), 0);
  const best: Pin = { side, row: Math.floor(most / otherColumns), column: most % otherColumns };
  return { pin, values, share, limit, best: values[most]! > 0 ? best : null };
}

/** Move a cursor by cells, not further than the edge of its image. */
export function moved(points: Points, from: Pin, [down, right]: [number, number]): Pin {
  const [rows, columns] = points[from.side].shape;
  const row = clamp(from.row + down, 0, rows - 1);
  const column = clamp(from.column + right, 0, columns - 1);
  return { side: from.side, row, column };
}
