/** Draws views, matches, pins and the loupe on a canvas. */

import { colored, MATCHES } from "./coloring";
import type { Look, Pin, Points, StageImage, StageProps } from "./drawing";
import { COLORS } from "./formats";
import type { Cell, Match, Rect, View } from "./geometry";
import * as geometry from "./geometry";
import { pictureOf } from "./pictures";

type Context = CanvasRenderingContext2D;

/** Everything that a painting depends on. */
export interface Scene extends StageProps {
  views: View[];
  stacked: boolean;
  split: number; // from 0 to 1, where the divider is
}

const DETAIL = 512; // pixels of the longer side of a smooth map
const PIXELATED = 8; // pixels of a picture drawn larger are shown as squares
const MAGNIFIED = 3;

/** Return where the image of a view lies on the stage. */
export function imageRect(scene: Scene, view: View): Rect {
  return geometry.placed(view.frame, geometry.sizeOf(scene[view.side]), scene.zoom);
}

/** Return the parts of a view's frame that show the first and the second neighbor. */
export function dividerOf(scene: Scene, view: View): number | null {
  if (!scene.swipe || view.side !== "neighbor") return null;
  const shown = [scene.neighbor, scene.swipe].map((image) =>
    geometry.fitted(view.frame, geometry.sizeOf(image)),
  );
  const left = Math.min(...shown.map((at) => at.x));
  return left + scene.split * Math.max(...shown.map((at) => at.width));
}

/** Draw all views; return whether every picture is there or known to be missing. */
export function paintViews(ctx: Context, scene: Scene, changed: () => void): boolean {
  for (const view of scene.views) {
    const { x, y, width, height } = view.frame;
    const divider = dividerOf(scene, view);
    const at = imageRect(scene, view);
    const left = divider === null ? width : divider - x;
    within(ctx, { x, y, width: left, height }, () => {
      paintImage(ctx, scene[view.side], view.what, scene.look, at);
    });
    if (divider === null || !scene.swipe) continue;
    const second = geometry.placed(view.frame, geometry.sizeOf(scene.swipe), scene.zoom);
    const image = scene.swipe;
    within(ctx, { x: divider, y, width: width - left, height }, () => {
      paintImage(ctx, image, view.what, scene.look, second);
    });
  }
  const urls = [scene.query, scene.neighbor, scene.swipe].map((image) => image?.picture.url);
  return urls.filter((url) => url && pictureOf(url, changed).state === "loading").length === 0;
}

/** Draw inside of a rectangle only. */
function within(ctx: Context, rect: Rect, draw: () => void): void {
  ctx.save();
  ctx.beginPath();
  ctx.rect(rect.x, rect.y, Math.max(rect.width, 0), rect.height);
  ctx.clip();
  draw();
  ctx.restore();
}

