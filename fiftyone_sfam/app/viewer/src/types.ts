/** What Python answers, see fiftyone_sfam/app/pairs. Numbers, rules and texts are made there.
 * Declared is what the component uses. */

/** An array: little-endian base64. Values of "i1" are multiplied by `scale`. */
export interface Encoded {
  shape: number[];
  dtype: "f4" | "f2" | "i4" | "i1" | "u1";
  scale: number;
  data: string;
}

/** Left, top, right, bottom of a part of an image, relative to its size, from 0 to 1. */
export type Box = [number, number, number, number];

export interface Picture {
  url: string; // a data: URL, "" where the image cannot be read
  width: number; // pixels of the picture that was sent
  height: number;
  full: [number, number]; // width and height of the image on disk
  problem: string | null; // why there is no image or no map
}

/** The maps of one image of a pair, signed, by kind, each of shape (h, w). */
export interface Side {
  maps: Record<string, Encoded>;
  box: Box; // part of the image that the maps cover
}

/** Both images' maps of a pair, null where there are none. */
type Sides = Record<"query_side" | "neighbor_side", Side | null>;

/** Largest value of a kind of map over all shown neighbors of a query, and absolute value. */
export type Limit = Record<"positive" | "signed", number>;

export interface Share {
  name: string;
  value: number; // in units of the similarity; all shares add up to it
  area: number; // share of the map's area, 0 for the remainder
  remainder: boolean;
}

/** What can be chosen: its name is sent, its label is shown. */
export type Choice = Record<"name" | "label", string>;

export interface Kind extends Choice {
  signed: boolean; // means nothing without its negative values
  live: boolean; // has to be asked for: computed by the model
  unit: string;
}

/** A color map: "u1", of shape (256, 3). */
type ColorMap = Choice & { diverging: boolean; table: Encoded };

/** What is known of an image. */
export type Labels = Record<"identity" | "camera", string | null>;

/** What is known of a pair, see `describe_pairs` in Python. */
export interface Described {
  pair: number; // -1 for two selected samples
  rank: number;
  similarity: number;
  list_score: number | null; // the own score of a given list
  outcome: string;
  verdict: string | null;
}

export interface RunInfo {
  key: string;
  uid: string; // unique id: another run under the same key has another one
  notes: string[]; // what has to be said of all maps of the run
  fields: Choice[]; // how the receipt can be divided, the first is the default
  cameras: string[];
  suspects: Choice[]; // kinds of findings that have pairs
}

/** Answer to `open`. */
export interface Opened {
  runs: string[];
  run: RunInfo | null;
  empty: string | null; // what to do where there is no run
  models: Choice[]; // registered models, which explain two samples without a run
  colors: ColorMap[];
  verdicts: (Choice & { key: string })[]; // key: a digit
  outcomes: (Choice & { sign: string; color: string })[];
  ranks: Choice[];
  orders: Choice[];
  reviewed: Choice[];
}

/** Which pairs are in a queue, and in which order; null leaves a condition open. */
export interface Spec {
  outcome: string | null;
  ranks: string;
  min_similarity: number | null;
  max_similarity: number | null;
  query_camera: string | null;
  neighbor_camera: string | null;
  identity: string | null; // of the query
  suspect: string | null;
  reviewed: string | null; // open, done, or a verdict
  order: string;
  in_view: boolean; // only queries of the App's view
}

/** Answer to `queue`: the pairs in order, each with the item of its query. */
export interface QueueAnswer<Numbers = Encoded> {
  pairs: Numbers; // i4, shape (n,)
  queries: Numbers; // i4, shape (n,)
  reviewed: number; // how many have a verdict
  note: string | null; // why it is empty, what was left out
}

export interface Row extends Described, Labels {
  neighbor_identity: string | null;
  pictures: [Picture, Picture]; // small
}

export interface Neighbor extends Described, Labels, Sides {
  item: number;
  distance: number;
  best_true: boolean; // the query's nearest true match
  margin: number | null; // similarity of the nearest true match minus this one's
  picture: Picture;
  receipt: Share[];
}

/** Answer to `query` (by a pair of it) and to `selected`. */
export interface Query extends Labels {
  item: number; // -1 for two selected samples
  picture: Picture;
  neighbors: Neighbor[]; // nearest first, the true match beyond k last
  limits: Record<string, Limit>;
  kinds: Kind[]; // that can be shown or asked for
  notes: string[];
}

/** The places of an image: rows and columns, and the part of the image that they cover. */
type Cells = { shape: [number, number]; box: Box };

/** Answer to `correspondences`: what each place of one image adds with each of the other. */
export interface Correspondences {
  query: Cells;
  neighbor: Cells;
  points: Encoded; // shape (rows * columns of the query, rows * columns of the neighbor)
  similarity: number;
  notes: string[];
}

/** Answer to `live`: maps of a pair that are computed now. */
export type LiveMaps = Sides & { limit: Limit; notes: string[] };

/** A verdict as it was before, to be given back unchanged to `undo`. */
export type Previous = Record<string, unknown>;

/** What is stored now, by key (a pair or a finding), and what there was before. */
export interface Stored<K, V> {
  verdicts: [K, V][];
  previous: Previous[];
}

// --- the list of findings, see fiftyone_sfam/app/audit/findings.py ----------------------------

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
  pictures: Record<string, Pick<Picture, "url" | "problem"> & { label: string }>;
}

/** Answer to `accept`, `reject` and `restore`. */
type SettledNow = Stored<string, Settled> & { expected: string };

/** What each question is answered with, unless there is a problem. */
export interface Answers {
  open: Opened;
  explain: object;
  queue: QueueAnswer;
  rows: { rows: Row[] };
  query: Query;
  picture: { picture: Picture };
  correspondences: Correspondences;
  live: LiveMaps;
  channels: { channels: { channel: number; value: number }[] }; // the most important ones
  selected: { pair: number | null; query: Query | null };
  locate: { pair: number | null };
  verdict: Stored<number, string | null>;
  undo: Stored<number, string | null>;
  show: object;
  findings: Findings;
  accept: SettledNow;
  reject: SettledNow;
  restore: SettledNow;
}

/** What the audit panel hands over, to the operator `view_pairs` in the same tab. */
export interface HandedOver {
  run: string;
  uid: string;
  title: string;
  pairs: number[];
  queries: number[]; // the item of each one's query
}
