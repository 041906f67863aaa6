/** Pairs that the audit panel hands over, in this page: they go nowhere else. */

import { app } from "./app";
import type { HandedOver } from "./types";

const EVENT = "sfam-pairs";
let waiting: HandedOver | null = null;

/** Call `take` with what is handed over, also with what was before there was a panel. */
export function onHandedOver(take: (handed: HandedOver) => void): () => void {
  const listener = () => {
    if (waiting) take(waiting);
    // Other panels of the page take it too, a panel that is opened later does not.
    queueMicrotask(() => {
      waiting = null;
    });
  };
  listener();
  globalThis.addEventListener(EVENT, listener);
  return () => globalThis.removeEventListener(EVENT, listener);
}

export function handOver(handed: HandedOver): void {
  waiting = handed;
  globalThis.dispatchEvent(new CustomEvent(EVENT));
}

/** Register the operator `view_pairs`, which Python triggers. */
export function registerHandover(): void {
  class ViewPairs extends app.__foo__.Operator {
    get config() {
      const label = "Show pairs in the panel of pairs";
      return new app.__foo__.OperatorConfig({ name: "view_pairs", label, unlisted: true });
    }

    async execute({ params }: { params: Record<string, unknown> }) {
      handOver(params as unknown as HandedOver);
    }
  }
  app.__foo__.registerOperator(ViewPairs, "@fiftyone-sfam/sfam");
}
