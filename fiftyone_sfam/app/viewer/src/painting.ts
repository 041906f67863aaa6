/** Draws views, matches, pins and the loupe on a canvas. */

import { colored, MATCHES } from "./coloring";
import type { Pin, Points, StageImage, StageProps } from "./drawing";
import { COLORS } from "./formats";
import type { Rect, View } from "./geometry";
import * as geometry from "./geometry";
import { pictureOf } from "./pictures";
import type { Box } from "./types";

type Context = CanvasRenderingContext2D;

/** Everything that a painting depends on. */
export interface Scene extends StageProps {
  views: View[];
  stacked: boolean;
  split: number; // from 0 to 1, where the divider is
}

const DETAIL = 384; // pixels of the longer side of a smooth map
const PIXELATED = 8; // a pixel of a picture that is drawn larger is shown as a square
const MAGNIFIED = 3;
const SMALLEST = 6; // pixels of the outline of a cell
export const BADGE = 9; // radius of a pin's number

/** Return where the image of a view lies on the stage. */
export function imageRect(scene: Scene, view: View): Rect {
  return geometry.placed(view.frame, geometry.sizeOf(scene[view.side]), scene.zoom);
}

/** Return where a view is divided between two neighbors; null where it is not. */
export function dividerOf(scene: Scene, view: View): number | null {
  if (!scene.swipe || view.side !== "neighbor") return null;
  const images = [scene.neighbor, scene.swipe];
  const shown = images.map((image) => geometry.fitted(view.frame, geometry.sizeOf(image)));
  const width = Math.max(...shown.map((at) => at.width));
  return Math.min(...shown.map((at) => at.x)) + scene.split * width;
}

/** Return the part of a frame that shows its image, and not the one swiped in. */
function visible(scene: Scene, view: View): Rect {
  const divider = dividerOf(scene, view);
  return divider === null ? view.frame : { ...view.frame, width: divider - view.frame.x };
}

/** Draw all views; return whether every picture is there or known to be missing. */
export function paintViews(ctx: Context, scene: Scene, changed: () => void): boolean {
  for (const view of scene.views) {
    const image = scene[view.side];
    const first = visible(scene, view);
    clipped(ctx, first, () => paintImage(ctx, scene, view.what, image, imageRect(scene, view)));
    const { swipe } = scene;
    if (!swipe || view.side !== "neighbor") continue;
    const at = geometry.placed(view.frame, geometry.sizeOf(swipe), scene.zoom);
    const x = first.x + first.width;
    const second = { ...view.frame, x, width: view.frame.width - first.width };
    clipped(ctx, second, () => paintImage(ctx, scene, view.what, swipe, at));
  }
  const urls = [scene.query, scene.neighbor, scene.swipe].map((image) => image?.picture.url);
  return urls.filter((url) => url && pictureOf(url, changed).state === "loading").length === 0;
}

function clipped(ctx: Context, rect: Rect, draw: () => void): void {
  ctx.save();
  ctx.beginPath();
  ctx.rect(rect.x, rect.y, rect.width, rect.height);
  ctx.clip();
  draw();
  ctx.restore();
}

function paintImage(ctx: Context, scene: Scene, what: View["what"], image: StageImage, at: Rect) {
  const { look } = scene;
  const { values, shape, box } = image;
  if (what !== "map") paintPicture(ctx, image, at);
  if (what === "picture" || !values) return;
  const solid = what === "map";
  const raster = rasterOf(values, "", values, shape, sizeOfPart(image, box), look, solid);
  ctx.globalAlpha = solid ? 1 : look.opacity;
  drawScaled(ctx, raster, geometry.partOf(at, box), look.smooth);
  ctx.globalAlpha = 1;
}

function paintPicture(ctx: Context, image: StageImage, at: Rect): void {
  const loaded = image.picture.url ? pictureOf(image.picture.url) : null;
  if (loaded?.state !== "ready") return;
  drawScaled(ctx, loaded.image, at, at.width < PIXELATED * loaded.image.naturalWidth);
}

