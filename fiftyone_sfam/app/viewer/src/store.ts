/** What one open panel shows, and how it changes: `reduce` is pure. */

import { FIT, type Look, type Pin } from "./drawing";
import type { Given, HandedOver, Opened, Previous, Query, RunInfo, Spec } from "./types";

export type Verdicts = ReadonlyMap<number, string | null>;
export interface Queue {
  pairs: Int32Array;
  queries: Int32Array;
  reviewed: number;
  note: string | null;
}
/** A confirmed verdict that can be taken back, and what was shown before it. */
export interface Undo {
  previous: Previous[];
  before: Verdicts;
}
export interface TwoSamples {
  samples: readonly string[];
  model: string | null;
  query: Query | null; // not there yet
}

export const BEST = "best";
/** Pairs that a verdict can be given to at once, as Python bounds them. */
const MOST_CHOSEN = 1000;
const MOST_UNDO = 100;

/** How maps are drawn, as chosen. */
const CHOICES = {
  kind: BEST, // or the name of a kind of map
  channel: null as number | null, // of the kind "channel"
  signed: false,
  colors: "", // the first that fits
  opacity: 0.6,
  threshold: 0,
  smooth: true,
  mode: "overlay" as Look["mode"],
  loupe: false,
  swipe: false,
  region: null as string | null, // field that divides the similarity
};
export type Choices = typeof CHOICES;

/** What is about one run, and forgotten with it. */
const OF_RUN = {
  spec: {} as Partial<Spec>,
  queue: null as Queue | null,
  place: 0, // in the queue
  pair: null as number | null,
  outside: false, // what is shown was not reached through the queue
  two: null as TwoSamples | null,
  zoom: FIT,
  pins: [] as Pin[],
  chosen: new Set() as ReadonlySet<number>, // pairs of the queue
  anchor: 0, // where a range of chosen pairs starts
  given: new Map() as Verdicts, // since the panel was opened
  pending: [] as { id: number; verdicts: Verdicts }[], // not confirmed by the server yet
  undo: [] as Undo[],
};

export const START = {
  ...OF_RUN,
  opened: null as Opened | null,
  run: null as RunInfo | null,
  handed: null as HandedOver | null,
  choices: CHOICES,
  filters: false, // whether the panes are open
  help: false,
  advance: true, // whether a verdict turns to the next pair
  message: null as { text: string; retry: boolean } | null,
};
export type State = typeof START;

export type Action =
  | { type: "set"; change: Partial<State> }
  | { type: "choose"; change: Partial<Choices> }
  | { type: "opened"; opened: Opened }
  | { type: "queue"; queue: Queue }
  | { type: "place"; place: number }
  | { type: "step" | "stepQuery"; by: number }
  | { type: "neighbor" | "locate"; pair: number }
  | { type: "mark"; place: number; how: "one" | "toggle" | "range" }
  | { type: "give"; id: number; verdicts: Verdicts; undone: boolean }
  | { type: "given"; id: number; answer: Given; before: Verdicts | null }
  | { type: "refused"; id: number; text: string; undo: Undo | null };

export function reduce(state: State, action: Action): State {
  switch (action.type) {
    case "set":
      return { ...state, ...action.change };
    case "choose":
      return { ...state, choices: bounded({ ...state.choices, ...action.change }) };
    case "opened":
      return opened(state, action.opened);
    case "queue":
      return queued({ ...state, queue: action.queue }, action.queue);
    case "place":
      return toPlace(state, action.place);
    case "step":
      return toPlace(state, state.place + (state.outside ? 0 : action.by));
    case "stepQuery":
      return toPlace(state, placeOfQuery(state, action.by));
    case "neighbor":
      return shown(state, action.pair, { pins: state.pins.filter((pin) => pin.side === "query") });
    case "locate": {
      const place = state.queue?.pairs.indexOf(action.pair) ?? -1;
      if (place >= 0) return toPlace(state, place);
      return shown(state, action.pair, { outside: true, pins: [] });
    }
    case "mark":
      return marked(state, action.place, action.how);
    case "give": {
      const pending = [...state.pending, { id: action.id, verdicts: action.verdicts }];
      const undo = action.undone ? state.undo.slice(0, -1) : state.undo;
      return { ...state, pending, undo, message: null };
    }
    case "given": {
      const now = action.answer.verdicts.map(({ pair, verdict }) => [pair, verdict] as const);
      const given = new Map([...state.given, ...now]);
      const { before } = action;
      const more = before ? [{ previous: action.answer.previous, before }] : [];
      const undo = [...state.undo, ...more].slice(-MOST_UNDO);
      return { ...state, given, pending: without(state, action.id), undo };
    }
    case "refused": {
      const undo = action.undo ? [...state.undo, action.undo] : state.undo;
      const message = { text: action.text, retry: false };
      return { ...state, pending: without(state, action.id), undo, message };
    }
  }
}

