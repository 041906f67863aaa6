/** What one open panel shows, and how it changes: `reduce` is pure. */

import { FIT, type Pin, type Zoom } from "./drawing";
import type { Given, HandedOver, Opened, Previous, Query, RunInfo, Spec } from "./types";

export interface Queue {
  pairs: Int32Array;
  queries: Int32Array;
  reviewed: number;
  note: string | null;
}

/** How maps are drawn, as chosen. */
export interface Choices {
  kind: string; // BEST, or the name of a kind of map
  channel: number | null; // of the kind "channel"
  signed: boolean;
  colors: string; // "": the first that fits
  opacity: number;
  threshold: number;
  smooth: boolean;
  mode: "overlay" | "side" | "maps";
  loupe: boolean;
  swipe: boolean;
  region: string | null; // field that divides the similarity
}

export type Verdicts = ReadonlyMap<number, string | null>;

/** A verdict or an undo that the server has not confirmed yet. */
interface Pending {
  id: number;
  verdicts: Verdicts;
}

/** A confirmed verdict that can be taken back. */
export interface Undo {
  previous: Previous[];
  before: Verdicts; // as they were shown
}

export interface TwoSamples {
  samples: string[];
  model: string | null;
  query: Query;
}

export interface Message {
  text: string;
  retry: boolean;
}

export interface State {
  opened: Opened | null;
  run: RunInfo | null;
  spec: Spec;
  handed: HandedOver | null;
  queue: Queue | null;
  place: number; // in the queue
  pair: number | null;
  outside: boolean; // what is shown was not reached through the queue
  two: TwoSamples | null;
  choices: Choices;
  zoom: Zoom;
  pins: Pin[];
  filters: boolean; // whether the panes are open
  help: boolean;
  advance: boolean; // whether a verdict turns to the next pair
  chosen: ReadonlySet<number>; // pairs of the queue
  anchor: number; // where a range of chosen pairs starts
  given: Verdicts; // since the panel was opened
  pending: Pending[];
  undo: Undo[];
  message: Message | null;
}

export const BEST = "best";
/** Pairs that a verdict can be given to at once. */
export const MOST_CHOSEN = 1000;
const MOST_UNDO = 100;

export const OPEN_SPEC: Spec = {
  outcome: null,
  ranks: "",
  min_similarity: null,
  max_similarity: null,
  query_camera: null,
  neighbor_camera: null,
  identity: null,
  suspect: null,
  reviewed: null,
  order: "",
  in_view: false,
};

export const START: State = {
  opened: null,
  run: null,
  spec: OPEN_SPEC,
  handed: null,
  queue: null,
  place: 0,
  pair: null,
  outside: false,
  two: null,
  choices: {
    kind: BEST,
    channel: null,
    signed: false,
    colors: "",
    opacity: 0.6,
    threshold: 0,
    smooth: true,
    mode: "overlay",
    loupe: false,
    swipe: false,
    region: null,
  },
  zoom: FIT,
  pins: [],
  filters: false,
  help: false,
  advance: true,
  chosen: new Set(),
  anchor: 0,
  given: new Map(),
  pending: [],
  undo: [],
  message: null,
};

export type Action =
  | { type: "opened"; opened: Opened }
  | { type: "spec"; change: Partial<Spec> }
  | { type: "hand"; handed: HandedOver | null }
  | { type: "queue"; queue: Queue }
  | { type: "place"; place: number }
  | { type: "step"; by: number }
  | { type: "stepQuery"; by: number }
  | { type: "neighbor"; pair: number }
  | { type: "locate"; pair: number }
  | { type: "two"; two: TwoSamples | null }
  | { type: "choose"; change: Partial<Choices> }
  | { type: "set"; change: Partial<Pick<State, "zoom" | "pins" | "filters" | "help" | "advance">> }
  | { type: "mark"; place: number; how: "one" | "toggle" | "range" }
  | { type: "unmark" }
  | { type: "give"; id: number; verdicts: Verdicts; undone: boolean }
  | { type: "given"; id: number; answer: Given; before: Verdicts | null }
  | { type: "refused"; id: number; text: string; undo: Undo | null }
  | { type: "message"; message: Message | null };

export function reduce(state: State, action: Action): State {
  switch (action.type) {
    case "opened":
      return opened(state, action.opened);
    case "spec": {
      const spec = { ...state.spec, ...action.change };
      return { ...state, spec, handed: null, chosen: new Set(), message: null };
    }
    case "hand":
      return { ...state, handed: action.handed, chosen: new Set(), outside: false, two: null };
    case "queue":
      return queued(state, action.queue);
    case "place":
      return toPlace(state, action.place);
    case "step":
      return toPlace(state, state.place + (state.outside ? 0 : action.by));
    case "stepQuery":
      return toPlace(state, placeOfQuery(state, action.by));
    case "neighbor":
      return shown(state, action.pair, { pins: state.pins.filter((pin) => pin.side === "query") });
    case "locate":
      return located(state, action.pair);
    case "two":
      if (action.two) return { ...state, two: action.two, pins: [], zoom: FIT, message: null };
      return { ...state, two: null, pins: [], zoom: FIT };
    case "choose":
      return { ...state, choices: bounded({ ...state.choices, ...action.change }) };
    case "set":
      return { ...state, ...action.change };
    case "mark":
      return marked(state, action.place, action.how);
    case "unmark":
      return { ...state, chosen: new Set() };
    case "give": {
      const pending = [...state.pending, { id: action.id, verdicts: action.verdicts }];
      const undo = action.undone ? state.undo.slice(0, -1) : state.undo;
      return { ...state, pending, undo, message: null };
    }
    case "given":
      return confirmed(state, action.id, action.answer, action.before);
    case "refused": {
      const pending = state.pending.filter((one) => one.id !== action.id);
      const undo = action.undo ? [...state.undo, action.undo] : state.undo;
      return { ...state, pending, undo, message: { text: action.text, retry: false } };
    }
    case "message":
      return { ...state, message: action.message };
  }
}

