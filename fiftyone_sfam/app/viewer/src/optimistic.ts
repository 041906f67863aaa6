/** Verdicts that are shown at once, stored one after the other, and can be taken back. */

import type { Previous, Stored } from "./types";

const MOST_UNDO = 100;

type Store<K, V, A> = (by: A) => Promise<Stored<K, V>>;

/** Verdicts that were given together. */
export interface Given<K, V> {
  before: ReadonlyMap<K, V>; // what was shown
  previous: Promise<Previous[]>; // empty if they were refused
  undone: boolean;
}

export class Optimistic<K, V> {
  version = 0;
  private stored = new Map<K, V>();
  private pending: ReadonlyMap<K, V>[] = [];
  private given: Given<K, V>[] = [];
  private last: Promise<unknown> = Promise.resolve();

  /** `listed` is what is known of a key besides; `changed` is called when verdicts are shown. */
  constructor(
    private listed: (key: K) => V,
    private changed: () => void,
  ) {}

  /** Return the verdict that is shown: pending, stored meanwhile, or as it was listed. */
  of(key: K, listed = this.listed(key)): V {
    const known = [this.stored, ...this.pending].filter((verdicts) => verdicts.has(key));
    return known.length ? (known[known.length - 1]!.get(key) as V) : listed;
  }

  isPending(key?: K): boolean {
    return this.pending.some((verdicts) => key === undefined || verdicts.has(key));
  }

  /** Return what was given last and can be taken back, to a key or to any. */
  undoable(key?: K): Given<K, V> | undefined {
    const able = this.given.filter(({ undone }) => !undone);
    return able.reverse().find(({ before }) => key === undefined || before.has(key));
  }

  /** Show a verdict and store it after those before; reject where it is refused. */
  give(keys: K[], verdict: V, store: Store<K, V, string>) {
    const before = new Map(keys.map((key) => [key, this.of(key)]));
    const given: Given<K, V> = { before, previous: Promise.resolve([]), undone: false };
    // A request that is repeated, because its answer was lost, is known by its number.
    const request = `${Date.now()} ${Math.random()}`;
    const shown = new Map(keys.map((key) => [key, verdict]));
    const refused = () => Object.assign(given, { undone: true });
    const written = this.write(shown, () => store(request), refused);
    given.previous = written.catch(() => []);
    this.given = [...this.given, given].slice(-MOST_UNDO);
    return written;
  }

  /** Show what was before and restore it, as soon as the verdict that it undoes is stored. */
  undo(given: Given<K, V>, store: Store<K, V, Previous[]>) {
    given.undone = true;
    const restore = async () => {
      const entries = await given.previous;
      return entries.length ? store(entries) : { verdicts: [], previous: [] };
    };
    return this.write(given.before, restore, () => Object.assign(given, { undone: false }));
  }

  /** Forget what was stored, which has been listed anew. */
  forget(): void {
    this.stored.clear();
  }

  private show(pending: ReadonlyMap<K, V>[]): void {
    this.pending = pending;
    this.version += 1;
    this.changed();
  }

  private write(shown: ReadonlyMap<K, V>, store: () => Promise<Stored<K, V>>, refused: () => void) {
    this.show([...this.pending, shown]);
    const written = this.last.then(store).then(
      ({ verdicts, previous }) => {
        for (const [key, verdict] of verdicts) this.stored.set(key, verdict);
        return previous;
      },
      (problem) => {
        refused();
        throw problem;
      },
    );
    const done = () => this.show(this.pending.filter((one) => one !== shown));
    this.last = written.then(done, done);
    return written;
  }
}
