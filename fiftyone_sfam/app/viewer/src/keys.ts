/** Which key does what. */

export type Command =
  | { name: "step" | "query" | "neighbor" | "opacity"; by: number }
  | { name: "verdict"; digit: string }
  | { name: "undo" | "map" | "filters" | "swipe" | "loupe" | "fit" | "help" | "close" };

const COMMANDS: Record<string, Command> = {
  ArrowDown: { name: "step", by: 1 },
  ArrowUp: { name: "step", by: -1 },
  ArrowRight: { name: "neighbor", by: 1 },
  ArrowLeft: { name: "neighbor", by: -1 },
  PageDown: { name: "query", by: 1 },
  PageUp: { name: "query", by: -1 },
  "+": { name: "opacity", by: 0.1 },
  "=": { name: "opacity", by: 0.1 },
  "-": { name: "opacity", by: -0.1 },
  u: { name: "undo" },
  m: { name: "map" },
  f: { name: "filters" },
  s: { name: "swipe" },
  l: { name: "loupe" },
  "0": { name: "fit" },
  "?": { name: "help" },
  Escape: { name: "close" },
};

/** What the keys do, in the order of the list that ? shows. */
export const HELP: readonly [string, string][] = [
  ["↓ ↑", "Next and previous pair of the queue"],
  ["→ ←", "Next and previous neighbor of the query"],
  ["Page ↓ ↑", "Next and previous query"],
  ["1–9", "Give a verdict, to the selected pairs if there are any"],
  ["U", "Undo the last verdict"],
  ["M", "Next map"],
  ["+ −", "Opacity of the map"],
  ["F", "Filters"],
  ["S", "Swipe between this neighbor and the next"],
  ["L", "Loupe"],
  ["0", "Zoom to fit"],
  ["Esc", "Close, drop the selection, drop the pins"],
  ["?", "These keys"],
];

export interface Key {
  key: string;
  ctrlKey: boolean;
  metaKey: boolean;
  altKey: boolean;
  shiftKey: boolean;
  target: unknown;
}

/** Return what a key does; null while somebody types, or where it does nothing. */
export function commandOf(event: Key): Command | null {
  if (event.ctrlKey || event.metaKey || event.altKey || isField(event.target)) return null;
  if (event.shiftKey && event.key.length > 1) return null; // the cursor over the images
  const known = COMMANDS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (known) return known;
  return /^[1-9]$/.test(event.key) ? { name: "verdict", digit: event.key } : null;
}

function isField(target: unknown): boolean {
  const element = target as { tagName?: string; type?: string; isContentEditable?: boolean } | null;
  if (!element?.tagName) return false;
  if (element.isContentEditable || /^(TEXTAREA|SELECT)$/.test(element.tagName)) return true;
  return element.tagName === "INPUT" && !/^(checkbox|button)$/.test(element.type ?? "");
}
