/** The list of findings: what is shown, and how verdicts are given. */

import { Client, type Params, type Problem } from "./client";
import { Optimistic } from "./optimistic";
import type { Findings, Settled } from "./types";

/** Which findings are listed. */
export const FIRST = { start: 0, count: 8, kind: null as string | null, min_probability: 0 };
export type Place = typeof FIRST;

type Question = "accept" | "reject" | "restore";

export class FindingsList {
  place = FIRST;
  answer: Findings | null = null;
  problem: string | null = null;
  readonly refused = new Map<string, string>(); // why, by finding
  readonly verdicts = new Optimistic<string, Settled>(
    (key) => this.answer?.findings.find((one) => one.key === key)?.answer ?? "",
    () => this.client.changed(),
  );

  /** `run` has the key and the unique id of a run. */
  constructor(
    private run: Params,
    readonly client = new Client(),
  ) {}

  async load(place: Place): Promise<void> {
    Object.assign(this, { place, problem: null });
    this.client.changed();
    const asked = this.client.newest("findings", "findings", { ...this.run, ...place });
    const answer = await asked.catch(({ message }: Problem) => {
      this.problem = message;
    });
    if (answer) {
      this.answer = answer;
      this.refused.clear();
      this.verdicts.forget();
    }
    this.client.changed();
  }

  /** Accept or reject a finding, or take the last of that back. */
  async settle(finding: string, question: Question): Promise<void> {
    const last = this.verdicts.undoable(finding);
    this.refused.delete(finding);
    const write = (more?: Params) => this.write(question, { finding, ...more });
    try {
      if (question !== "restore")
        await this.verdicts.give([finding], `${question}ed`, (request_id) => write({ request_id }));
      else if (last) await this.verdicts.undo(last, (entries) => write({ entries }));
    } catch (error) {
      this.refused.set(finding, (error as Problem).message);
      this.client.changed();
    }
  }

  private async write(question: Question, params: Params) {
    const shown = this.answer?.findings.map((one) => one.key);
    const now = await this.client.ask(question, { ...this.run, ...params, shown });
    if (this.answer) this.answer.expected = now.expected;
    return now;
  }
}

/** Return the place of the page before (-1) or after (1); null if there is none. */
export function turned(place: Place, total: number, by: number): Place | null {
  const start = place.start + by * place.count;
  const isThere = start > -place.count && start < total;
  return isThere ? { ...place, start: Math.max(0, start) } : null;
}

/** Return the number of the finding that a key goes to; null for other keys. */
export function stepped(key: string, at: number, count: number): number | null {
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: count - 1 }[key];
  return to === undefined ? null : Math.min(Math.max(to, 0), count - 1);
}
