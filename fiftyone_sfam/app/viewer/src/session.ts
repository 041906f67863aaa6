/** One open panel: its state, its questions, and what each key or click does. */

import { Client, type Params, Problem } from "./client";
import { integers } from "./decode";
import { Optimistic } from "./optimistic";
import { preload } from "./pictures";
import * as store from "./store";
import { BEST, type Choices, type State } from "./store";
import type { Answers, HandedOver, Kind, Neighbor, Picture, Query, Row, Spec } from "./types";

/** The pair that is shown; `index` is that of the neighbor. */
export type Shown = { query: Query; neighbor: Neighbor; index: number };

/** The map that is shown: as it was stored, or as the model computed it. */
export type ShownMap = ReturnType<Session["map"]>;

/** Kinds of map along a path, which a run may have stored of some pairs only. */
const FINE = ["scales", "path"];
export const CHANNEL = "channel";
/** Pairs of an answer of `rows`. */
const PAGE = 30;
/** Pixels of a picture that is asked for where one is zoomed into, and from which scale on. */
const LARGE = 1600;
const ZOOMED = 1.5;
/** Milliseconds that a pair is shown before what is asked for that only a closer look needs. */
const REST = 150;

/** The maps that a run has stored of a pair, by kind. */
const mapsOf = (one: Neighbor) => ({ ...one.query_side?.maps, ...one.neighbor_side?.maps });

