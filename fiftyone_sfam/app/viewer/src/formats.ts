/** Numbers as text, ticks, and the parts of a bar. */

import type { Share } from "./types";

/** The Okabe-Ito palette, which the color-blind can tell apart. */
export const COLORS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"];

/** What no part carries: gray, and hatched so that it is no color of a part. */
export const HATCHED = "repeating-linear-gradient(45deg, #999999 0 4px, #d0d0d0 4px 7px)";

/** Write a number with its sign; no sign before what rounds to nothing. */
export function signedText(value: number, digits: number): string {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return (value < 0 ? "-" : "+") + text;
}

/** Write a share of a score, such as "+0.0412, 6 % of 0.683". */
export function shareText(share: number, score: number): string {
  const value = signedText(share, 4);
  if (!(score > 0)) return `${value} of ${score.toFixed(3)}`;
  const percent = (100 * share) / score;
  const digits = Math.abs(percent) < 0.95 ? 1 : 0;
  const text = percent.toFixed(digits);
  return `${value}, ${Number(text) === 0 ? "0" : text} % of ${score.toFixed(3)}`;
}

/** Return round values from low to high, at most `most` of them, with their text. */
export function ticks(low: number, high: number, most: number): { value: number; text: string }[] {
  if (!(high > low) || !Number.isFinite(high - low)) return [{ value: low, text: String(low) }];
  const power = 10 ** Math.floor(Math.log10((high - low) / most));
  const step =
    [1, 2, 5, 10, 20, 50].map((size) => size * power).find((size) => fits(size)) ?? 50 * power;
  function fits(size: number): boolean {
    return Math.floor(high / size + 1e-6) - Math.ceil(low / size - 1e-6) < most;
  }
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-6));
  const first = Math.ceil(low / step - 1e-6);
  const count = Math.floor(high / step + 1e-6) - first + 1;
  return Array.from({ length: count }, (_, at) => {
    const value = (first + at) * step;
    return {
      value,
      text: value === 0 ? "0" : digits > 5 ? value.toExponential(0) : value.toFixed(digits),
    };
  });
}

export interface Part {
  name: string;
  text: string; // its value, and the area that it takes
  start: number; // in percent of the bar
  width: number;
  color: string;
  remainder: boolean;
}

/** Lay the parts of a score on a bar: negative ones to the left of zero, positive to the right. */
export function receiptParts(shares: Share[], total: number) {
  const sum = (sign: number) =>
    shares.reduce((result, share) => result + Math.max(sign * share.value, 0), 0);
  const low = Math.max(sum(-1), -total, 0);
  const span = low + Math.max(sum(1), total, 0) || 1;
  const percent = (value: number) => (100 * (value + low)) / span;
  let [left, right, named] = [0, 0, 0];
  const parts = shares.map((share): Part => {
    const start = share.value < 0 ? left + share.value : right;
    if (share.value < 0) left = start;
    else right += share.value;
    const area = share.area > 0 ? ` (${Math.round(100 * share.area)} % of the area)` : "";
    return {
      name: share.name,
      text: signedText(share.value, 3) + area,
      start: percent(start),
      width: (100 * Math.abs(share.value)) / span,
      color: share.remainder ? "#999999" : COLORS[named++ % COLORS.length]!,
      remainder: share.remainder,
    };
  });
  return { parts, zero: percent(0), total: percent(total) };
}
