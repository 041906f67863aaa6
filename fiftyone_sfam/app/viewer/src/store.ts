/** What one open panel shows, and how it changes: all functions are pure. */

import { FIT, type Look, type Pin } from "./geometry";
import type { HandedOver, Opened, Query, QueueAnswer, RunInfo, Spec } from "./types";

export type Queue = QueueAnswer<Int32Array>;
/** Two samples that are explained; the query is null until they are. */
type TwoSamples = { samples: readonly string[]; model: string | null; query: Query | null };

export const BEST = "best";
/** Pairs that a verdict can be given to at once, as Python bounds them. */
const MOST_CHOSEN = 1000;

/** How maps are drawn, as chosen. */
const CHOICES = {
  kind: BEST, // or the name of a kind of map
  channel: null as string | null, // number of the channel, of the kind "channel"
  signed: false,
  colors: "", // the first that fits
  opacity: 0.6,
  threshold: 0,
  smooth: true,
  mode: "overlay" as Look["mode"],
  loupe: false,
  swipe: false,
  strip: false, // whether the map is drawn on the strip too
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

/** Take over what was opened; of another run everything starts anew. */
export function opened(state: State, answer: Opened): State {
  const kept = { ...state, opened: answer, run: answer.run, message: null };
  if (state.run && state.run.uid === answer.run?.uid) return kept;
  const handed = state.handed && state.handed.uid === answer.run?.uid ? state.handed : null;
  const { in_view = false } = state.spec;
  const choices = { ...state.choices, region: null, channel: null };
  return { ...kept, ...OF_RUN, spec: { in_view }, handed, choices };
}

/** Take over a queue: the pair that is shown stays, where the queue has it. */
export function queued(before: State, queue: Queue): State {
  const state = { ...before, queue };
  const { pairs } = queue;
  const place = state.pair === null ? -1 : pairs.indexOf(state.pair);
  if (place >= 0) return { ...state, place, outside: false };
  if (state.pair !== null && state.outside) return { ...state, place: 0 };
  return { ...state, place: 0, pair: pairs[0] ?? null, outside: false, pins: [], zoom: FIT };
}

export function toPlace(state: State, place: number): State {
  const pairs = state.queue?.pairs ?? [];
  const at = Math.min(Math.max(place, 0), pairs.length - 1);
  const pair = pairs[at];
  if (pair === undefined) return state;
  return shown(state, pair, { place: at, outside: false, pins: [] });
}

/** Step over so many pairs of the queue, or return to it. */
export const toPair = (state: State, by: number) =>
  toPlace(state, state.place + (state.outside ? 0 : by));

export const toQuery = (state: State, by: number) => toPlace(state, placeOfQuery(state, by));

export const toNeighbor = (state: State, pair: number) =>
  shown(state, pair, { pins: state.pins.filter((pin) => pin.side === "query") });

/** Show a pair, which may not be in the queue. */
export function located(state: State, pair: number): State {
  const place = state.queue?.pairs.indexOf(pair) ?? -1;
  return place < 0 ? shown(state, pair, { outside: true, pins: [] }) : toPlace(state, place);
}

function shown(state: State, pair: number, change: Partial<State>): State {
  return { ...state, ...change, pair, two: null, message: null };
}

/** Return pairs of the queue that are shown soon: the next, of the next two queries, before. */
export function soon(state: State): number[] {
  const next = placeOfQuery(state, 1);
  const places = [state.place + 1, next, placeOfQuery(state, 1, next), placeOfQuery(state, -1)];
  const pairs = places.map((at) => (at === state.place ? undefined : state.queue?.pairs[at]));
  return [...new Set(pairs)].filter((pair) => pair !== undefined);
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

export function chosen(state: State, change: Partial<Choices>): State {
  const choices = { ...state.choices, ...change };
  const unit = (value: number) => Math.min(Math.max(Math.round(value * 100) / 100, 0), 1);
  const [opacity, threshold] = [unit(choices.opacity), unit(choices.threshold)];
  return { ...state, choices: { ...choices, opacity, threshold } };
}

/** Select pairs of the queue. */
export function marked(state: State, place: number, how: "one" | "toggle" | "range"): State {
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
