/** Which key does what. */

import { FIT } from "./geometry";
import type { Session } from "./session";
import { toPair, toQuery } from "./store";

/** `by` is 1 for the first of the keys that a command has, else -1. */
type Command = (session: Session, by: number, key: string) => unknown;

const step: Command = (session, by) => session.become(toPair(session.state, by));
const query: Command = (session, by) => session.become(toQuery(session.state, by));
const turn: Command = (session, by) => session.turn(by);
const digit: Command = (session, _, key) => session.giveDigit(key);
const opacity: Command = (session, by) =>
  session.choose({ opacity: session.state.choices.opacity + by / 10 });
const toggle = (name: "swipe" | "loupe"): Command => {
  return (session) => session.choose({ [name]: !session.state.choices[name] });
};

/** The keys in the order of the list that ? shows: labels, what they do, names, and how. */
export const KEYS: readonly [string, string, string?, Command?][] = [
  ["↓ ↑", "Next and previous pair of the queue", "ArrowDown ArrowUp", step],
  ["→ ←", "Next and previous neighbor of the query", "ArrowRight ArrowLeft", turn],
  ["Page ↓ ↑", "Next and previous query", "PageDown PageUp", query],
  ["1–9", "Give a verdict, to the selected pairs if there are any", "1 2 3 4 5 6 7 8 9", digit],
  ["U", "Undo the last verdict", "u", (session) => session.undo()],
  ["M", "Next map", "m", (session) => session.nextMap()],
  ["+ −", "Opacity of the map", "+ -", opacity],
  ["F", "Filters", "f", (session) => session.set({ filters: !session.state.filters })],
  ["S", "Swipe between this neighbor and the next", "s", toggle("swipe")],
  ["L", "Loupe", "l", toggle("loupe")],
  ["0", "Zoom to fit", "0", (session) => session.set({ zoom: FIT })],
  ["Shift ↓ ↑ → ←", "Move a cursor over the image"],
  ["Space, Enter", "Move the cursor to its match on the other image, pin its place"],
  ["Esc", "Close, drop the selection, drop the pins", "Escape", (session) => session.close()],
  ["?", "These keys", "?", (session) => session.set({ help: !session.state.help })],
];

type Key = Record<"ctrlKey" | "metaKey" | "altKey" | "shiftKey", boolean> & {
  key: string;
  target: unknown;
};

/** Return what a key does; null while somebody types, or where it does nothing. */
export function commandOf(event: Key): ((session: Session) => void) | null {
  if (event.ctrlKey || event.metaKey || event.altKey || isField(event.target)) return null;
  if (event.shiftKey && event.key.length > 1) return null; // the cursor over the images
  const key = event.key === "=" ? "+" : event.key; // the same key, without Shift
  const name = key.length === 1 ? key.toLowerCase() : key;
  for (const [, , names = "", command] of KEYS) {
    const at = names.split(" ").indexOf(name);
    if (command && at >= 0) return (session) => command(session, at ? -1 : 1, name);
  }
  return null;
}

function isField(target: unknown): boolean {
  const element = target as { tagName?: string; type?: string; isContentEditable?: boolean } | null;
  if (!element?.tagName) return false;
  if (element.isContentEditable || /^(TEXTAREA|SELECT)$/.test(element.tagName)) return true;
  return element.tagName === "INPUT" && !/^(checkbox|button)$/.test(element.type ?? "");
}
