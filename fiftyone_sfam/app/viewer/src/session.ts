/** One open panel: its state, its questions, and what each key or click does. */

import { Client, type Params, type Problem } from "./client";
import { integers, preload } from "./drawing";
import {
  type Action,
  BEST,
  type Choices,
  reduce,
  START,
  type State,
  soon,
  type Undo,
  type Verdicts,
  verdictOf,
} from "./store";
import type {
  Channels,
  Correspondences,
  Given,
  HandedOver,
  Kind,
  LiveMaps,
  Located,
  Neighbor,
  OnePicture,
  Opened,
  Picture,
  Query,
  QueueAnswer,
  Row,
  Rows,
  Selected,
  Spec,
} from "./types";

/** The pair that is shown. */
export interface Shown {
  query: Query;
  neighbor: Neighbor;
  index: number; // of the neighbor
}

/** The map that is shown: as it was stored, or as the model computed it. */
export interface ShownMap {
  kind: Kind;
  live: LiveMaps | null;
  waiting: Kind | null; // the chosen one, while it is being computed
  problem: Problem | undefined;
}

const PATH = "path";
export const CHANNEL = "channel";
/** Pairs of an answer of `rows`. */
const PAGE = 30;
/** Pixels of a picture that is asked for where one is zoomed into, and from which scale on. */
const LARGE = 1600;
const ZOOMED = 1.5;
/** Milliseconds that a pair is shown before the model computes its best map. */
const REST = 400;

export class Session {
  state: State = START;
  private last: Shown | null = null;
  private serial = 0;
  private latest = new Map<string, number>();
  private writing: Promise<unknown> = Promise.resolve();
  private rested: number | null = null;

  constructor(readonly client = new Client()) {}

  dispatch(action: Action): void {
    const { pair } = this.state;
    this.state = reduce(this.state, action);
    const now = this.state.pair;
    if (now !== pair) {
      this.client.giveUp();
      setTimeout(() => {
        if (this.state.pair !== now) return;
        this.rested = now;
        this.client.changed();
      }, REST);
    }
    this.client.changed();
  }

  set(change: Partial<State>): void {
    this.dispatch({ type: "set", change });
  }

  choose(change: Partial<Choices>): void {
    this.dispatch({ type: "choose", change });
  }

  private say(text: string, retry = false): void {
    this.set({ message: { text, retry } });
  }

  /** Ask a question of which only the answer to the latest counts, of those of a name. */
  private async newest<T>(name: string, question: string, params: Params): Promise<T | null> {
    const mine = this.next();
    this.latest.set(name, mine);
    try {
      const answer = await this.client.ask<T>(question, params);
      return this.latest.get(name) === mine ? answer : null;
    } catch (error) {
      const { stale, message } = error as Problem;
      if (this.latest.get(name) !== mine) return null;
      if (stale) await this.reopen(message);
      else this.say(message, true);
      return null;
    }
  }

  private next(): number {
    this.serial += 1;
    return this.serial;
  }

  private of(more: Params = {}): Params {
    return { run: this.state.run?.key, uid: this.state.run?.uid, ...more };
  }

  // --- runs and queues ---------------------------------------------------------------------

  async open(run?: string): Promise<void> {
    const opened = await this.newest<Opened>("open", "open", run === undefined ? {} : { run });
    if (!opened) return;
    this.client.forget();
    this.dispatch({ type: "opened", opened });
    if (opened.run) await this.requeue();
  }

  /** Open again after the run was deleted or made anew, and say so. */
  async reopen(text: string): Promise<void> {
    await this.open(this.state.run?.key);
    this.say(text);
  }

  async requeue(): Promise<void> {
    const { run, spec, handed } = this.state;
    if (!run) return;
    this.set({ message: null });
    if (handed) {
      this.latest.delete("queue");
      const [pairs, queries] = [Int32Array.from(handed.pairs), Int32Array.from(handed.queries)];
      const note = handed.pairs.length ? null : "No pairs were handed over.";
      this.dispatch({ type: "queue", queue: { pairs, queries, reviewed: 0, note } });
      return;
    }
    const answer = await this.newest<QueueAnswer>("queue", "queue", this.of({ spec }));
    if (!answer) return;
    const [pairs, queries] = [integers(answer.pairs), integers(answer.queries)];
    this.dispatch({ type: "queue", queue: { ...answer, pairs, queries } });
  }

  async handOver(handed: HandedOver): Promise<void> {
    if (this.state.run?.uid !== handed.uid) await this.open(handed.run);
    if (this.state.run?.uid !== handed.uid)
      this.say(`The run '${handed.run}' of "${handed.title}" was deleted or made again.`);
    else {
      this.set({ handed, chosen: new Set(), outside: false, two: null });
      await this.requeue();
    }
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
    this.set({ message: null });
    this.client.forget(true);
    if (!this.state.opened) await this.open();
    else if (!this.state.queue) await this.requeue();
  }

  // --- the App -----------------------------------------------------------------------------

