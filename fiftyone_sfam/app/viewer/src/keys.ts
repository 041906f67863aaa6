/** Which key does what. */

import { FIT } from "./drawing";
import type { Session } from "./session";

type Command = (session: Session) => void;

const step = (type: "step" | "stepQuery", by: number): Command => {
  return (session) => session.dispatch({ type, by });
};
const opacity = (by: number): Command => {
  return (session) => session.choose({ opacity: session.state.choices.opacity + by });
};

const COMMANDS: Record<string, Command> = {
  ArrowDown: step("step", 1),
  ArrowUp: step("step", -1),
  PageDown: step("stepQuery", 1),
  PageUp: step("stepQuery", -1),
  ArrowRight: (session) => session.turn(1),
  ArrowLeft: (session) => session.turn(-1),
  "+": opacity(0.1),
  "=": opacity(0.1),
  "-": opacity(-0.1),
  u: (session) => session.undo(),
  m: (session) => session.nextMap(),
  f: (session) => session.set({ filters: !session.state.filters }),
  s: (session) => session.choose({ swipe: !session.state.choices.swipe }),
  l: (session) => session.choose({ loupe: !session.state.choices.loupe }),
  "0": (session) => session.set({ zoom: FIT }),
  "?": (session) => session.set({ help: !session.state.help }),
  Escape: (session) => session.close(),
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
  ["Shift ↓ ↑ → ←", "Move over the image, Enter pins the place"],
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
  const { key } = event;
  if (event.shiftKey && key.length > 1) return null; // the cursor over the images
  if (/^[1-9]$/.test(key)) return (session) => session.giveDigit(key);
  return COMMANDS[key.length === 1 ? key.toLowerCase() : key] ?? null;
}

function isField(target: unknown): boolean {
  const element = target as { tagName?: string; type?: string; isContentEditable?: boolean } | null;
  if (!element?.tagName) return false;
  if (element.isContentEditable || /^(TEXTAREA|SELECT)$/.test(element.tagName)) return true;
  return element.tagName === "INPUT" && !/^(checkbox|button)$/.test(element.type ?? "");
}