function drawScaled(ctx: Context, source: CanvasImageSource, at: Rect, smooth: boolean): void {
  ctx.imageSmoothingEnabled = smooth;
  ctx.imageSmoothingQuality = "high";
  ctx.drawImage(source, at.x, at.y, at.width, at.height);
}

function sizeOfPart(image: StageImage, [left, top, right, bottom]: Box): geometry.Size {
  const [width, height] = geometry.sizeOf(image);
  return [width * (right - left), height * (bottom - top)];
}

const rasters = new WeakMap<object, { key: string; canvas: HTMLCanvasElement }>();
const tables: Uint8Array[] = [];

/** Return a colored map, resized to a shape if it is smooth; the owner keeps its latest one. */
function rasterOf(
  owner: object,
  name: string,
  values: Float32Array,
  shape: [number, number],
  size: geometry.Size,
  look: Parameters<typeof colored>[3] & { smooth: boolean },
  solid: boolean,
): HTMLCanvasElement {
  const { limit, signed, diverging, threshold, table, smooth } = look;
  if (!tables.includes(table)) tables.push(table);
  const detail = smooth ? DETAIL / Math.max(...size) : 0;
  const width = Math.max(shape[1], Math.ceil(size[0] * detail));
  const height = Math.max(shape[0], Math.ceil(size[1] * detail));
  const colors = [limit, signed, diverging, threshold, solid, tables.indexOf(table)];
  const key = [name, width, height, ...shape, ...colors].join();
  const kept = rasters.get(owner);
  if (kept?.key === key) return kept.canvas;
  const canvas = kept?.canvas ?? document.createElement("canvas");
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const pixels = colored(values, shape, [width, height], look, solid);
  canvas.getContext("2d")?.putImageData(new ImageData(pixels, width, height), 0, 0);
  rasters.set(owner, { key, canvas });
  return canvas;
}

/** Draw what points: the matches of the active cell, its outline, pins, and the loupe. */
export function paintPointing(
  ctx: Context,
  scene: Scene,
  active: Pin | null,
  pointer: { view: View; x: number; y: number } | null,
): void {
  const { points, pins } = scene;
  if (points) {
    if (active) paintMatches(ctx, scene, points, active);
    pins.forEach((pin, at) => {
      paintPin(ctx, scene, points, pin, at);
    });
  }
  if (!scene.loupe || !pointer) return;
  const at = imageRect(scene, pointer.view);
  const [u, v] = [(pointer.x - at.x) / at.width, (pointer.y - at.y) / at.height];
  for (const view of scene.views) paintLoupe(ctx, scene, view, u, v);
}

/** Light up what a cell is matched with, on the darkened picture of the other image. */
function paintMatches(ctx: Context, scene: Scene, points: Points, active: Pin): void {
  const match = geometry.matched(points, active.side, active.row, active.column);
  if (!match) return;
  const side = geometry.otherSide(active.side);
  const { smooth, mode } = scene.look;
  const { shape, box } = geometry.gridOf(points, side);
  const look = { ...MATCHES, limit: match.limit, smooth };
  const name = `${active.side} ${active.row} ${active.column}`;
  const size = sizeOfPart(scene[side], box);
  const raster = rasterOf(points, name, match.values, shape, size, look, false);
  for (const view of scene.views) {
    if (view.side !== side || (view.what === "map" && mode === "side")) continue;
    const at = imageRect(scene, view);
    clipped(ctx, visible(scene, view), () => {
      if (view.what !== "map") paintPicture(ctx, scene[side], at);
      ctx.fillStyle = view.what === "map" ? "#282828" : "rgba(0, 0, 0, 0.55)";
      ctx.fillRect(at.x - 1, at.y - 1, at.width + 2, at.height + 2);
      ctx.globalAlpha = 0.85;
      drawScaled(ctx, raster, geometry.partOf(at, box), smooth);
      ctx.globalAlpha = 1;
    });
  }
  outline(ctx, scene, points, active, "#ffffff", []);
  if (match.best) outline(ctx, scene, points, { side, ...match.best }, "#ffffff", [4, 3]);
}

