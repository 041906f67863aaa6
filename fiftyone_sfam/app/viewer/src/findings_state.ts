/** The state of the list of findings: what is shown, and verdicts before they are stored. */

import type { Findings, Settled, SettledNow } from "./findings_types";
import type { Previous } from "./types";

/** Which findings are listed. */
export interface Place {
  start: number;
  count: number;
  kind: string | null;
  min_probability: number;
}

/** How a finding is settled on the page. */
export interface Verdict {
  answer: Settled;
  before: Settled; // what a refusal brings back
  pending: boolean; // not stored yet
  next: Settled | "undo" | null; // what is to be stored after that
  previous: Previous[] | null; // what `undo` needs
  problem: string | null;
}

export interface State {
  place: Place;
  list: Findings | null;
  verdicts: Record<string, Verdict>;
  problem: string | null;
}

export const FIRST: Place = { start: 0, count: 8, kind: null, min_probability: 0 };
export const EMPTY: State = { place: FIRST, list: null, verdicts: {}, problem: null };

const DONE = { pending: false, next: null };

export function verdictOf(state: State, key: string): Verdict {
  const answer = state.list?.findings.find((finding) => finding.key === key)?.answer ?? "";
  const listed = { answer, before: answer, pending: false, next: null };
  return state.verdicts[key] ?? { ...listed, previous: null, problem: null };
}

function withVerdict(state: State, key: string, verdict: Partial<Verdict>): State {
  const changed = { ...verdictOf(state, key), ...verdict };
  return { ...state, verdicts: { ...state.verdicts, [key]: changed } };
}

/** Take over a list that has come. */
export function listed(state: State, list: Findings): State {
  const pending = Object.entries(state.verdicts).filter(([, verdict]) => verdict.pending);
  return { ...state, list, problem: null, verdicts: Object.fromEntries(pending) };
}

/** Show a verdict before it is stored; `undo` shows what there was before. */
export function settling(state: State, key: string, wanted: Settled | "undo"): State {
  const { answer, before } = verdictOf(state, key);
  const next = wanted === "undo" ? before : wanted;
  return withVerdict(state, key, { answer: next, before: answer, pending: true, problem: null });
}

/** Keep what is given while a verdict is being stored; the latest counts. */
export function postponed(state: State, key: string, next: Settled | "undo"): State {
  return withVerdict(state, key, { next });
}

/** Take over what was stored, for all findings but those that wait for their own answer. */
export function settled(state: State, key: string, now: SettledNow): State {
  let next = withVerdict(state, key, { ...DONE, previous: now.previous ?? null });
  for (const [other, answer] of Object.entries(now.answers)) {
    const known = verdictOf(next, other);
    if (!known.pending && known.answer !== answer) next = withVerdict(next, other, { answer });
  }
  return { ...next, list: next.list && { ...next.list, expected: now.expected } };
}

/** Bring back what there was before a verdict that was refused. */
export function refused(state: State, key: string, problem: string): State {
  const { before } = verdictOf(state, key);
  return withVerdict(state, key, { ...DONE, answer: before, problem });
}

/** Return the place of the page before (-1) or after (1); null if there is none. */
export function turned(place: Place, total: number, by: number): Place | null {
  const start = place.start + by * place.count;
  return start + place.count <= 0 || start >= total
    ? null
    : { ...place, start: Math.max(0, start) };
}

/** Return the number of the finding that a key goes to; null for other keys. */
export function stepped(key: string, at: number, count: number): number | null {
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: count - 1 }[key];
  return to === undefined ? null : Math.min(Math.max(to, 0), count - 1);
}
