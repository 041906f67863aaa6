/** Pointing at the stage and painting it, at most once in a frame and without React. */

import { shareText } from "./formats";
import type { Match, Pin, SideName, View, Zoom } from "./geometry";
import * as geometry from "./geometry";
import * as painting from "./painting";
import { same } from "./same";

type Place = { x: number; y: number };

const CLICK = 4; // pixels that the mouse may move during a click
const START: Pin = { side: "query", row: 0, column: 0 };
const NAMES: Record<SideName, string> = { query: "Query", neighbor: "Neighbor" };
const STEPS: Record<string, [number, number]> = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
};

export class Surface {
  private pointer: Place | null = null;
  private cursor: Pin | null = null;
  private press: (Place & { view: View; zoom: Zoom; moved: boolean }) | null = null;
  private readonly fingers = new Map<number, Place>(); // or the mouse, while they are down
  private frame = 0;
  private stale = true; // the views have to be painted again
  private complete = false; // all of their pictures were there
  private painted = 0;

  constructor(
    private readonly root: HTMLElement, // with a canvas of the views, and one of the rest
    private scene: painting.Scene,
  ) {}

  /** Take over a new state of the component. */
  show(scene: painting.Scene): void {
    const before = this.scene;
    this.scene = scene;
    this.stale ||= !this.complete || !same(below(scene), below(before));
    if (this.stale || !same(scene, before)) this.request();
  }

  private request(): void {
    if (this.frame === 0) this.frame = requestAnimationFrame(() => this.paint());
  }

  private paint(): void {
    this.frame = 0;
    if (this.stale) this.complete = painting.paintViews(this.cleared(0), this.scene);
    this.stale = false;
    const { points, pins, loupe } = this.scene;
    const active = this.cellUnder(this.pointer) ?? this.cursor ?? pins.at(-1);
    const match = active && points ? geometry.matched(points, active) : null;
    const under = loupe && this.pointer ? this.viewAt(this.pointer) : undefined;
    const shown = match !== null || under !== undefined;
    // A canvas that is hidden costs nothing to put over the other one.
    this.root.querySelectorAll("canvas")[1]!.style.visibility = shown ? "" : "hidden";
    if (shown) this.paintOver(this.cleared(1), match, under);
    this.write(match);
    if (this.complete) this.root.dataset.painted = String(++this.painted);
  }

  private paintOver(ctx: CanvasRenderingContext2D, match: Match | null, under?: View): void {
    const { scene } = this;
    if (match) painting.paintMatch(ctx, scene, match);
    scene.pins.forEach((pin, at) => {
      const pinned = scene.points && geometry.matched(scene.points, pin);
      if (pinned) painting.paintPin(ctx, scene.views, pinned, at);
    });
    if (!under || !this.pointer) return;
    const place = relative(this.pointer, under);
    for (const view of scene.views) painting.paintLoupe(ctx, view, scene.look, ...place);
  }

