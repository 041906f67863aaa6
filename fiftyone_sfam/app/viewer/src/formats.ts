/** Numbers as text, and the parts of a bar. */

import type { Described, Share } from "./types";

/** The Okabe-Ito palette, which the color-blind can tell apart. */
export const COLORS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"];

/** What no part carries: gray, and hatched so that it is no color of a part. */
const HATCHED = "repeating-linear-gradient(45deg, #999999 0 4px, #d0d0d0 4px 7px)";

/** Write a number with its sign. */
export const signedText = (value: number, digits: number) =>
  (value < 0 ? "-" : "+") + Math.abs(value).toFixed(digits);

/** Name the own score that a given list has of a pair; empty if it has none. */
export const listScore = ({ list_score }: Described) =>
  list_score === null ? "" : `score in the list ${Number(list_score.toPrecision(5))}`;

/** Write a share of a score, such as "+0.0412, 6.0 % of 0.683". */
export function shareText(share: number, score: number): string {
  const percent = score > 0 ? `, ${((100 * share) / score).toFixed(1)} %` : "";
  return `${signedText(share, 4)}${percent} of ${score.toFixed(3)}`;
}

/** Lay the parts of a score on a bar, negative ones first: from `zero` to `end` they add up. */
export function receiptParts(shares: Share[]) {
  const sum = (sign: number) => shares.reduce((all, one) => all + Math.max(sign * one.value, 0), 0);
  const [below, above] = [sum(-1), sum(1)];
  const percent = (value: number) => (100 * value) / (below + above || 1);
  const named = shares.filter(({ remainder }) => !remainder);
  const parts = shares.map((share) => {
    const { name, value, area, remainder } = share;
    const covered = area > 0 ? ` (${Math.round(100 * area)} % of the area)` : "";
    const color = COLORS[named.indexOf(share) % COLORS.length]!;
    return {
      name,
      text: signedText(value, 3) + covered,
      width: `${percent(Math.abs(value))}%`,
      background: remainder ? HATCHED : color,
      order: value < 0 ? -1 : 0, // in the bar
    };
  });
  return { parts, zero: percent(below), end: percent(above) };
}