/** Return the verdict that is shown of a pair: pending, given, or as Python stored it. */
export function verdictOf(state: State, pair: number, stored: string | null): string | null {
  const all = [state.given, ...state.pending.map((pending) => pending.verdicts)];
  const verdict = all.reverse().find((verdicts) => verdicts.has(pair));
  return verdict ? (verdict.get(pair) ?? null) : stored;
}

/** Return pairs of the queue that are shown soon: the next, of the next two queries, before. */
export function soon(state: State): number[] {
  const next = placeOfQuery(state, 1);
  const places = [state.place + 1, next, placeOfQuery(state, 1, next), placeOfQuery(state, -1)];
  const pairs = places.map((at) => (at === state.place ? undefined : state.queue?.pairs[at]));
  return [...new Set(pairs)].filter((pair) => pair !== undefined);
}

function without(state: State, id: number): State["pending"] {
  return state.pending.filter((pending) => pending.id !== id);
}

function opened(state: State, answer: Opened): State {
  const kept = { ...state, opened: answer, run: answer.run, message: null };
  if (state.run && state.run.uid === answer.run?.uid) return kept;
  const handed = state.handed && state.handed.uid === answer.run?.uid ? state.handed : null;
  const { in_view = false } = state.spec;
  const choices = { ...state.choices, region: null, channel: null };
  return { ...kept, ...OF_RUN, spec: { in_view }, handed, choices };
}

function queued(state: State, { pairs }: Queue): State {
  const place = state.pair === null ? -1 : pairs.indexOf(state.pair);
  if (place >= 0) return { ...state, place, outside: false };
  if (state.pair !== null && state.outside) return { ...state, place: 0 };
  return { ...state, place: 0, pair: pairs[0] ?? null, outside: false, pins: [], zoom: FIT };
}

function toPlace(state: State, place: number): State {
  const pairs = state.queue?.pairs ?? [];
  const at = Math.min(Math.max(place, 0), pairs.length - 1);
  const pair = pairs[at];
  if (pair === undefined) return state;
  return shown(state, pair, { place: at, outside: false, pins: [] });
}

function shown(state: State, pair: number, change: Partial<State>): State {
  return { ...state, ...change, pair, two: null, message: null };
}

/** Return the first place of the next query of the queue, or of the previous one. */
function placeOfQuery(state: State, by: number, from = state.place): number {
  const queries = state.queue?.queries ?? [];
  let at = from;
  while (at >= 0 && at < queries.length && queries[at] === queries[from]) at += by;
  if (at < 0 || at >= queries.length) return from;
  while (by < 0 && at > 0 && queries[at - 1] === queries[at]) at -= 1;
  return at;
}

function bounded(choices: Choices): Choices {
  const unit = (value: number) => Math.min(Math.max(Math.round(value * 100) / 100, 0), 1);
  return { ...choices, opacity: unit(choices.opacity), threshold: unit(choices.threshold) };
}

function marked(state: State, place: number, how: "one" | "toggle" | "range"): State {
  const pairs = state.queue?.pairs ?? new Int32Array();
  const pair = pairs[place];
  if (pair === undefined) return state;
  if (how === "one") return { ...toPlace(state, place), chosen: new Set(), anchor: place };
  const anchor = how === "toggle" ? place : state.anchor;
  const range = pairs.subarray(Math.min(anchor, place), Math.max(anchor, place) + 1);
  const chosen = new Set([...state.chosen, ...range].slice(0, MOST_CHOSEN + 1));
  if (how === "toggle" && state.chosen.has(pair)) chosen.delete(pair);
  if (chosen.size <= MOST_CHOSEN) return { ...state, chosen, anchor };
  const text = `At most ${MOST_CHOSEN} pairs can be selected; the first ${MOST_CHOSEN} are.`;
  const message = { text, retry: false };
  return { ...state, chosen: new Set([...chosen].slice(0, MOST_CHOSEN)), anchor, message };
}
