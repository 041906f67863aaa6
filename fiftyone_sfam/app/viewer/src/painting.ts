/** Draws views, matches, pins and the loupe on a canvas. */

import { colored, MATCHES, resized } from "./coloring";
import { COLORS } from "./formats";
import type { Look, Match, Pin, Rect, Size, StageImage, StageProps, View } from "./geometry";
import * as geometry from "./geometry";
import { pictureOf } from "./pictures";

type Context = CanvasRenderingContext2D;

/** Everything that a painting depends on. */
export type Scene = StageProps & { views: View[] };

const DETAIL = 192; // least pixels of the longer side of a smooth map, which the canvas scales
const PIXELATED = 8; // a pixel of a picture that is drawn larger is shown as a square
const MAGNIFIED = 3;
const LOUPE = 128; // pixels of its sides
const DOT = 6; // radius of a pin

/** Draw all views; return whether every picture is there or known to be missing. */
export function paintViews(ctx: Context, { views, look }: Scene): boolean {
  for (const view of views) clipped(ctx, view.frame, () => paintView(ctx, view, look));
  return views.every(({ image }) => pictureOf(image.picture.url).state !== "loading");
}

function clipped(ctx: Context, { x, y, width, height }: Rect, draw: () => void): void {
  ctx.save();
  ctx.beginPath();
  ctx.rect(x, y, width, height);
  ctx.clip();
  draw();
  ctx.restore();
}

function paintView(ctx: Context, { what, image, at }: View, look: Look): void {
  if (what !== "map") paintPicture(ctx, image, at);
  if (what !== "picture") paintMap(ctx, image, at, look, what === "map");
}

/** Draw the map of an image, if it has one: over its picture, or alone. */
function paintMap(ctx: Context, image: StageImage, at: Rect, look: Look, alone = false): void {
  if (!image.values) return;
  ctx.globalAlpha = alone ? 1 : look.opacity;
  const map = mapOf(image, image.values, look, alone);
  drawScaled(ctx, map, geometry.partOf(at, image.box), look.smooth);
  ctx.globalAlpha = 1;
}

/** Draw the map of an image on a canvas that lies over its small picture. */
export function paintCard(canvas: HTMLCanvasElement, image: StageImage, look: Look): void {
  const { width, height } = image.picture;
  Object.assign(canvas, { width, height }); // which clears it
  paintMap(canvas.getContext("2d")!, image, { x: 0, y: 0, width, height }, look);
}

function paintPicture(ctx: Context, image: StageImage, at: Rect): void {
  const loaded = pictureOf(image.picture.url);
  if (loaded.state !== "ready") return;
  drawScaled(ctx, loaded.image, at, at.width < PIXELATED * loaded.image.naturalWidth);
}

function drawScaled(ctx: Context, source: CanvasImageSource, at: Rect, smooth: boolean): void {
  ctx.imageSmoothingEnabled = smooth;
  // Without a graphics card the browser takes ten times as long to draw with the best quality.
  ctx.imageSmoothingQuality = "low";
  ctx.drawImage(source, at.x, at.y, at.width, at.height);
}

type Kept = { key: string; table: Uint8Array; map: CanvasImageSource };
const maps = new WeakMap<Float32Array, Kept>();

/** Return a colored map, with many pixels for each cell if it is smooth; the latest one is kept. */
function mapOf(image: StageImage, values: Float32Array, look: Look, solid: boolean) {
  const { table, limit, signed, threshold } = look;
  const [rows, columns] = image.shape;
  const detail = look.smooth ? Math.ceil(DETAIL / Math.max(rows, columns)) : 1;
  const size: Size = [columns * detail, rows * detail];
  const key = [size, limit, signed, threshold, solid].join();
  const kept = maps.get(values);
  if (kept?.key === key && kept.table === table) return kept.map;
  const map = canvasOf(colored(resized(values, image.shape, size), look, solid), size);
  maps.set(values, { key, table, map });
  return map;
}

