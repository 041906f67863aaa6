/** Asks Python, keeps answers for a while, and asks again where a server did not answer. */

import type { Answer } from "./types";

export interface Reply {
  result?: unknown;
  error?: unknown;
  errorMessage?: unknown;
}
export type Send = (params: Record<string, unknown>, done: (reply: Reply) => void) => void;
type Params = Record<string, unknown>;

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

export type Entry<T> =
  | { state: "waiting" }
  | { state: "there"; value: T }
  | { state: "failed"; problem: Problem };

/** How many answers of a question are kept. */
const KEPT: Record<string, number> = { query: 40, correspondences: 8, rows: 40, live: 80 };
const KEPT_OTHERS = 12;
/** Milliseconds before each new try. */
const PAUSES = [500, 1000, 2000, 4000, 8000];
/** Questions in the background at a time; browsers open few connections to a server. */
const BACKGROUND = 2;
const LOST = "The server of FiftyOne does not answer.";

interface Task {
  urgent: boolean;
  start: () => void;
}

const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));

export class Client {
  send: Send = () => undefined;
  version = 0;
  private entries = new Map<string, Entry<unknown>>();
  private tasks = new Map<string, Task>();
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

  /** Ask once more for each answer; reject with a Problem. `tries`: whether it may be repeated. */
  async ask<T>(question: string, params: Params, tries = PAUSES.length): Promise<T> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.once<T>(question, params);
      } catch (error) {
        const problem = error as Problem;
        const pause = PAUSES[attempt];
        if (!problem.lost || attempt >= tries || pause === undefined) throw problem;
        await this.pause(pause);
      }
    }
  }

  private once<T>(question: string, params: Params): Promise<T> {
    return new Promise((resolve, reject) => {
      this.send({ ...params, question }, (reply) => {
        const answer = reply.result as Answer<T> | null | undefined;
        if (typeof reply.error === "string") {
          const text = typeof reply.errorMessage === "string" ? reply.errorMessage : reply.error;
          reject(new Problem(`The server failed: ${text.split("\n")[0]}`));
        } else if (reply.error || !answer) reject(new Problem(LOST, false, true));
        else if (answer.problem !== undefined) reject(new Problem(answer.problem, answer.stale));
        else resolve(answer as T);
      });
    });
  }

  /** Return what is known of an answer, which `want` asks for. */
  read<T>(question: string, params: Params): Entry<T> | undefined {
    return this.entries.get(keyOf(question, params)) as Entry<T> | undefined;
  }

  /** Return the value of an answer that has come. */
  value<T>(question: string, params: Params): T | null {
    const entry = this.read<T>(question, params);
    return entry?.state === "there" ? entry.value : null;
  }

  /** Return all kept answers of a question. */
  values<T>(question: string): T[] {
    const found: T[] = [];
    for (const [key, entry] of this.entries)
      if (key.startsWith(`${question} `) && entry.state === "there") found.push(entry.value as T);
    return found;
  }

  /** Ask for an answer unless it is there or on its way; what is urgent goes first. */
  want(question: string, params: Params, urgent = true): void {
    const key = keyOf(question, params);
    const known = this.entries.get(key);
    if (known) {
      this.entries.delete(key); // and set again: the last used is kept longest
      this.entries.set(key, known);
      const task = this.tasks.get(key);
      if (task && urgent) this.start(key, true);
      return;
    }
    this.entries.set(key, { state: "waiting" });
    const start = () => {
      this.ask<unknown>(question, params)
        .then(
          (value): Entry<unknown> => ({ state: "there", value }),
          (problem: Problem): Entry<unknown> => ({ state: "failed", problem }),
        )
        .then((entry) => {
          if (!task.urgent) this.background -= 1;
          // What was forgotten meanwhile is not brought back.
          if (this.entries.has(key)) this.entries.set(key, entry);
          this.bound(question);
          this.next();
          this.changed();
        });
    };
    const task: Task = { urgent, start };
    this.tasks.set(key, task);
    if (urgent) this.start(key, true);
    else this.next();
  }

  private start(key: string, urgent: boolean): void {
    const task = this.tasks.get(key);
    if (!task) return;
    this.tasks.delete(key);
    task.urgent = urgent;
    if (!urgent) this.background += 1;
    task.start();
  }

  private next(): void {
    for (const key of [...this.tasks.keys()]) {
      if (this.background >= BACKGROUND) return;
      this.start(key, false);
    }
  }

  /** Drop the questions in the background that nobody waits for any more. */
  dropWaiting(): void {
    for (const key of this.tasks.keys()) this.entries.delete(key);
    this.tasks.clear();
  }

  /** Forget answers of a question (all without one), or only those that failed. */
  forget(question?: string, failedOnly = false): void {
    for (const [key, entry] of this.entries) {
      const asked = question === undefined || key.startsWith(`${question} `);
      if (asked && (!failedOnly || entry.state === "failed")) {
        this.entries.delete(key);
        this.tasks.delete(key);
      }
    }
    this.changed();
  }

  private bound(question: string): void {
    const keys = [...this.entries].filter(
      ([key, entry]) => key.startsWith(`${question} `) && entry.state !== "waiting",
    );
    const spare = keys.length - (KEPT[question] ?? KEPT_OTHERS);
    for (const [key] of keys.slice(0, Math.max(spare, 0))) this.entries.delete(key);
  }
}

function keyOf(question: string, params: Params): string {
  return `${question} ${JSON.stringify(params)}`;
}