/** Outline a cell on all views of its image. */
function outline(
  ctx: Context,
  scene: Scene,
  points: Points,
  cell: Pin,
  color: string,
  dash: number[],
): void {
  const { shape, box } = geometry.gridOf(points, cell.side);
  for (const view of scene.views.filter((one) => one.side === cell.side)) {
    const rect = geometry.cellRect(cell, imageRect(scene, view), shape, box);
    const [width, height] = [Math.max(rect.width, SMALLEST), Math.max(rect.height, SMALLEST)];
    const x = rect.x + (rect.width - width) / 2;
    const y = rect.y + (rect.height - height) / 2;
    clipped(ctx, visible(scene, view), () => {
      stroke(ctx, color, dash, () => ctx.rect(x + 1, y + 1, width - 2, height - 2));
    });
  }
}

/** Draw a line with a dark rim, to be seen on any image. */
function stroke(ctx: Context, color: string, dash: number[], path: () => void): void {
  ctx.beginPath();
  path();
  ctx.lineWidth = 4;
  ctx.strokeStyle = "rgba(0, 0, 0, 0.7)";
  ctx.stroke();
  ctx.setLineDash(dash);
  ctx.lineWidth = 2;
  ctx.strokeStyle = color;
  ctx.stroke();
  ctx.setLineDash([]);
}

/** Return the middle of a cell on the first view of its image, at the edge if it is outside. */
export function middleOf(scene: Scene, points: Points, pin: Pin): { x: number; y: number } {
  const view = scene.views.find((one) => one.side === pin.side)!;
  const { shape, box } = geometry.gridOf(points, pin.side);
  const cell = geometry.cellRect(pin, imageRect(scene, view), shape, box);
  const { x, y, width, height } = view.frame;
  return {
    x: Math.min(Math.max(cell.x + cell.width / 2, x), x + width),
    y: Math.min(Math.max(cell.y + cell.height / 2, y), y + height),
  };
}

/** Draw a pin, its number, and a line to the cell that it is matched with most. */
function paintPin(ctx: Context, scene: Scene, points: Points, pin: Pin, at: number): void {
  const match = geometry.matched(points, pin.side, pin.row, pin.column);
  if (!match) return;
  const bright = COLORS.slice(1); // black numbers can be read on them
  const color = bright[at % bright.length]!;
  const { x, y } = middleOf(scene, points, pin);
  outline(ctx, scene, points, pin, color, []);
  if (match.best) {
    const best = { side: geometry.otherSide(pin.side), ...match.best };
    const end = middleOf(scene, points, best);
    outline(ctx, scene, points, best, color, []);
    stroke(ctx, color, [], () => {
      ctx.moveTo(x, y);
      ctx.lineTo(end.x, end.y);
    });
  }
  stroke(ctx, color, [], () => ctx.arc(x, y, BADGE - 1, 0, 2 * Math.PI));
  ctx.fillStyle = color;
  ctx.fill();
  ctx.fillStyle = "#000000";
  ctx.font = "bold 12px sans-serif";
  ctx.textAlign = "center";
  ctx.textBaseline = "middle";
  ctx.fillText(String(at + 1), x, y + 0.5);
}

/** Magnify a view at a place relative to its image, without a map over it. */
function paintLoupe(ctx: Context, scene: Scene, view: View, u: number, v: number): void {
  const at = imageRect(scene, view);
  const [x, y] = [at.x + u * at.width, at.y + v * at.height];
  if (!geometry.contains(visible(scene, view), x, y)) return;
  const radius = Math.min(90, 0.3 * Math.min(view.frame.width, view.frame.height));
  const [width, height] = [at.width * MAGNIFIED, at.height * MAGNIFIED];
  const what = view.what === "map" ? "map" : "picture";
  ctx.save();
  ctx.beginPath();
  ctx.arc(x, y, radius, 0, 2 * Math.PI);
  ctx.clip();
  ctx.fillStyle = "#808080";
  ctx.fill();
  const rect = { x: x - u * width, y: y - v * height, width, height };
  paintImage(ctx, scene, what, scene[view.side], rect);
  ctx.restore();
  stroke(ctx, "#ffffff", [], () => ctx.arc(x, y, radius, 0, 2 * Math.PI));
}
