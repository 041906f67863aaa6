/** Asks Python, keeps answers for a while, and asks again where a server did not answer. */

import type { Answers } from "./types";

export type Reply = Partial<Record<"result" | "error" | "errorMessage", unknown>>;
type Question = keyof Answers;
export type Params = Record<string, unknown>;
export type Send = (params: Params, done: (reply: Reply) => void) => void;

/** Why there is no answer. `stale`: the run is gone or another one, ask `open` again. */
export class Problem extends Error {
  stale = false;
}

/** An answer that is kept; neither a value nor a problem: it is on its way. */
export type Entry<T> = { value?: T; problem?: Problem };

/** An answer that is kept, and how it is asked for. */
interface Task extends Entry<unknown> {
  question: Question;
  params: Params;
  urgent: boolean;
  begun: boolean;
}

/** How many answers of a question are kept. */
const KEPT: Record<string, number> = { query: 40, correspondences: 8, rows: 40, live: 80 };
const KEPT_OTHERS = 12;
/** Milliseconds before each new try. */
const PAUSES = [500, 1000, 2000, 4000, 8000];
/** Questions at a time, of all and in the background: browsers open few connections, and a server
 * answers two no faster than one after the other. */
const URGENT = 4;
const BACKGROUND = 1;

const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));
const keyOf = (question: string, params: Params) => `${question} ${JSON.stringify(params)}`;

/** Return the answer of a reply, null if there is none; throw where it says why not. */
function answerOf<T>({ result, error, errorMessage }: Reply): T | null {
  if (typeof error === "string")
    throw new Problem(`The server failed: ${String(errorMessage || error).split("\n")[0]}`);
  if (error || !result) return null;
  const { problem, stale = false } = result as { problem?: string; stale?: boolean };
  if (problem !== undefined) throw Object.assign(new Problem(problem), { stale });
  return result as T;
}

export class Client {
  send: Send = () => undefined;
  version = 0;
  private tasks = new Map<string, Task>(); // what was used last comes last
  private running = 0;
  private latest = new Map<string, object>();
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
  async ask<Q extends Question>(question: Q, params: Params, tries = 5): Promise<Answers[Q]> {
    for (const pause of [0, ...PAUSES.slice(0, tries)]) {
      if (pause) await this.pause(pause);
      const asked = { ...params, question };
      const reply = await new Promise<Reply>((done) => this.send(asked, done));
      const answer = answerOf<Answers[Q]>(reply);
      if (answer) return answer;
    }
    throw new Problem("The server of FiftyOne does not answer.");
  }

  /** Ask a question of which only the latest of a name counts: null for those before it. */
  async newest<Q extends Question>(name: string, question: Q, params: Params) {
    const mine = {};
    this.latest.set(name, mine);
    const asked = this.ask(question, params);
    await asked.catch(() => undefined); // thrown below, if it is the latest still
    return this.latest.get(name) === mine ? asked : null;
  }

  /** Do without the latest of a name that is on its way. */
  drop(name: string): void {
    this.latest.delete(name);
  }

  /** Return what is known of an answer, which `want` asks for. */
  read<Q extends Question>(question: Q, params: Params): Entry<Answers[Q]> {
    return (this.tasks.get(keyOf(question, params)) ?? {}) as Entry<Answers[Q]>;
  }

  /** Return all answers of a question that are kept. */
  values<Q extends Question>(question: Q): Answers[Q][] {
    const known = [...this.tasks.values()].filter((task) => task.question === question);
    return known.flatMap(({ value }) => (value === undefined ? [] : [value as Answers[Q]]));
  }

  /** Ask for an answer unless it is there or on its way; what is urgent does not wait. */
  want(question: Question, params: Params, urgent = true): void {
    const key = keyOf(question, params);
    const task = this.tasks.get(key) ?? { question, params, urgent, begun: false };
    task.urgent ||= urgent;
    this.tasks.delete(key);
    this.tasks.set(key, task);
    this.startNext();
  }

  /** Give up what was wanted for a pair that is not shown any more, and has not begun. */
  giveUp(): void {
    this.forget(({ begun, question }) => !begun && question !== "rows");
  }

  /** Start what is urgent, the newest first, then the rest. */
  private startNext(): void {
    const tasks = [...this.tasks.values()].filter(({ begun }) => !begun);
    const urgent = tasks.filter((task) => task.urgent).reverse();
    for (const task of [...urgent, ...tasks.filter((one) => !one.urgent)])
      if (this.running < (task.urgent ? URGENT : BACKGROUND)) void this.start(task);
  }

  private async start(task: Task): Promise<void> {
    const { question, params } = task;
    this.running += 1;
    task.begun = true;
    await this.ask(question, params).then(
      (value) => Object.assign(task, { value }),
      (problem: Problem) => Object.assign(task, { problem }),
    );
    this.running -= 1;
    const others = [...this.tasks].filter(([, one]) => one.question === question);
    const done = others.filter(([, one]) => one.value ?? one.problem);
    const spare = Math.max(done.length - (KEPT[question] ?? KEPT_OTHERS), 0);
    for (const [oldest] of done.slice(0, spare)) this.tasks.delete(oldest);
    this.startNext();
    this.changed();
  }

  /** Forget all answers, or some; what is on its way then comes to nothing. */
  forget(isMeant: (task: Task) => unknown = () => true): void {
    for (const [key, task] of this.tasks) if (isMeant(task)) this.tasks.delete(key);
  }
}
