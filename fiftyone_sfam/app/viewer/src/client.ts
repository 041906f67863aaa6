/** Asks Python, keeps answers for a while, and asks again where a server did not answer. */

import type { Answer } from "./types";

export interface Reply {
  result?: unknown;
  error?: unknown;
  errorMessage?: unknown;
}
export type Params = Record<string, unknown>;
export type Send = (params: Params, done: (reply: Reply) => void) => void;

/** Why there is no answer. `stale`: the run is gone; `lost`: nothing came back. */
export class Problem extends Error {
  constructor(
    text: string,
    readonly stale = false,
    readonly lost = false,
  ) {
    super(text);
  }
}

/** An answer that is kept; neither a value nor a problem: it is on its way. */
export interface Entry<T> {
  value?: T;
  problem?: Problem;
}

/** How many answers of a question are kept. */
const KEPT: Record<string, number> = { query: 40, correspondences: 8, rows: 40, live: 80 };
const KEPT_OTHERS = 12;
/** Milliseconds before each new try. */
const PAUSES = [500, 1000, 2000, 4000, 8000];
/** Questions at a time, of all and in the background: browsers open few connections. */
const URGENT = 4;
const BACKGROUND = 2;

const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));
const keyOf = (question: string, params: Params) => `${question} ${JSON.stringify(params)}`;

export class Client {
  send: Send = () => undefined;
  version = 0;
  private entries = new Map<string, Entry<unknown>>();
  private waiting = new Map<string, { urgent: boolean; start: () => void }>();
  private running = 0;
  private listeners = new Set<() => void>();

  constructor(private pause: (ms: number) => Promise<void> = sleep) {}

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  changed(): void {
    this.version += 1;
    for (const listener of [...this.listeners]) listener();
  }

  /** Ask, again and again where nothing comes back; reject with a Problem. */
  async ask<T>(question: string, params: Params, tries = PAUSES.length): Promise<T> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.once<T>(question, params);
      } catch (error) {
        const pause = PAUSES[attempt];
        if (!(error as Problem).lost || attempt >= tries || pause === undefined) throw error;
        await this.pause(pause);
      }
    }
  }

  private once<T>(question: string, params: Params): Promise<T> {
    return new Promise((resolve, reject) => {
      this.send({ ...params, question }, (reply) => {
        const answer = reply.result as Answer<T> | null | undefined;
        if (typeof reply.error === "string") {
          const [text] = String(reply.errorMessage || reply.error).split("\n");
          reject(new Problem(`The server failed: ${text}`));
        } else if (reply.error || !answer)
          reject(new Problem("The server of FiftyOne does not answer.", false, true));
        else if (answer.problem !== undefined) reject(new Problem(answer.problem, answer.stale));
        else resolve(answer as T);
      });
    });
  }

  /** Return what is known of an answer, which `want` asks for. */
  read<T>(question: string, params: Params): Entry<T> {
    return (this.entries.get(keyOf(question, params)) ?? {}) as Entry<T>;
  }

  /** Return all answers of a question that are kept. */
  values<T>(question: string): T[] {
    const known = [...this.entries].filter(([key]) => key.startsWith(`${question} `));
    return known.flatMap(([, { value }]) => (value === undefined ? [] : [value as T]));
  }

  /** Ask for an answer unless it is there or on its way; what is urgent does not wait. */
  want(question: string, params: Params, urgent = true): void {
    const key = keyOf(question, params);
    const known = this.entries.get(key);
    this.entries.delete(key); // and set again: what was used last is kept longest
    this.entries.set(key, known ?? {});
    const task = this.waiting.get(key);
    const start = () => void this.fill(question, params, key);
    if (!known || task) this.waiting.set(key, { urgent: urgent || !!task?.urgent, start });
    this.startNext();
  }

  /** Give up what was wanted for a pair that is not shown any more, and has not begun. */
  giveUp(): void {
    for (const key of [...this.waiting.keys()].filter((one) => !one.startsWith("rows "))) {
      this.waiting.delete(key);
      this.entries.delete(key);
    }
  }

  /** Start what is urgent, the newest first, then the rest. */
  private startNext(): void {
    const tasks = [...this.waiting];
    const urgent = tasks.filter(([, task]) => task.urgent).reverse();
    for (const [key, task] of [...urgent, ...tasks.filter(([, one]) => !one.urgent)])
      if (this.running < (task.urgent ? URGENT : BACKGROUND)) {
        this.waiting.delete(key);
        this.running += 1;
        task.start();
      }
  }

  private async fill(question: string, params: Params, key: string) {
    const entry = await this.ask<unknown>(question, params).then(
      (value): Entry<unknown> => ({ value }),
      (problem: Problem): Entry<unknown> => ({ problem }),
    );
    this.running -= 1;
    // What was forgotten meanwhile is not brought back.
    if (this.entries.has(key)) this.entries.set(key, entry);
    const known = [...this.entries].filter(([name]) => name.startsWith(`${question} `));
    const done = known.filter(([, one]) => one.value !== undefined || one.problem);
    const spare = Math.max(done.length - (KEPT[question] ?? KEPT_OTHERS), 0);
    for (const [oldest] of done.slice(0, spare)) this.entries.delete(oldest);
    this.startNext();
    this.changed();
  }

  /** Forget all answers, or only those that failed. */
  forget(failedOnly = false): void {
    for (const [key, entry] of this.entries)
      if (!failedOnly || entry.problem) {
        this.entries.delete(key);
        this.waiting.delete(key);
      }
    this.changed();
  }
}
