/** A server of a few lines for the tests of the client and the session: four queries, three
 * neighbors each. Answers are held back until a test lets them go, in the order it likes. */

import { Client, type Reply } from "../src/client";
import type { Encoded, Neighbor, Opened, Query, Row } from "../src/types";

export type Params = Record<string, unknown>;

export function encoded(values: number[]): Encoded {
  const data = Buffer.from(Int32Array.from(values).buffer).toString("base64");
  return { shape: [values.length], dtype: "i4", scale: 1, data };
}

export function runInfo(uid: string) {
  return { key: "sfam", uid, notes: [], fields: [], cameras: [], suspects: [] };
}

export const OPENED: Opened = {
  runs: ["sfam"],
  run: runInfo("u1"),
  empty: null,
  models: [],
  colors: [],
  verdicts: [
    { name: "fine", label: "fine", key: "1" },
    { name: "wrong label", label: "wrong label", key: "2" },
  ],
  outcomes: [],
  ranks: [{ name: "1", label: "rank 1" }],
  orders: [{ name: "run", label: "as in the run" }],
  reviewed: [],
};

const picture = {
  url: "",
  width: 1,
  height: 1,
  full: [9, 9] as [number, number],
  problem: null,
};

const STORED = { name: "sfam", label: "SFAM", signed: false, live: false, unit: "" };
const PATH = { name: "scales", label: "path", signed: false, live: true, unit: "" };

function neighbor(pair: number): Neighbor {
  const scores = { rank: (pair % 3) + 1, similarity: 0.5, list_score: null, distance: 0.5 };
  const names = { outcome: "true match", identity: "a", camera: null };
  const nearest = { best_true: false, margin: null };
  const sides = { query_side: null, neighbor_side: null };
  const rest = { ...nearest, picture, verdict: null, receipt: [] };
  return { pair, item: pair, ...scores, ...names, ...sides, ...rest };
}

export function queryOf(pair: number): Query {
  const item = Math.floor(pair / 3);
  const neighbors = [0, 1, 2].map((one) => neighbor(3 * item + one));
  const limits = { sfam: { positive: 2, signed: 3 } };
  const rest = { limits, kinds: [STORED, PATH], notes: [] };
  return { item, identity: "a", camera: null, picture, neighbors, ...rest };
}

function answerTo(params: Params): unknown {
  const pair = params.pair as number;
  const pairs = params.pairs as number[];
  if (params.question === "open") return OPENED;
  if (params.question === "queue") {
    const all = encoded([0, 3, 6, 9]);
    return { pairs: all, queries: encoded([0, 1, 2, 3]), reviewed: 0, note: null };
  }
  if (params.question === "query") return queryOf(pair);
  if (params.question === "rows")
    return { rows: pairs.map((one) => ({ pair: one, verdict: null }) as Row) };
  if (params.question === "live") {
    const limit = { positive: 5 + pair, signed: 9 };
    return { query_side: null, neighbor_side: null, limit, notes: [] };
  }
  if (params.question === "verdict") {
    const verdicts = pairs.map((one) => [one, params.verdict]);
    return { verdicts, previous: pairs.map((one) => ({ pair: one, verdict: null })) };
  }
  if (params.question === "undo") {
    const entries = params.entries as { pair: number }[];
    return {
      verdicts: entries.map((entry) => [entry.pair, null]),
      previous: [],
    };
  }
  if (params.question === "locate") return { pair: 7 };
  return {};
}

export interface Asked {
  params: Params;
  reply: (reply: Reply) => void;
}

export class Server {
  asked: Asked[] = [];
  pauses: number[] = [];
  held = false;
  readonly client: Client;

  constructor(private made: (params: Params) => unknown = answerTo) {
    this.client = new Client((ms) => {
      this.pauses.push(ms);
      return Promise.resolve();
    });
    this.client.send = (params, reply) => {
      this.asked.push({ params, reply });
      if (!this.held) this.answer(this.asked.length - 1);
    };
  }

  answer(at: number, reply?: Reply): void {
    const asked = this.asked[at];
    asked?.reply(reply ?? { result: this.made(asked.params) });
  }

  /** Where a question was asked, by its name and what else is known of it. */
  find(question: string, known: Params = {}): number {
    return this.asked.findIndex(
      ({ params }) =>
        params.question === question &&
        Object.entries(known).every(
          ([name, value]) => JSON.stringify(params[name]) === JSON.stringify(value),
        ),
    );
  }

  findLast(question: string, known: Params = {}): number {
    const found = this.asked.map(({ params }, at) => ({ params, at })).reverse();
    const last = found.find(
      ({ params }) => params.question === question && params.pair === known.pair,
    );
    return last?.at ?? -1;
  }

  count(question: string): number {
    return this.asked.filter(({ params }) => params.question === question).length;
  }
}

/** Let everything go on that waits for nothing but promises. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();
}