  /** Follow the samples that are selected in the grid, or the one that is open. */
  async follow(samples: readonly string[]): Promise<void> {
    if (samples.length === 2) return this.explain(samples, null);
    this.latest.delete("selected");
    if (this.state.two) this.set({ two: null, pins: [] });
    const [sample] = samples;
    if (samples.length !== 1 || !this.state.run) return;
    const params = this.of({ sample, shown: this.state.pair });
    const located = await this.newest<Located>("selected", "locate", params);
    if (typeof located?.pair === "number") this.dispatch({ type: "locate", pair: located.pair });
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
    const answer = await this.newest<Selected>("selected", "selected", params);
    const query = answer?.query;
    if (typeof answer?.pair === "number") this.dispatch({ type: "locate", pair: answer.pair });
    else if (query) this.set({ two: { samples, model, query }, pins: [], message: null });
  }

  async show(what: "grid" | "query" | "neighbor"): Promise<void> {
    await this.newest("show", "show", this.of({ pair: this.state.pair, what }));
  }

  async explainRetrieval(): Promise<void> {
    await this.newest("show", "explain", {});
  }

  // --- what is shown -----------------------------------------------------------------------

  private queryParams(pair: number): Params {
    const { region } = this.state.choices;
    return this.of(region === null ? { pair } : { pair, region });
  }

  private find(pair: number): Shown | null {
    const exact = this.client.read<Query>("query", this.queryParams(pair)).value;
    for (const query of exact ? [exact] : this.others()) {
      const index = query.neighbors.findIndex((one) => one.pair === pair);
      const neighbor = query.neighbors[index];
      if (neighbor) return { query, neighbor, index };
    }
    return null;
  }

  /** Answers of other pairs, which may have the pair, too; not with another receipt. */
  private others(): Query[] {
    return this.state.choices.region === null ? this.client.values<Query>("query") : [];
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
    if (shown && current) {
      this.client.want("correspondences", this.about(shown.neighbor.pair));
      if (choices.kind === CHANNEL && !two) this.client.want("channels", this.of({ pair }));
      this.wantMap(shown);
    }
    if (two || pair === null || !run) return;
    for (const one of shown && current ? [shown.query, shown.neighbor] : [])
      if (this.isZoomed(one.picture)) this.client.want("picture", this.pictureParams(one.item));
    if (!current) this.client.want("query", this.queryParams(pair));
    const near = shown?.query.neighbors.slice(Math.max(shown.index - 2, 0), shown.index + 3);
    preload(near?.map(({ picture }) => picture.url) ?? []);
    for (const next of soon(this.state)) {
      const there = this.find(next);
      if (there) preload([there.query.picture.url, there.neighbor.picture.url]);
      else this.client.want("query", this.queryParams(next), false);
    }
    const next = queue?.pairs[place + 1];
    if (current && next !== undefined && !outside)
      this.client.want("correspondences", this.of({ pair: next }), false);
  }

  /** What a question is about: a pair of the run, or the two selected samples. */
  private about(pair: number, more: Params = {}): Params {
    const { two, run } = this.state;
    if (!two) return this.of({ pair, ...more });
    const model = two.model && { model: two.model };
    return { ...(run && this.of()), samples: two.samples, ...model, ...more };
  }

  private liveParams(kind: string, pair: number): Params {
    const channel = kind === CHANNEL ? { channel: this.channel(pair) } : {};
    if (this.state.two) return this.about(pair, { kind, ...channel });
    return this.of({ pairs: [pair], kind, ...channel });
  }

  private wantMap({ query, neighbor }: Shown): void {
    const { kind } = this.state.choices;
    const chosen = this.chosen(query);
    if (!chosen?.live || (kind === BEST && this.rested !== this.state.pair)) return;
    if (kind === CHANNEL && this.channel(neighbor.pair) === null) return;
    this.client.want("live", this.liveParams(chosen.name, neighbor.pair), kind !== BEST);
  }

  /** The kind of map that is chosen; of the best, the path of several scales. */
  private chosen(query: Query): Kind | undefined {
    const wanted = this.state.choices.kind === BEST ? PATH : this.state.choices.kind;
    return query.kinds.find((one) => one.name === wanted);
  }

  /** Return the map that is drawn, the stored one until the chosen one has been computed. */
  map({ query, neighbor }: Shown): ShownMap | null {
    const first = query.kinds.find((one) => !one.live) ?? query.kinds[0];
    const kind = this.chosen(query) ?? first;
    if (!kind || !first) return null;
    const params = this.liveParams(kind.name, neighbor.pair);
    const { value, problem } = kind.live ? this.client.read<LiveMaps>("live", params) : {};
    const there = value !== undefined || !kind.live;
    const waiting = there || problem ? null : kind;
    return { kind: there ? kind : first, live: value ?? null, waiting, problem };
  }

