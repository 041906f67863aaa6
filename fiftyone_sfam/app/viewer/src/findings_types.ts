/** What Python answers to the list of findings, see fiftyone_sfam/app/audit/findings.py. */

import type { Choice, Stored } from "./types";

export interface FindingPicture {
  url: string; // a data: URL, "" where the image cannot be read
  label: string; // identity and camera
  problem: string | null;
}

export interface FindingGroup {
  role: "doubted" | "own" | "other";
  title: string;
  items: number[]; // keys of `pictures`
  more: number; // images that are left out
}

export type Settled = "" | "accepted" | "rejected";

export interface Finding {
  key: string;
  kind: string;
  score: string;
  probable: boolean; // the score is a probability
  sentence: string;
  proposal: string;
  answer: Settled;
  note: string; // why there is no verdict to give, or what to do after it
  can_settle: boolean;
  groups: FindingGroup[];
}

/** Answer to `findings`. */
export interface Findings {
  findings: Finding[];
  total: number;
  kinds: Choice[];
  expected: string;
  pictures: Record<string, FindingPicture>;
}

/** Answer to `accept`, `reject` and `restore`. */
interface SettledNow extends Stored<string, Settled> {
  expected: string;
}

/** What each question is answered with. */
export interface FindingAnswers {
  findings: Findings;
  accept: SettledNow;
  reject: SettledNow;
  restore: SettledNow;
}
