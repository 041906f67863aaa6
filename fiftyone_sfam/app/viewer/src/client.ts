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
/** Questions in the background at a time; browsers open few connections to a server. */
const BACKGROUND = 2;

const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));
const keyOf = (question: string, params: Params) => `${question} ${JSON.stringify(params)}`;

export class Client {
  send: Send = () => undefined;
  version = 0;
  private entries = new Map<string, Entry<unknown>>();
  private waiting = new Map<string, (urgent: boolean) => void>();
  private background = 0;
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
    if (!known) this.waiting.set(key, (now) => void this.fill(question, params, key, now));
    if (urgent) this.start(key, true);
    else this.startNext();
  }

  private start(key: string, urgent: boolean): void {
    const task = this.waiting.get(key);
    this.waiting.delete(key);
    task?.(urgent);
  }

  private startNext(): void {
    for (const key of [...this.waiting.keys()])
      if (this.background < BACKGROUND) this.start(key, false);
  }

  private async fill(question: string, params: Params, key: string, urgent: boolean) {
    if (!urgent) this.background += 1;
    const entry = await this.ask<unknown>(question, params).then(
      (value): Entry<unknown> => ({ value }),
      (problem: Problem): Entry<unknown> => ({ problem }),
    );
    if (!urgent) this.background -= 1;
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
