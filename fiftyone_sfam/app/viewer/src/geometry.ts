import type { Zoom } from "./drawing";

export const FIT: Zoom = { scale: 1, x: 0.5, y: 0.5 };

/** Zoom by a factor so that the place (u, v), relative to the image, stays where it is. */
export function zoomAround(zoom: Zoom, factor: number, u: number, v: number): Zoom {
  const scale = Math.min(Math.max(zoom.scale * factor, 1), 64);
  const kept = zoom.scale / scale;
  return { scale, x: u - (u - zoom.x) * kept, y: v - (v - zoom.y) * kept };
}