  /** Clear a canvas, at the size of the stage in pixels of the screen. */
  private cleared(index: number): CanvasRenderingContext2D {
    const canvas = this.root.querySelectorAll("canvas")[index]!;
    const { clientWidth, clientHeight } = this.root;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const ctx = canvas.getContext("2d")!;
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, clientWidth, clientHeight);
    return ctx;
  }

  /** Write the share of a cell; of the cursor also where that is. */
  private write(match: Match | null): void {
    const { points } = this.scene;
    const share = match && points ? shareText(match.share, points.similarity) : "";
    const said = match && match.pin === this.cursor ? `${named(match.pin)}: ${share}` : share;
    const text = this.root.querySelector(".sfam-hover")!;
    if (text.textContent !== said) text.textContent = said; // screen readers read it again
  }

  private viewAt({ x, y }: Place): View | undefined {
    return this.scene.views.find((view) => geometry.contains(view.frame, x, y));
  }

  private cellUnder(place: Place | null): Pin | null {
    const view = place ? this.viewAt(place) : undefined;
    if (!place || !view?.grid || view.side === "swiped" || this.press?.moved) return null;
    const cell = geometry.cellAt(place.x, place.y, view.grid);
    return cell && { side: view.side, ...cell };
  }

  private placeOf(event: MouseEvent): Place {
    const { left, top } = this.root.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  down(event: PointerEvent): void {
    const place = this.placeOf(event);
    const view = this.viewAt(place);
    this.pointer = place;
    this.fingers.set(event.pointerId, place);
    this.press = null;
    if (event.button === 0 && view && this.fingers.size === 1)
      this.press = { ...place, view, zoom: this.scene.zoom, moved: false };
  }

  move(event: PointerEvent): void {
    const place = this.placeOf(event);
    const { press, scene } = this;
    this.pointer = place;
    if (this.fingers.size > 1) this.pinch(event.pointerId, place);
    if (press) {
      const [dx, dy] = [place.x - press.x, place.y - press.y];
      if (!press.moved && Math.hypot(dx, dy) > CLICK) {
        press.moved = true;
        this.root.setPointerCapture(event.pointerId);
      }
      const { width, height } = press.view.at;
      const { scale, x, y } = press.zoom;
      if (press.moved) scene.onZoom(geometry.bounded(scale, x - dx / width, y - dy / height));
    }
    this.request();
  }

  /** Zoom around the finger that rests, by how the other one's distance from it changes. */
  private pinch(finger: number, to: Place): void {
    const from = this.fingers.get(finger);
    const rest = [...this.fingers].find(([one]) => one !== finger)?.[1];
    const view = rest && this.viewAt(rest);
    if (!from || !view) return;
    const [before, now] = [from, to].map(({ x, y }) => Math.hypot(x - rest.x, y - rest.y));
    this.fingers.set(finger, to);
    const { zoom, onZoom } = this.scene;
    if (before) onZoom(geometry.zoomAround(zoom, now! / before, ...relative(rest, view)));
  }

  up(event: PointerEvent): void {
    const clicked = this.press && this.cellUnder(this.pointer);
    if (clicked) this.toggle(clicked);
    this.leave(event, this.pointer);
  }

  leave({ pointerId }: PointerEvent, pointer: Place | null = null): void {
    this.fingers.delete(pointerId);
    this.pointer = pointer;
    this.press = null;
    this.request();
  }

  wheel(event: WheelEvent): void {
    const place = this.placeOf(event);
    const view = this.viewAt(place);
    if (!view || event.deltaY === 0) return;
    event.preventDefault();
    const factor = 2 ** (-geometry.clamp(event.deltaY, -400, 400) / 200);
    const { zoom, onZoom } = this.scene;
    onZoom(geometry.zoomAround(zoom, factor, ...relative(place, view)));
  }

  /** Move the cursor, also to its match on the other image, pin its cell or put it away; return
   * whether the key is one of these. */
  key({ key, shiftKey }: { key: string; shiftKey: boolean }): boolean {
    const { cursor } = this;
    const { points, pins } = this.scene;
    const step = shiftKey ? STEPS[key] : undefined;
    if (!points) return false;
    if (step) this.cursor = geometry.moved(points, cursor ?? pins.at(-1) ?? START, step);
    else if (!cursor) return false;
    else if (key === " ") this.cursor = geometry.matched(points, cursor)?.best ?? cursor;
    else if (key === "Enter") this.toggle(cursor);
    else if (key === "Escape") this.cursor = null;
    else return false;
    this.pointer = null; // the cursor was moved last
    this.request();
    return true;
  }

  private toggle(cell: Pin): void {
    const { pins, onPins } = this.scene;
    const others = pins.filter((pin) => named(pin) !== named(cell));
    onPins(others.length < pins.length ? others : [...pins, cell]);
  }
}

/** What the canvas of the views depends on. */
function below({ views, look }: painting.Scene) {
  return [look, ...views.map((view) => ({ ...view, grid: null }))];
}

const named = ({ side, row, column }: Pin) =>
  `${NAMES[side]}, row ${row + 1}, column ${column + 1}`;

/** Return a place on the stage relative to an image. */
function relative({ x, y }: Place, { at }: View): [number, number] {
  return [(x - at.x) / at.width, (y - at.y) / at.height];
}