export class Session {
  state: State = store.START;
  verdicts = this.noVerdicts();
  private last: Shown | null = null;
  private rested: number | null = null;
  private resting: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly client = new Client()) {}

  become(state: State): void {
    const isOther = state.pair !== this.state.pair;
    this.state = state;
    if (isOther) {
      this.client.giveUp();
      this.resting = void clearTimeout(this.resting);
    }
    this.client.changed();
  }

  set(change: Partial<State>): void {
    this.become({ ...this.state, ...change });
  }

  choose(change: Partial<Choices>): void {
    this.become(store.chosen(this.state, change));
  }

  /** Say why something failed; open again where the run was deleted or made anew. */
  private async failed(error: unknown, what = "", retry = false): Promise<null> {
    const { stale, message } = error as Problem;
    if (stale) await this.open(this.state.run?.key);
    this.set({ message: { text: what + message, retry: retry && !stale } });
    return null;
  }

  /** Ask a question of which only the latest of a name counts. */
  private newest<Q extends keyof Answers>(name: string, question: Q, params: Params) {
    const asked = this.client.newest(name, question, params);
    return asked.catch((error) => this.failed(error, "", true));
  }

  private of(more: Params = {}): Params {
    return { run: this.state.run?.key, uid: this.state.run?.uid, ...more };
  }

  // --- runs and queues ---------------------------------------------------------------------

  async open(run?: string): Promise<void> {
    const opened = await this.newest("open", "open", run === undefined ? {} : { run });
    if (!opened) return;
    this.client.forget();
    if (opened.run?.uid !== this.state.run?.uid) this.verdicts = this.noVerdicts();
    this.become(store.opened(this.state, opened));
    if (opened.run) await this.requeue();
  }

  async requeue(): Promise<void> {
    const { run, spec, handed } = this.state;
    if (!run) return;
    this.set({ message: null });
    if (handed) {
      this.client.drop("queue");
      const [pairs, queries] = [Int32Array.from(handed.pairs), Int32Array.from(handed.queries)];
      const note = handed.pairs.length ? null : "No pairs were handed over.";
      this.become(store.queued(this.state, { pairs, queries, reviewed: 0, note }));
      return;
    }
    const answer = await this.newest("queue", "queue", this.of({ spec }));
    if (!answer) return;
    const [pairs, queries] = [integers(answer.pairs), integers(answer.queries)];
    this.become(store.queued(this.state, { ...answer, pairs, queries }));
  }

  async handOver(handed: HandedOver): Promise<void> {
    if (this.state.run?.uid !== handed.uid) await this.open(handed.run);
    if (this.state.run?.uid === handed.uid) {
      this.set({ handed, chosen: new Set(), outside: false, two: null });
      return this.requeue();
    }
    const gone = `The run '${handed.run}' of "${handed.title}" was deleted or made again.`;
    await this.failed(new Problem(gone));
  }

  async leaveHanded(): Promise<void> {
    this.set({ handed: null, chosen: new Set() });
    await this.requeue();
  }

  /** Change conditions of the queue, or leave all open but order and view. */
  async filter(change: Partial<Spec> | null): Promise<void> {
    const { order, in_view, ...others } = this.state.spec;
    const kept = { ...(order && { order }), ...(in_view && { in_view }) };
    this.set({ spec: { ...kept, ...(change && others), ...change }, chosen: new Set() });
    await this.requeue();
  }

  /** Repeat what failed. */
  async again(): Promise<void> {
    this.client.forget(({ problem }) => problem);
    this.set({ message: null });
    if (!this.state.opened) await this.open();
    else if (!this.state.queue) await this.requeue();
  }

  // --- the App -----------------------------------------------------------------------------

  /** Follow the samples that are selected in the grid, or the one that is open. */
  async follow(samples: readonly string[]): Promise<void> {
    if (samples.length === 2) return this.explain(samples, null);
    this.client.drop("selected");
    if (this.state.two) this.set({ two: null, pins: [] });
    const [sample] = samples;
    if (samples.length !== 1 || !this.state.run) return;
    const params = this.of({ sample, shown: this.state.pair });
    const located = await this.newest("selected", "locate", params);
    if (typeof located?.pair === "number") this.become(store.located(this.state, located.pair));
  }

  /** Show two samples: their pair of the run, or explained by a model. */
  async explain(samples: readonly string[], chosen: string | null): Promise<void> {
    const { run, two, opened } = this.state;
    const [first, ...others] = opened?.models ?? [];
    const only = first && !others.length && !run ? first.name : null;
    const model = chosen ?? two?.model ?? only;
    // Where there is no run, the model may have to be chosen first.
    if (!run || two) this.set({ two: { samples, model, query: null }, pins: [] });
    const params = { ...(run && this.of()), samples, ...(model && { model }) };
    const answer = await this.newest("selected", "selected", params);
    const query = answer?.query;
    if (typeof answer?.pair === "number") this.become(store.located(this.state, answer.pair));
    else if (query) this.set({ two: { samples, model, query }, pins: [], message: null });
  }

  /** Let Python show samples or a form in the App. */
  async tell(question: "show" | "explain", params: Params = {}): Promise<void> {
    await this.newest("tell", question, this.of({ pair: this.state.pair, ...params }));
  }

  // --- what is shown -----------------------------------------------------------------------

  private queryParams(pair: number): Params {
    const { region } = this.state.choices;
    return this.of(region === null ? { pair } : { pair, region });
  }

  private find(pair: number): Shown | null {
    const exact = this.client.read("query", this.queryParams(pair)).value;
    // Answers of other pairs may have the pair, too, but with no other receipt.
    const others = this.state.choices.region === null ? this.client.values("query") : [];
    for (const query of exact ? [exact] : others) {
      const index = query.neighbors.findIndex((one) => one.pair === pair);
      const neighbor = query.neighbors[index];
      if (neighbor) return { query, neighbor, index };
    }
    return null;
  }

  /** Return what is to be shown, or what was until it is there. */
  shown(): { shown: Shown | null; current: boolean; problem: Problem | undefined } {
    const { two, pair, run } = this.state;
    const neighbor = two?.query?.neighbors[0];
    const nothing = pair === null || !run || (two !== null && !neighbor);
    if (!neighbor && nothing) return { shown: null, current: true, problem: undefined };
    const found = two?.query && neighbor ? { query: two.query, neighbor, index: 0 } : null;
    const shown = found ?? (nothing ? null : this.find(pair));
    this.last = shown ?? this.last;
    const entry = shown || nothing ? {} : this.client.read("query", this.queryParams(pair));
    return { shown: this.last, current: shown !== null, problem: entry.problem };
  }

  /** Ask for what is shown and what will be shown soon. */
  fetch(): void {
    const { pair, two, run, choices, queue, place, outside } = this.state;
    const { shown, current } = this.shown();
    const rested = two !== null || this.rested === pair;
    const rest = () => {
      this.rested = pair;
      this.client.changed();
    };
    if (shown && current && !rested) this.resting ??= setTimeout(rest, REST);
    if (shown && current) {
      if (rested) this.client.want("correspondences", this.about(shown.neighbor.pair));
      if (choices.kind === CHANNEL && !two) this.client.want("channels", this.of({ pair }));
      this.wantMap(shown);
    }
    if (two || pair === null || !run) return;
    for (const one of shown && current ? [shown.query, shown.neighbor] : [])
      if (this.isZoomed(one.picture)) this.client.want("picture", this.pictureParams(one.item));
    if (!current) this.client.want("query", this.queryParams(pair));
    const near = shown?.query.neighbors.slice(Math.max(shown.index - 2, 0), shown.index + 3);
    preload(near?.map(({ picture }) => picture.url) ?? []);
    for (const next of store.soon(this.state)) {
      const there = this.find(next);
      if (there) preload([there.query.picture.url, there.neighbor.picture.url]);
      else this.client.want("query", this.queryParams(next), false);
    }
    const next = queue?.pairs[place + 1];
    if (current && rested && next !== undefined && !outside)
      this.client.want("correspondences", this.of({ pair: next }), false);
  }

  /** What a question is about: a pair of the run, or the two selected samples. */
  private about(pair: number): Params {
    const { two, run } = this.state;
    if (!two) return this.of({ pair });
    return { ...(run && this.of()), samples: two.samples, ...(two.model && { model: two.model }) };
  }

  private liveParams(kind: string, pair: number): Params {
    return { ...this.about(pair), kind, ...(kind === CHANNEL && { channel: this.channel(pair) }) };
  }

  /** Return the map of a kind of a pair, if it has been computed. */
  live = (kind: string, pair: number) =>
    this.client.read("live", this.liveParams(kind, pair)).value;

  private wantMap(shown: Shown): void {
    const [{ kind }, chosen] = [this.state.choices, this.chosen(shown)];
    if (!chosen?.live || chosen.name in mapsOf(shown.neighbor)) return;
    if (kind === BEST && this.rested !== this.state.pair) return;
    if (kind === CHANNEL && this.channel(shown.neighbor.pair) === null) return;
    this.client.want("live", this.liveParams(chosen.name, shown.neighbor.pair), kind !== BEST);
  }

  /** The kind of map that is chosen; of the best, one along a path, stored or computed. */
  private chosen({ query, neighbor }: Shown): Kind | undefined {
    const [{ kind }, maps] = [this.state.choices, mapsOf(neighbor)];
    const isBest = ({ name, live }: Kind) => FINE.includes(name) && (live || name in maps);
    return query.kinds.find((one) => (kind === BEST ? isBest(one) : one.name === kind));
  }

  /** Return the map that is drawn, a stored one until the chosen one has been computed; for the
   * strip, of the best available the one that all neighbors have. */
  map(shown: Shown, strip = false) {
    const [{ kinds }, maps] = [shown.query, mapsOf(shown.neighbor)];
    const ofAll = strip && this.state.choices.kind === BEST;
    const isThere = ({ name }: Kind) => name in maps && !(ofAll && FINE.includes(name));
    const first = kinds.find(isThere) ?? kinds[0];
    const kind = (ofAll ? null : this.chosen(shown)) ?? first;
    if (!kind || !first) return null;
    const params = this.liveParams(kind.name, shown.neighbor.pair);
    const { value, problem } = this.client.read("live", params);
    const there = value !== undefined || kind.name in maps;
    const waiting = there || problem || !kind.live ? null : kind; // it is being computed
    return { kind: there ? kind : first, live: value ?? null, waiting, problem };
  }

  /** Largest value of a kind of map over the shown neighbors of a query. */
  limit(shown: Shown, map: NonNullable<ShownMap>, signed: boolean): number {
    const { name } = map.kind;
    // Of neighbors whose maps have been computed before, so that one range serves all.
    const limits = map.live
      ? shown.query.neighbors.map(({ pair }) => this.live(name, pair)?.limit)
      : [shown.query.limits[name]];
    return Math.max(0, ...limits.map((one) => one?.[signed ? "signed" : "positive"] ?? 0));
  }

  points = (pair: number) => this.client.read("correspondences", this.about(pair));

  private pictureParams = (item: number) => this.of({ item, size: LARGE });

  /** Return the larger picture of an item where one is zoomed into, once it is there. */
  picture({ picture, item }: { picture: Picture; item: number }): Picture {
    if (this.state.two || !this.isZoomed(picture)) return picture;
    const larger = this.client.read("picture", this.pictureParams(item)).value;
    return larger?.picture.url ? larger.picture : picture;
  }

  private isZoomed({ width, height, full }: Picture): boolean {
    return this.state.zoom.scale > ZOOMED && Math.max(...full) > Math.max(width, height);
  }

  channels = (pair: number) => this.client.read("channels", this.of({ pair })).value;

  /** The chosen channel, or the most important one of the pair. */
  private channel(pair: number): number | null {
    const { channel } = this.state.choices;
    return channel ? Number(channel) : (this.channels(pair)?.channels[0]?.channel ?? null);
  }

  /** Return the row of a place of the queue, once its page is there. */
  row(place: number): Row | undefined {
    const page = this.client.read("rows", this.of({ pairs: this.page(place) })).value;
    return page?.rows[place % PAGE];
  }

  wantRows(first: number, last: number): void {
    for (let place = first - (first % PAGE); place <= last; place += PAGE)
      this.client.want("rows", this.of({ pairs: this.page(place) }));
  }

  private page(place: number): number[] {
    const first = place - (place % PAGE);
    return Array.from(this.state.queue?.pairs.subarray(first, first + PAGE) ?? []);
  }

  // --- verdicts ----------------------------------------------------------------------------

  private noVerdicts() {
    const rows = () => this.client.values("rows").flatMap((answer) => answer.rows);
    const listed = (pair: number) => rows().find((row) => row.pair === pair);
    const known = (pair: number) => this.find(pair)?.neighbor ?? listed(pair);
    return new Optimistic<number, string | null>(
      (pair) => known(pair)?.verdict ?? null,
      () => this.client.changed(),
    );
  }

  giveDigit(key: string): void {
    const verdict = this.state.opened?.verdicts.find((one) => one.key === key);
    if (verdict) void this.give(verdict.name);
  }

  /** Give a verdict to the selected pairs or the shown one: seen at once, sent in turn. */
  async give(verdict: string): Promise<void> {
    const { chosen, pair, two, advance } = this.state;
    const pairs = chosen.size ? [...chosen] : pair === null ? [] : [pair];
    if (!pairs.length || two) return;
    const params = this.of({ pairs, verdict });
    const given = this.verdicts.give(pairs, verdict, (request_id) =>
      this.client.ask("verdict", { ...params, request_id }, 2),
    );
    this.set({ message: null });
    if (advance && !chosen.size) this.become(store.toPair(this.state, 1));
    await given.catch((error) => this.failed(error, "The verdict was not saved: "));
  }

  async undo(): Promise<void> {
    const last = this.verdicts.undoable();
    if (!last) return;
    const params = this.of();
    const undone = this.verdicts.undo(last, (entries) =>
      this.client.ask("undo", { ...params, entries }, 2),
    );
    const [only] = last.before.keys();
    this.set({ message: null });
    if (last.before.size === 1 && only !== undefined && only !== this.state.pair)
      this.become(store.located(this.state, only));
    await undone.catch((error) => this.failed(error, "The verdict was not taken back: "));
  }

  // --- other commands ----------------------------------------------------------------------

  /** Turn to the next neighbor of the query, or the previous one. */
  turn(by: number): void {
    const { shown, current } = this.shown();
    const next = current && shown?.query.neighbors[shown.index + by];
    if (next && next.pair >= 0) this.become(store.toNeighbor(this.state, next.pair));
  }

  /** Show the next map of those that the query has; each differs from the one before. */
  nextMap(): void {
    const names = (this.shown().shown?.query.kinds ?? []).map((kind) => kind.name);
    const order = [BEST, ...names.slice(1), ...names.slice(0, 1)];
    const at = order.indexOf(this.state.choices.kind) + 1;
    this.choose({ kind: order[at % order.length] ?? BEST });
  }

  /** Close what is open, else drop the selection, else the pins. */
  close(): void {
    if (this.state.help) this.set({ help: false });
    else if (this.state.chosen.size) this.set({ chosen: new Set() });
    else this.set({ pins: [] });
  }
}
