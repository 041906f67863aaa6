/** What draws and points: its types, components and functions, for the shell of the viewer. */

import type { Box, Correspondences, Picture } from "./types";

export { ColorBar, Receipt } from "./bars";
export { colorTable, decode, integers } from "./decode";
export { FIT } from "./geometry";
export { preload } from "./pictures";
export { Stage } from "./stage";

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

/** Of both images: `x` and `y` (from 0 to 1) are the place shown in the middle of a frame. */
export interface Zoom {
  scale: number; // 1: the whole image fits
  x: number;
  y: number;
}

/** What each place of the query adds with each place of the neighbor. */
export interface Points extends Pick<Correspondences, "query" | "neighbor" | "similarity"> {
  values: Float32Array; // one row for each place of the query
}

export type SideName = "query" | "neighbor";

export interface Pin {
  side: SideName;
  row: number;
  column: number;
}

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
