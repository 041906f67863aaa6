/** One open panel: its state, its questions, and what each key or click does. */

import { Client, type Problem } from "./client";
import { FIT, integers, preload } from "./drawing";
import type { Command } from "./keys";
import type { Action, State, Undo, Verdicts } from "./store";
import { BEST, OPEN_SPEC, reduce, START, soon, verdictOf } from "./store";
import type {
  Channels,
  Correspondences,
  Given,
  HandedOver,
  Kind,
  LiveMaps,
  Located,
  Neighbor,
  Opened,
  Query,
  QueueAnswer,
  Row,
  Rows,
  Selected,
} from "./types";

/** The pair that is shown, once its answer is there. */
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
  problem: Problem | null;
}

export const PATH = "path";
export const CHANNEL = "channel";
/** Pairs of an answer of `rows`. */
export const PAGE = 30;
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
    const pair = this.state.pair;
    this.state = reduce(this.state, action);
    if (this.state.pair !== pair) this.rest();
    this.client.changed();
  }

  /** Run a question of which only the latest answer counts; another one makes it void. */
  private async newest<T>(name: string, asked: Promise<T>): Promise<T | null> {
    this.serial += 1;
    const mine = this.serial;
    this.latest.set(name, mine);
    try {
      const answer = await asked;
      return this.latest.get(name) === mine ? answer : null;
    } catch (error) {
      if (this.latest.get(name) === mine) this.fail(error as Problem);
      return null;
    }
  }

  private fail(problem: Problem): void {
    if (problem.stale) void this.reopen(problem.message);
    else this.dispatch({ type: "message", message: { text: problem.message, retry: true } });
  }

  private of(more: Record<string, unknown> = {}): Record<string, unknown> {
    return { run: this.state.run?.key, uid: this.state.run?.uid, ...more };
  }

  // --- runs and queues ---------------------------------------------------------------------

  async open(run?: string): Promise<void> {
    const asked = this.client.ask<Opened>("open", run === undefined ? {} : { run });
    const opened = await this.newest("open", asked);
    if (!opened) return;
    this.client.dropWaiting();
    this.client.forget();
    this.dispatch({ type: "opened", opened });
    if (opened.run) await this.requeue();
  }

  /** Open again after the run was deleted or made anew, and say so. */
  private async reopen(text: string): Promise<void> {
    await this.open(this.state.run?.key);
    this.dispatch({ type: "message", message: { text, retry: false } });
  }

  async requeue(): Promise<void> {
    const { run, spec, handed } = this.state;
    if (!run) return;
    this.dispatch({ type: "message", message: null });
    if (handed) {
      this.latest.delete("queue");
      await this.enqueue(handed);
      return;
    }
    const asked = this.client.ask<QueueAnswer>("queue", this.of({ spec }));
    const answer = await this.newest("queue", asked);
    if (!answer) return;
    const { reviewed, note } = answer;
    const [pairs, queries] = [integers(answer.pairs), integers(answer.queries)];
    this.dispatch({ type: "queue", queue: { pairs, queries, reviewed, note } });
  }

  /** Show the pairs that were handed over. Which are of one query is learned from their rows. */
  private async enqueue(handed: HandedOver): Promise<void> {
    const pairs = Int32Array.from(handed.pairs);
    const note = pairs.length ? null : "No pairs were handed over.";
    const queries = Int32Array.from(pairs, (_, at) => -1 - at);
    this.dispatch({ type: "queue", queue: { pairs, queries, reviewed: 0, note } });
  }

  async handOver(handed: HandedOver): Promise<void> {
    if (this.state.run?.uid !== handed.uid) await this.open(handed.run);
    if (this.state.run?.uid !== handed.uid) {
      const text = `The run '${handed.run}' of "${handed.title}" was deleted or made again.`;
      this.dispatch({ type: "message", message: { text, retry: false } });
      return;
    }
    this.dispatch({ type: "hand", handed });
    await this.requeue();
  }

  async leaveHanded(): Promise<void> {
    this.dispatch({ type: "hand", handed: null });
    await this.requeue();
  }

  clearFilters(): Promise<void> {
    const { order, in_view } = this.state.spec;
    const ranks = this.state.opened?.ranks[0]?.name ?? "";
    return this.filter({ ...OPEN_SPEC, order, ranks, in_view });
  }

  async filter(change: Partial<typeof OPEN_SPEC>): Promise<void> {
    this.dispatch({ type: "spec", change });
    await this.requeue();
  }

  /** Repeat what failed. */
  async again(): Promise<void> {
    this.dispatch({ type: "message", message: null });
    this.client.forget(undefined, true);
    if (!this.state.opened) await this.open();
    else if (!this.state.queue) await this.requeue();
  }

  // --- the App -----------------------------------------------------------------------------

  /** Follow the samples that are selected in the grid, or the one that is open. */
  async follow(samples: readonly string[]): Promise<void> {
    const [one, two] = samples;
    if (samples.length === 2 && one && two) return this.explain([one, two], null);
    this.latest.delete("selected");
    if (this.state.two) this.dispatch({ type: "two", two: null });
    if (samples.length !== 1 || !this.state.run) return;
    const shown = this.state.pair;
    const asked = this.client.ask<Located>("locate", this.of({ sample: one, shown }));
    const located = await this.newest("selected", asked);
    if (located && located.pair !== null) this.dispatch({ type: "locate", pair: located.pair });
  }

  /** Show two samples: their pair of the run, or explained by a model. */
  async explain(samples: readonly string[], model: string | null): Promise<void> {
    const run = this.state.run ? this.of() : {};
    const params = { samples, ...run, ...(model === null ? {} : { model }) };
    const asked = this.client.ask<Selected>("selected", params);
    const answer = await this.newest("selected", asked);
    if (!answer) return;
    if (answer.pair !== null) this.dispatch({ type: "locate", pair: answer.pair });
    else if (answer.query) {
      const two = { samples: [...samples], model, query: answer.query };
      this.dispatch({ type: "two", two });
    }
  }

  async show(what: "grid" | "query" | "neighbor"): Promise<void> {
    await this.newest("show", this.client.ask("show", this.of({ pair: this.state.pair, what })));
  }

  async explainRetrieval(): Promise<void> {
    await this.newest("show", this.client.ask("explain", {}));
  }

  // --- what is shown -----------------------------------------------------------------------

  private queryParams(pair: number): Record<string, unknown> {
    const region = this.state.choices.region;
    return this.of(region === null ? { pair } : { pair, region });
  }

  private find(pair: number): Shown | null {
    const exact = this.client.value<Query>("query", this.queryParams(pair));
    const among = exact ? [exact] : this.client.values<Query>("query");
    for (const query of among) {
      const index = query.neighbors.findIndex((one) => one.pair === pair);
      const neighbor = query.neighbors[index];
      if (neighbor) return { query, neighbor, index };
    }
    return null;
  }

  /** Return what is to be shown, or what was until it is there; ask for what is missing. */
  shown(): { shown: Shown | null; current: boolean; problem: Problem | null } {
    const { two, pair } = this.state;
    const neighbor = two?.query.neighbors[0];
    if (two && neighbor) {
      this.last = { query: two.query, neighbor, index: 0 };
      return { shown: this.last, current: true, problem: null };
    }
    if (pair === null || !this.state.run) return { shown: null, current: true, problem: null };
    const found = this.find(pair);
    if (found) {
      this.last = found;
      return { shown: found, current: true, problem: null };
    }
    const entry = this.client.read<Query>("query", this.queryParams(pair));
    const problem = entry?.state === "failed" ? entry.problem : null;
    return { shown: this.last, current: false, problem };
  }

  /** Ask for what is shown and what will be shown soon. */
  fetch(): void {
    const { pair, two, run, choices } = this.state;
    const { shown, current } = this.shown();
    if (shown && current) {
      this.client.want("correspondences", this.about(shown.neighbor.pair));
      this.wantMap(shown);
      if (choices.kind === CHANNEL) this.client.want("channels", this.of({ pair }), false);
    }
    if (two || pair === null || !run) return;
    if (!current) this.client.want("query", this.queryParams(pair));
    for (const next of soon(this.state)) {
      const there = this.find(next);
      if (!there) this.client.want("query", this.queryParams(next), false);
      else {
        const pictures = [there.query.picture, there.neighbor.picture];
        preload(pictures.map((picture) => picture.url));
      }
    }
    const next = this.state.queue?.pairs[this.state.place + 1];
    if (current && next !== undefined && !this.state.outside)
      this.client.want("correspondences", this.of({ pair: next }), false);
  }

  /** Let the best map be computed once a pair has been shown for a moment. */
  private rest(): void {
    const pair = this.state.pair;
    setTimeout(() => {
      if (this.state.pair !== pair) return;
      this.rested = pair;
      this.client.changed();
    }, REST);
  }

  /** What a question is about: a pair of the run, or the two selected samples. */
  private about(pair: number, more: Record<string, unknown> = {}): Record<string, unknown> {
    const { two, run } = this.state;
    if (!two) return this.of({ pair, ...more });
    const model = two.model === null ? {} : { model: two.model };
    return { ...(run ? this.of() : {}), samples: two.samples, ...model, ...more };
  }

  private liveParams(kind: string, pair: number): Record<string, unknown> {
    const channel = kind === CHANNEL ? { channel: this.state.choices.channel } : {};
    if (this.state.two) return this.about(pair, { kind, ...channel });
    return this.of({ pairs: [pair], kind, ...channel });
  }

  private wantMap({ query, neighbor }: Shown): void {
    const { kind, channel } = this.state.choices;
    const chosen = this.chosen(query);
    if (!chosen?.live || (kind === BEST && this.rested !== this.state.pair)) return;
    if (kind === CHANNEL && channel === null) return;
    this.client.want("live", this.liveParams(chosen.name, neighbor.pair), kind !== BEST);
  }

  /** The kind of map that is chosen; of the best, the path of several scales. */
  private chosen(query: Query): Kind | undefined {
    const wanted = this.state.choices.kind === BEST ? PATH : this.state.choices.kind;
    return query.kinds.find((one) => one.name === wanted);
  }

  /** Return the map that is drawn, the stored one until the chosen one has been computed. */
  map(shown: Shown): ShownMap | null {
    const first = shown.query.kinds.find((one) => !one.live) ?? shown.query.kinds[0];
    const kind = this.chosen(shown.query) ?? first;
    if (!kind || !first) return null;
    if (!kind.live) return { kind, live: null, waiting: null, problem: null };
    const params = this.liveParams(kind.name, shown.neighbor.pair);
    const entry = this.client.read<LiveMaps>("live", params);
    const live = entry?.state === "there" ? entry.value : null;
    if (live) return { kind, live, waiting: null, problem: null };
    const problem = entry?.state === "failed" ? entry.problem : null;
    return { kind: first, live: null, waiting: problem ? null : kind, problem };
  }

  /** Largest value of a kind of map over the shown neighbors of a query. */
  limit(shown: Shown, map: ShownMap, signed: boolean): number {
    const stored = shown.query.limits[map.kind.name];
    const limits = map.live ? [map.live.limit] : stored ? [stored] : [];
    if (map.live)
      // Of neighbors whose maps have been computed before, so that one range serves all.
      for (const { pair } of shown.query.neighbors) {
        const other = this.client.value<LiveMaps>("live", this.liveParams(map.kind.name, pair));
        if (other) limits.push(other.limit);
      }
    return Math.max(0, ...limits.map((limit) => (signed ? limit.signed : limit.positive)));
  }

  points(pair: number): { points: Correspondences | null; problem: Problem | null } {
    const entry = this.client.read<Correspondences>("correspondences", this.about(pair));
    const problem = entry?.state === "failed" ? entry.problem : null;
    return { points: entry?.state === "there" ? entry.value : null, problem };
  }

  channels(pair: number): Channels | null {
    return this.client.value<Channels>("channels", this.of({ pair }));
  }

  /** Return the row of a place of the queue, if it is there; ask for its page with `want`. */
  row(place: number): Row | null {
    const page = this.client.value<Rows>("rows", this.of({ pairs: this.page(place) }));
    return page?.rows[place % PAGE] ?? null;
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

  private stored(pair: number): string | null {
    const place = this.state.queue?.pairs.indexOf(pair) ?? -1;
    const row = place < 0 ? null : this.row(place);
    return this.find(pair)?.neighbor.verdict ?? row?.verdict ?? null;
  }

  /** Return the verdict that is shown of a pair. */
  verdict(pair: number): string | null {
    return verdictOf(this.state, pair, this.stored(pair));
  }

  /** Give a verdict: shown at once, sent in turn, rolled back where it is refused. */
  async give(verdict: string, pairs: number[]): Promise<void> {
    if (!pairs.length || this.state.two) return;
    const id = this.nextId();
    const before: Verdicts = new Map(pairs.map((pair) => [pair, this.verdict(pair)]));
    const verdicts: Verdicts = new Map(pairs.map((pair) => [pair, verdict]));
    const turn = this.state.advance && pairs.length === 1 && pairs[0] === this.state.pair;
    const params = this.of({ pairs, verdict });
    this.dispatch({ type: "give", id, verdicts, undone: false });
    if (turn) this.dispatch({ type: "step", by: 1 });
    await this.write("verdict", params, id, before, null);
  }

  async undo(): Promise<void> {
    // What is being given has to be confirmed before it can be taken back.
    await this.writing;
    const last = this.state.undo[this.state.undo.length - 1];
    if (!last) return;
    const id = this.nextId();
    const params = this.of({ entries: last.previous });
    this.dispatch({ type: "give", id, verdicts: last.before, undone: true });
    const [only] = last.before.keys();
    if (last.before.size === 1 && only !== undefined && only !== this.state.pair)
      this.dispatch({ type: "locate", pair: only });
    await this.write("undo", params, id, null, last);
  }

  private async write(
    question: string,
    params: Record<string, unknown>,
    id: number,
    before: Verdicts | null,
    undo: Undo | null,
  ): Promise<void> {
    const uid = this.state.run?.uid;
    const asked = this.writing.then(() => this.client.ask<Given>(question, params, 2));
    this.writing = asked.then(
      (answer) => this.state.run?.uid === uid && this.given(id, answer, before),
      (problem: Problem) => {
        const what = undo ? "The verdict was not taken back" : "The verdict was not saved";
        const text = `${what}: ${problem.message}`;
        if (problem.stale) void this.reopen(text);
        else this.dispatch({ type: "refused", id, text, undo });
      },
    );
    await this.writing;
  }

  private given(id: number, answer: Given, before: Verdicts | null): void {
    this.dispatch({ type: "given", id, answer, before });
  }

  private nextId(): number {
    this.serial += 1;
    return this.serial;
  }

  // --- commands ----------------------------------------------------------------------------

  /** Turn to the next neighbor of the query, or the previous one. */
  turn(by: number): void {
    const { shown, current } = this.shown();
    const next = current ? shown?.query.neighbors[(shown?.index ?? 0) + by] : undefined;
    if (next && next.pair >= 0) this.dispatch({ type: "neighbor", pair: next.pair });
  }

  /** Show the next map of those that the query has. */
  nextMap(): void {
    const kinds = this.shown().shown?.query.kinds ?? [];
    const names = [BEST, ...kinds.map((kind) => kind.name)];
    const at = names.indexOf(this.state.choices.kind);
    const kind = names[(at + 1) % names.length] ?? BEST;
    this.dispatch({ type: "choose", change: { kind } });
  }

  run(command: Command): void {
    const { choices, filters, help, opened, pair } = this.state;
    if (command.name === "verdict") {
      const verdict = opened?.verdicts.find((one) => one.key === command.digit);
      const chosen = this.state.chosen.size ? [...this.state.chosen] : pair === null ? [] : [pair];
      if (verdict) void this.give(verdict.name, chosen);
    } else if (command.name === "undo") void this.undo();
    else if (command.name === "step") this.dispatch({ type: "step", by: command.by });
    else if (command.name === "query") this.dispatch({ type: "stepQuery", by: command.by });
    else if (command.name === "neighbor") this.turn(command.by);
    else if (command.name === "map") this.nextMap();
    else if (command.name === "opacity") {
      const opacity = choices.opacity + command.by;
      this.dispatch({ type: "choose", change: { opacity } });
    } else if (command.name === "filters")
      this.dispatch({ type: "set", change: { filters: !filters } });
    else if (command.name === "swipe")
      this.dispatch({ type: "choose", change: { swipe: !choices.swipe } });
    else if (command.name === "loupe")
      this.dispatch({ type: "choose", change: { loupe: !choices.loupe } });
    else if (command.name === "fit") this.dispatch({ type: "set", change: { zoom: FIT } });
    else if (command.name === "help") this.dispatch({ type: "set", change: { help: !help } });
    else this.close();
  }

  /** Close what is open, else drop the selection and the pins. */
  private close(): void {
    if (this.state.help) this.dispatch({ type: "set", change: { help: false } });
    else if (this.state.chosen.size) this.dispatch({ type: "unmark" });
    else this.dispatch({ type: "set", change: { pins: [] } });
  }
}