/** Return the verdict that is shown of a pair: pending, given, or as Python stored it. */
export function verdictOf(state: State, pair: number, stored: string | null): string | null {
  for (let at = state.pending.length - 1; at >= 0; at -= 1) {
    const pending = state.pending[at]?.verdicts;
    if (pending?.has(pair)) return pending.get(pair) ?? null;
  }
  return state.given.has(pair) ? (state.given.get(pair) ?? null) : stored;
}

/** Return the pairs of the queue whose queries are shown soon: the next two, the previous. */
export function soon(state: State): number[] {
  const { queue, place } = state;
  if (!queue) return [];
  const pairs: number[] = [];
  const next = placeOfQuery(state, 1);
  for (const at of [place + 1, next, placeOfQuery(state, 1, next), placeOfQuery(state, -1)]) {
    const pair = queue.pairs[at];
    if (pair !== undefined && at !== place && !pairs.includes(pair)) pairs.push(pair);
  }
  return pairs;
}

function opened(state: State, answer: Opened): State {
  const same = state.run !== null && state.run.uid === answer.run?.uid;
  const spec = same ? state.spec : firstSpec(answer, state.spec.in_view);
  const kept = { ...state, opened: answer, run: answer.run, spec, message: null };
  if (same) return kept;
  const { queue, place, pair, outside, two, chosen, given, pending, undo, pins, zoom } = START;
  const handed = state.handed && state.handed.uid === answer.run?.uid ? state.handed : null;
  const fields = answer.run?.fields ?? [];
  const region = fields.find((one) => one.name === state.choices.region)?.name ?? null;
  const choices = { ...state.choices, region, channel: null };
  const fresh = { queue, place, pair, outside, two, chosen, given, pending, undo, pins, zoom };
  return { ...kept, ...fresh, handed, choices };
}

function firstSpec(answer: Opened, in_view: boolean): Spec {
  const order = answer.orders[0]?.name ?? "";
  return { ...OPEN_SPEC, order, ranks: answer.ranks[0]?.name ?? "", in_view };
}

function queued(state: State, queue: Queue): State {
  const kept = { ...state, queue };
  const place = state.pair === null ? -1 : queue.pairs.indexOf(state.pair);
  if (place >= 0) return { ...kept, place, outside: false };
  if (state.pair !== null && state.outside) return { ...kept, place: 0 };
  const pair = queue.pairs[0] ?? null;
  return { ...kept, place: 0, pair, outside: false, pins: [], zoom: FIT };
}

function toPlace(state: State, place: number): State {
  const length = state.queue?.pairs.length ?? 0;
  if (!length) return state;
  const bounded = Math.min(Math.max(place, 0), length - 1);
  const pair = state.queue?.pairs[bounded] as number;
  return shown(state, pair, { place: bounded, outside: false, pins: [] });
}

function shown(state: State, pair: number, change: Partial<State>): State {
  return { ...state, ...change, pair, two: null, message: null };
}

function located(state: State, pair: number): State {
  const place = state.queue ? state.queue.pairs.indexOf(pair) : -1;
  if (place >= 0) return toPlace(state, place);
  return shown(state, pair, { outside: true, pins: [] });
}

/** Return the first place of the next query of the queue, or of the previous one. */
function placeOfQuery(state: State, by: number, from = state.place): number {
  const queries = state.queue?.queries ?? new Int32Array();
  let at = from;
  while (at >= 0 && at < queries.length && queries[at] === queries[from]) at += by;
  if (at < 0 || at >= queries.length) return from;
  while (by < 0 && at > 0 && queries[at - 1] === queries[at]) at -= 1;
  return at;
}

function bounded(choices: Choices): Choices {
  const unit = (value: number) => Math.min(Math.max(Math.round(value * 100) / 100, 0), 1);
  const { opacity, threshold } = choices;
  return { ...choices, opacity: unit(opacity), threshold: unit(threshold) };
}

function marked(state: State, place: number, how: "one" | "toggle" | "range"): State {
  const pairs = state.queue?.pairs;
  const pair = pairs?.[place];
  if (!pairs || pair === undefined) return state;
  if (how === "one") return { ...toPlace(state, place), chosen: new Set(), anchor: place };
  const chosen = new Set(state.chosen);
  if (how === "toggle") {
    if (!chosen.delete(pair)) chosen.add(pair);
  } else {
    const [from, to] = [Math.min(state.anchor, place), Math.max(state.anchor, place)];
    for (const one of pairs.subarray(from, to + 1)) chosen.add(one);
  }
  const anchor = how === "toggle" ? place : state.anchor;
  if (chosen.size <= MOST_CHOSEN) return { ...state, chosen, anchor };
  const text = `At most ${MOST_CHOSEN} pairs can be selected; the first ${MOST_CHOSEN} are.`;
  const first = new Set([...chosen].slice(0, MOST_CHOSEN));
  return { ...state, chosen: first, anchor, message: { text, retry: false } };
}

function confirmed(state: State, id: number, answer: Given, before: Verdicts | null): State {
  const given = new Map(state.given);
  for (const { pair, verdict } of answer.verdicts) given.set(pair, verdict);
  const pending = state.pending.filter((one) => one.id !== id);
  const undo = before
    ? [...state.undo, { previous: answer.previous, before }].slice(-MOST_UNDO)
    : state.undo;
  return { ...state, given, pending, undo };
}
