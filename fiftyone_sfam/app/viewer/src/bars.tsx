import { app } from "./app";
import type { Look } from "./drawing";
import type { Share } from "./types";

const { React } = app;

/** A bar of the parts of a similarity. */
export function Receipt(props: { shares: Share[]; total: number }) {
  return <div data-testid="sfam-receipt">{props.total}</div>;
}

/** The colors of a map and what they stand for. */
export function ColorBar(props: { look: Look; unit: string }) {
  return <div data-testid="sfam-colorbar">{props.unit}</div>;
}