  /** Largest value of a kind of map over the shown neighbors of a query. */
  limit(shown: Shown, map: ShownMap, signed: boolean): number {
    const pairs = map.live ? shown.query.neighbors.map((one) => one.pair) : [];
    // Of neighbors whose maps have been computed before, so that one range serves all.
    const limits = pairs.map((pair) => {
      const params = this.liveParams(map.kind.name, pair);
      return this.client.read<LiveMaps>("live", params).value?.limit;
    });
    if (!map.live) limits.push(shown.query.limits[map.kind.name]);
    const values = limits.map((one) => (signed ? one?.signed : one?.positive) ?? 0);
    return Math.max(0, ...values);
  }

  points(pair: number): { points: Correspondences | undefined; problem: Problem | undefined } {
    const entry = this.client.read<Correspondences>("correspondences", this.about(pair));
    return { points: entry.value, problem: entry.problem };
  }

  private pictureParams(item: number): Params {
    return this.of({ item, size: LARGE });
  }

  /** Return the larger picture of an item where one is zoomed into, once it is there. */
  picture(picture: Picture, item: number): Picture {
    if (this.state.two || !this.isZoomed(picture)) return picture;
    const larger = this.client.read<OnePicture>("picture", this.pictureParams(item)).value;
    return larger?.picture.url ? larger.picture : picture;
  }

  private isZoomed({ width, height, full }: Picture): boolean {
    return this.state.zoom.scale > ZOOMED && Math.max(...full) > Math.max(width, height);
  }

  channels(pair: number): Channels | undefined {
    return this.client.read<Channels>("channels", this.of({ pair })).value;
  }

  /** The chosen channel, or the most important one of the pair. */
  private channel(pair: number): number | null {
    return this.state.choices.channel ?? this.channels(pair)?.channels[0]?.channel ?? null;
  }

  /** Return the row of a place of the queue, once its page is there. */
  row(place: number): Row | undefined {
    const page = this.client.read<Rows>("rows", this.of({ pairs: this.page(place) })).value;
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

  /** Return the verdict that is shown of a pair. */
  verdict(pair: number): string | null {
    const rows = this.client.values<Rows>("rows").flatMap((answer) => answer.rows);
    const known = this.find(pair)?.neighbor ?? rows.find((row) => row.pair === pair);
    return verdictOf(this.state, pair, known?.verdict ?? null);
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
    const id = this.next();
    const before: Verdicts = new Map(pairs.map((one) => [one, this.verdict(one)]));
    const verdicts: Verdicts = new Map(pairs.map((one) => [one, verdict]));
    this.dispatch({ type: "give", id, verdicts, undone: false });
    const params = this.of({ pairs, verdict });
    if (advance && !chosen.size) this.dispatch({ type: "step", by: 1 });
    await this.write("verdict", params, id, before, null);
  }

  async undo(): Promise<void> {
    await this.writing; // what is not confirmed cannot be taken back
    const last = this.state.undo[this.state.undo.length - 1];
    if (!last) return;
    const id = this.next();
    this.dispatch({ type: "give", id, verdicts: last.before, undone: true });
    const [only] = last.before.keys();
    if (last.before.size === 1 && only !== undefined && only !== this.state.pair)
      this.dispatch({ type: "locate", pair: only });
    await this.write("undo", this.of({ entries: last.previous }), id, null, last);
  }

  /** Send a verdict or an undo after those before it; roll it back where it is refused. */
  private async write(
    question: "verdict" | "undo",
    params: Params,
    id: number,
    before: Verdicts | null,
    undo: Undo | null,
  ): Promise<void> {
    const asked = this.writing.then(() => this.client.ask<Given>(question, params, 2));
    this.writing = asked.then(
      (answer) => {
        if (this.state.run?.uid === params.uid)
          this.dispatch({ type: "given", id, answer, before });
      },
      ({ message, stale }: Problem) => {
        const text = `The verdict was not ${undo ? "taken back" : "saved"}: ${message}`;
        if (stale) void this.reopen(text);
        else this.dispatch({ type: "refused", id, text, undo });
      },
    );
    await this.writing;
  }

  // --- other commands ----------------------------------------------------------------------

  /** Turn to the next neighbor of the query, or the previous one. */
  turn(by: number): void {
    const { shown, current } = this.shown();
    const next = current && shown?.query.neighbors[shown.index + by];
    if (next && next.pair >= 0) this.dispatch({ type: "neighbor", pair: next.pair });
  }

  /** Show the next map of those that the query has; each differs from the one before. */
  nextMap(): void {
    const names = (this.shown().shown?.query.kinds ?? []).map((kind) => kind.name);
    const order = [BEST, ...names.slice(1), ...names.slice(0, 1)];
    this.choose({
      kind: order[(order.indexOf(this.state.choices.kind) + 1) % order.length] ?? BEST,
    });
  }

  /** Close what is open, else drop the selection, else the pins. */
  close(): void {
    if (this.state.help) this.set({ help: false });
    else if (this.state.chosen.size) this.set({ chosen: new Set() });
    else this.set({ pins: [] });
  }
}
