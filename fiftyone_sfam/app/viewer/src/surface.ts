/** Pointing at the stage and painting it, at most once in a frame and without React. */

import type { Pin, Zoom } from "./drawing";
import { shareText } from "./formats";
import type { View } from "./geometry";
import * as geometry from "./geometry";
import type { Scene } from "./painting";
import * as painting from "./painting";

interface Pointer {
  view: View;
  x: number;
  y: number;
}

const CLICK = 4; // pixels that the mouse may move during a click
const BESIDE = 14; // pixels from the pointer to the text, in x and in y
const BESIDE_LOUPE = 66;

export class Surface {
  private pointer: Pointer | null = null;
  private cursor: Pin | null = null;
  private press: { at: Pointer; zoom: Zoom; moved: boolean } | null = null;
  private frame = 0;
  private stale = true; // the pictures have to be painted again
  private complete = false; // all of them were there
  private painted = 0;

  constructor(
    private readonly root: HTMLElement,
    private readonly pictures: HTMLCanvasElement,
    private readonly pointing: HTMLCanvasElement,
    private readonly text: HTMLElement,
    private scene: Scene,
  ) {}

  /** Take over a new state of the component. */
  show(scene: Scene): void {
    this.scene = scene;
    if (this.pointer) this.pointer = this.pointerAt(this.pointer.x, this.pointer.y);
    this.request(true);
  }

  stop(): void {
    cancelAnimationFrame(this.frame);
    this.frame = -1;
  }

  private request(pictures: boolean): void {
    this.stale ||= pictures;
    if (this.frame === 0) this.frame = requestAnimationFrame(() => this.paint());
  }

  private readonly loaded = () => this.request(true);

  private paint(): void {
    this.frame = 0;
    const { scene } = this;
    if (this.stale) {
      const ctx = cleared(this.pictures, this.root);
      this.stale = false;
      this.complete = ctx !== null && painting.paintViews(ctx, scene, this.loaded);
    }
    const active = this.active();
    const ctx = cleared(this.pointing, this.root);
    if (ctx) painting.paintPointing(ctx, scene, active, this.pointer);
    this.write(active);
    if (this.complete) this.root.dataset.painted = String(++this.painted);
  }

  /** The cell whose matches are shown: under the mouse, at the cursor, or pinned last. */
  private active(): Pin | null {
    return this.cellUnder(this.pointer) ?? this.cursor ?? this.scene.pins.at(-1) ?? null;
  }

  private write(active: Pin | null): void {
    const { text, root } = this;
    const { points } = this.scene;
    const match =
      active && points && geometry.matched(points, active.side, active.row, active.column);
    text.style.visibility = match ? "visible" : "hidden";
    text.textContent = match ? shareText(match.share, points.similarity) : "";
    if (!match || !points) return;
    const at = this.cellUnder(this.pointer) && this.pointer;
    const { x, y } = at ?? painting.middleOf(this.scene, points, active);
    const [width, height] = [text.offsetWidth, text.offsetHeight];
    const away = this.scene.loupe && at ? BESIDE_LOUPE : BESIDE;
    const left = x + away + width < root.clientWidth ? x + away : x - away - width;
    const top = y + away + height < root.clientHeight ? y + away : y - away - height;
    text.style.transform = `translate(${Math.max(left, 0)}px, ${Math.max(top, 0)}px)`;
  }

  private pointerAt(x: number, y: number): Pointer | null {
    const view = this.scene.views.find((one) => geometry.contains(one.frame, x, y));
    return view ? { view, x, y } : null;
  }

  private cellUnder(pointer: Pointer | null): Pin | null {
    const { scene } = this;
    if (!pointer || !scene.points || this.press?.moved) return null;
    const { view, x, y } = pointer;
    if (x >= (painting.dividerOf(scene, view) ?? Number.POSITIVE_INFINITY)) return null;
    const { shape, box } = geometry.gridOf(scene.points, view.side);
    const cell = geometry.cellAt(x, y, painting.imageRect(scene, view), shape, box);
    return cell && { side: view.side, ...cell };
  }

  private zoomTo(zoom: Zoom): void {
    this.scene = { ...this.scene, zoom }; // until React has brought it back
    this.request(true);
    this.scene.onZoom(zoom);
  }