function canvasOf(pixels: Uint8ClampedArray<ArrayBuffer>, [width, height]: Size) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d")?.putImageData(new ImageData(pixels, width, height), 0, 0);
  return canvas;
}

/** Light up what a cell is matched with, on the darkened picture of the other image. */
export function paintMatch(ctx: Context, { views, look }: Scene, match: Match): void {
  const pixels = colored(match.values, { ...MATCHES, limit: match.limit });
  for (const { side, what, image, frame, at, grid } of views) {
    if (!grid || side === match.pin.side) continue;
    const [rows, columns] = grid.shape;
    clipped(ctx, frame, () => {
      if (what !== "map") paintPicture(ctx, image, at);
      ctx.fillStyle = what === "map" ? "#282828" : "rgb(0 0 0 / 0.55)";
      ctx.fillRect(at.x, at.y, at.width, at.height);
      drawScaled(ctx, canvasOf(pixels, [columns, rows]), grid.rect, look.smooth);
    });
  }
  outline(ctx, views, match.pin, "#ffffff");
  if (match.best) outline(ctx, views, match.best, "#ffffff");
}

/** Outline a cell on all views of its image. */
function outline(ctx: Context, views: View[], pin: Pin, color: string): void {
  for (const { side, frame, grid } of views) {
    if (!grid || side !== pin.side) continue;
    const { x, y, width, height } = geometry.cellRect(pin, grid);
    clipped(ctx, frame, () => stroke(ctx, color, () => ctx.rect(x, y, width, height)));
  }
}

/** Draw a line with a dark rim, to be seen on any image. */
function stroke(ctx: Context, color: string, path: () => void): void {
  ctx.beginPath();
  path();
  ctx.lineWidth = 4;
  ctx.strokeStyle = "rgb(0 0 0 / 0.7)";
  ctx.stroke();
  ctx.lineWidth = 2;
  ctx.strokeStyle = color;
  ctx.stroke();
}

/** Return the middle of a cell on the first view of its image, at the edge if it is outside. */
function middleOf(views: View[], pin: Pin): [number, number] {
  const { frame, grid } = views.find(({ side }) => side === pin.side)!;
  const cell = geometry.cellRect(pin, grid!);
  const { x, y, width, height } = frame;
  const middle = [cell.x + cell.width / 2, cell.y + cell.height / 2] as const;
  return [geometry.clamp(middle[0], x, x + width), geometry.clamp(middle[1], y, y + height)];
}

/** Draw a pin, and a line to the cell that it is matched with most. */
export function paintPin(ctx: Context, views: View[], match: Match, index: number): void {
  const color = COLORS[(index + 1) % COLORS.length]!;
  const [x, y] = middleOf(views, match.pin);
  outline(ctx, views, match.pin, color);
  if (match.best) {
    const end = middleOf(views, match.best);
    outline(ctx, views, match.best, color);
    stroke(ctx, color, () => {
      ctx.moveTo(x, y);
      ctx.lineTo(...end);
    });
  }
  stroke(ctx, color, () => ctx.arc(x, y, DOT, 0, 2 * Math.PI));
  ctx.fillStyle = color;
  ctx.fill();
}

/** Magnify a view at a place relative to its image, without a map over it. */
export function paintLoupe(ctx: Context, view: View, look: Look, u: number, v: number): void {
  const { x, y, width, height } = geometry.partOf(view.at, [u, v, u + MAGNIFIED, v + MAGNIFIED]);
  if (!geometry.contains(view.frame, x, y)) return;
  const at = { x: x - u * width, y: y - v * height, width, height };
  const frame = { x: x - LOUPE / 2, y: y - LOUPE / 2, width: LOUPE, height: LOUPE };
  clipped(ctx, frame, () => {
    ctx.fillStyle = "#808080";
    ctx.fillRect(frame.x, frame.y, LOUPE, LOUPE);
    paintView(ctx, { ...view, at, what: view.what === "map" ? "map" : "picture" }, look);
  });
  stroke(ctx, "#ffffff", () => ctx.rect(frame.x, frame.y, LOUPE, LOUPE));
}