function paintImage(ctx: Context, image: StageImage, what: View["what"], look: Look, at: Rect) {
  if (what !== "map") paintPicture(ctx, image, at);
  if (what === "picture" || !image.values) return;
  const { values, shape, box } = image;
  const map = { owner: values, name: "", values, shape, size: coveredSize(image, box) };
  const raster = rasterOf(map, look, what === "map");
  ctx.globalAlpha = what === "map" ? 1 : look.opacity;
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

const rasters = new WeakMap<object, { key: string; canvas: HTMLCanvasElement }>();
const tables: Uint8Array[] = [];

interface Map {
  owner: object; // keeps one raster, for as long as it is used
  name: string; // of the map, among those of its owner
  values: Float32Array;
  shape: [number, number];
  size: geometry.Size; // of the part of the image that it covers, for its shape only
}

/** Return a map as a picture: of one pixel for each cell, or resized and then colored. */
function rasterOf(
  map: Map,
  look: Parameters<typeof colored>[3] & Pick<Look, "smooth">,
  solid: boolean,
): HTMLCanvasElement {
  const { limit, signed, diverging, threshold, table, smooth } = look;
  if (!tables.includes(table)) tables.push(table);
  const [rows, columns] = map.shape;
  const detail = smooth ? DETAIL / Math.max(...map.size) : 0;
  const width = Math.max(columns, Math.ceil(map.size[0] * detail));
  const height = Math.max(rows, Math.ceil(map.size[1] * detail));
  const colors = [limit, signed, diverging, threshold, solid, tables.indexOf(table)];
  const key = [map.name, width, height, ...map.shape, ...colors].join();
  const kept = rasters.get(map.owner);
  if (kept?.key === key) return kept.canvas;
  const canvas = kept?.canvas ?? document.createElement("canvas");
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const pixels = colored(map.values, map.shape, [width, height], look, solid);
  canvas.getContext("2d")?.putImageData(new ImageData(pixels, width, height), 0, 0);
  rasters.set(map.owner, { key, canvas });
  return canvas;
}

function coveredSize(image: StageImage, box: StageImage["box"]): geometry.Size {
  const [w, h] = geometry.sizeOf(image);
  return [w * (box[2] - box[0]), h * (box[3] - box[1])];
}

/** Light up what a cell is matched with, over the view of the other image. */
function paintMatches(
  ctx: Context,
  scene: Scene,
  points: Points,
  view: View,
  match: Match,
  at: Rect,
) {
  const image = scene[view.side];
  if (view.what !== "map") paintPicture(ctx, image, at);
  ctx.fillStyle = view.what === "map" ? "#282828" : "rgba(0, 0, 0, 0.55)";
  ctx.fillRect(at.x, at.y, at.width, at.height);
  const { shape, box } = geometry.gridOf(points, view.side);
  const look = { ...MATCHES, limit: match.limit, smooth: scene.look.smooth };
  ctx.globalAlpha = 0.85;
  const name = `${match.cell.side} ${match.cell.row} ${match.cell.column}`;
  const size = coveredSize(image, box);
  const map = { owner: points, name, values: match.values, shape, size };
  const raster = rasterOf(map, look, false);
  drawScaled(ctx, raster, geometry.partOf(at, box), scene.look.smooth);
  ctx.globalAlpha = 1;
}

/** Draw what points: the matches of the active cell, its outline, pins, and the loupe. */
export function paintPointing(
  ctx: Context,
  scene: Scene,
  active: Pin | null,
  pointer: { view: View; x: number; y: number } | null,
): void {
  const { points, pins } = scene;
  const match =
    active && points && geometry.matched(points, active.side, active.row, active.column);
  const lit = (view: View) =>
    match &&
    active &&
    view.side !== active.side &&
    !(view.what === "map" && scene.look.mode === "side");
  if (points) {
    for (const view of scene.views) {
      if (!match || !lit(view)) continue;
      within(ctx, visible(scene, view), () => {
        paintMatches(ctx, scene, points, view, match, imageRect(scene, view));
      });
    }
    if (match && active) {
      outline(ctx, scene, points, active, "#ffffff", []);
      const side = geometry.otherSide(active.side);
      if (match.best) outline(ctx, scene, points, { side, ...match.best }, "#ffffff", [4, 3]);
    }
    pins.forEach((pin, at) => {
      paintPin(ctx, scene, points, pin, at);
    });
  }
  if (!scene.loupe || !pointer) return;
  const at = imageRect(scene, pointer.view);
  const [u, v] = [(pointer.x - at.x) / at.width, (pointer.y - at.y) / at.height];
  for (const view of scene.views) {
    paintLoupe(ctx, scene, view, u, v, (rect) => {
      paintImage(ctx, scene[view.side], view.what, scene.look, rect);
      if (points && match && lit(view)) paintMatches(ctx, scene, points, view, match, rect);
    });
  }
}

/** Return the part of a frame that belongs to its image, and not to the one swiped in. */
function visible(scene: Scene, view: View): Rect {
  const divider = dividerOf(scene, view);
  return divider === null ? view.frame : { ...view.frame, width: divider - view.frame.x };
}

/** Outline a cell on all views of its image. */
function outline(
  ctx: Context,
  scene: Scene,
  points: Points,
  cell: Pin,
  color: string,
  dash: number[],
) {
  const { shape, box } = geometry.gridOf(points, cell.side);
  for (const view of scene.views.filter((one) => one.side === cell.side)) {
    const rect = geometry.cellRect(cell, imageRect(scene, view), shape, box);
    const [width, height] = [Math.max(rect.width, 6), Math.max(rect.height, 6)];
    const x = rect.x + (rect.width - width) / 2;
    const y = rect.y + (rect.height - height) / 2;
    within(ctx, visible(scene, view), () => {
      stroke(ctx, color, dash, () => ctx.rect(x + 1, y + 1, width - 2, height - 2));
    });
  }
}

/** Draw a line with a dark rim, to be seen on any image. */
function stroke(ctx: Context, color: string, dash: number[], path: () => void): void {
  ctx.beginPath();
  path();
  ctx.setLineDash([]);
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
  const view = scene.views.find((one) => one.side === pin.side) ?? scene.views[0]!;
  const { shape, box } = geometry.gridOf(points, pin.side);
  const rect = geometry.cellRect(pin, imageRect(scene, view), shape, box);
  const { x, y, width, height } = view.frame;
  return {
    x: Math.min(Math.max(rect.x + rect.width / 2, x), x + width),
    y: Math.min(Math.max(rect.y + rect.height / 2, y), y + height),
  };
}

export const BADGE = 9; // radius of a pin's number

function paintPin(ctx: Context, scene: Scene, points: Points, pin: Pin, at: number): void {
  const match = geometry.matched(points, pin.side, pin.row, pin.column);
  if (!match) return;
  const color = pinColor(at);
  const start = middleOf(scene, points, pin);
  outline(ctx, scene, points, pin, color, []);
  if (match.best) {
    const best: Pin & Cell = { side: geometry.otherSide(pin.side), ...match.best };
    outline(ctx, scene, points, best, color, []);
    const end = middleOf(scene, points, best);
    stroke(ctx, color, [], () => {
      ctx.moveTo(start.x, start.y);
      ctx.lineTo(end.x, end.y);
    });
  }
  ctx.beginPath();
  ctx.arc(start.x, start.y, BADGE, 0, 2 * Math.PI);
  ctx.fillStyle = color;
  ctx.fill();
  ctx.strokeStyle = "#000000";
  ctx.lineWidth = 1;
  ctx.stroke();
  ctx.fillStyle = "#000000";
  ctx.font = "bold 12px sans-serif";
  ctx.textAlign = "center";
  ctx.textBaseline = "middle";
  ctx.fillText(String(at + 1), start.x, start.y + 0.5);
}

/** Colors that black numbers can be read on. */
function pinColor(at: number): string {
  const bright = COLORS.slice(1);
  return bright[at % bright.length]!;
}

function paintLoupe(
  ctx: Context,
  scene: Scene,
  view: View,
  u: number,
  v: number,
  draw: (at: Rect) => void,
) {
  const at = imageRect(scene, view);
  const [x, y] = [at.x + u * at.width, at.y + v * at.height];
  if (!geometry.contains(visible(scene, view), x, y)) return;
  const radius = Math.min(90, 0.3 * Math.min(view.frame.width, view.frame.height));
  ctx.save();
  ctx.beginPath();
  ctx.arc(x, y, radius, 0, 2 * Math.PI);
  ctx.clip();
  ctx.fillStyle = "#808080";
  ctx.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
  draw({
    x: x - u * at.width * MAGNIFIED,
    y: y - v * at.height * MAGNIFIED,
    width: at.width * MAGNIFIED,
    height: at.height * MAGNIFIED,
  });
  ctx.restore();
  stroke(ctx, "#ffffff", [], () => ctx.arc(x, y, radius, 0, 2 * Math.PI));
}