  private pointerOf(event: MouseEvent): Pointer | null {
    const rect = this.root.getBoundingClientRect();
    return this.pointerAt(event.clientX - rect.left, event.clientY - rect.top);
  }

  down(event: MouseEvent): void {
    const at = this.pointerOf(event);
    if (event.button === 0 && at) this.press = { at, zoom: this.scene.zoom, moved: false };
  }

  move(event: PointerEvent): void {
    this.pointer = this.pointerOf(event);
    const { press, pointer } = this;
    if (press && pointer) {
      const [dx, dy] = [pointer.x - press.at.x, pointer.y - press.at.y];
      if (!press.moved && Math.hypot(dx, dy) > CLICK) {
        press.moved = true;
        this.root.setPointerCapture(event.pointerId);
      }
      if (press.moved && press.zoom.scale > 1) {
        const at = painting.imageRect(this.scene, press.at.view);
        this.zoomTo(geometry.panned(press.zoom, dx / at.width, dy / at.height));
      }
    }
    this.request(false);
  }

  up(): void {
    const { press } = this;
    this.press = null;
    if (press && !press.moved) this.toggle(this.pinAt(press.at) ?? this.cellUnder(press.at));
    this.request(false);
  }

  leave(): void {
    this.pointer = null;
    this.press = null;
    this.request(false);
  }

  /** Without the keyboard there is no cursor. */
  blur(): void {
    this.cursor = null;
    this.request(false);
  }

  wheel(event: WheelEvent): void {
    const at = this.pointerOf(event);
    if (!at || event.deltaY === 0) return;
    event.preventDefault();
    const image = painting.imageRect(this.scene, at.view);
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : 16;
    const factor = 2 ** (-Math.max(Math.min(event.deltaY * lines, 400), -400) / 200);
    const [u, v] = [(at.x - image.x) / image.width, (at.y - image.y) / image.height];
    this.zoomTo(geometry.zoomAround(this.scene.zoom, factor, u, v));
  }

  reset(): void {
    this.zoomTo(geometry.FIT);
  }

  /** Move the cursor, pin its cell, or put it away; return whether the key is one of these. */
  key(event: { key: string; shiftKey: boolean }): boolean {
    const { points, stacked, pins } = this.scene;
    const step = event.shiftKey ? STEPS[event.key] : undefined;
    if (!points) return false;
    if (step) {
      const start = this.cursor ?? pins.at(-1);
      this.cursor = start ? geometry.moved(start, ...step, points, stacked) : central(points);
      this.pointer = null; // the cursor is what was moved last
    } else if (event.key === "Enter" && this.cursor) {
      this.toggle(this.cursor);
    } else if (event.key === "Escape" && this.cursor) {
      this.cursor = null;
    } else {
      return false;
    }
    this.request(false);
    return true;
  }

  private pinAt({ x, y }: Pointer): Pin | null {
    const { points, pins } = this.scene;
    if (!points) return null;
    const near = (pin: Pin) => {
      const at = painting.middleOf(this.scene, points, pin);
      return Math.hypot(at.x - x, at.y - y) <= painting.BADGE;
    };
    return pins.find(near) ?? null;
  }

  private toggle(cell: Pin | null): void {
    if (!cell) return;
    const { pins, onPins } = this.scene;
    const others = pins.filter((pin) => !same(pin, cell));
    onPins(others.length < pins.length ? others : [...pins, cell]);
  }
}

const STEPS: Record<string, [number, number]> = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
};

function central(points: NonNullable<Scene["points"]>): Pin {
  const [rows, columns] = points.queryShape;
  return { side: "query", row: Math.floor(rows / 2), column: Math.floor(columns / 2) };
}

function same(a: Pin, b: Pin): boolean {
  return a.side === b.side && a.row === b.row && a.column === b.column;
}

/** Clear a canvas, at the size of its parent in pixels of the screen. */
function cleared(canvas: HTMLCanvasElement, parent: HTMLElement): CanvasRenderingContext2D | null {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(parent.clientWidth * ratio);
  const height = Math.round(parent.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const ctx = canvas.getContext("2d");
  ctx?.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx?.clearRect(0, 0, parent.clientWidth, parent.clientHeight);
  return ctx;
}
