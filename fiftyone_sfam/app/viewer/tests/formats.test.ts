import assert from "node:assert/strict";
import { test } from "node:test";
import { receiptParts, shareText, ticks } from "../src/formats";
import type { Share } from "../src/types";

test("a share is written with its sign and as a part of the score", () => {
  assert.equal(shareText(0.0412, 0.683), "+0.0412, 6 % of 0.683");
  assert.equal(shareText(-0.1, 0.5), "-0.1000, -20 % of 0.500");
  assert.equal(shareText(0.004, 0.683), "+0.0040, 0.6 % of 0.683");
  assert.equal(shareText(-0.00003, 0.683), "0.0000, 0 % of 0.683");
  assert.equal(shareText(0.1, -0.2), "+0.1000 of -0.200");
  assert.equal(shareText(0, 0), "0.0000 of 0.000");
});

function texts(low: number, high: number): string[] {
  return ticks(low, high, 5).map(({ text }) => text);
}

test("ticks are round, at most five, and within the range", () => {
  assert.deepEqual(texts(0, 0.012), ["0", "0.005", "0.010"]);
  assert.deepEqual(texts(-1, 1), ["-1.0", "-0.5", "0", "0.5", "1.0"]);
  assert.deepEqual(texts(0, 40), ["0", "10", "20", "30", "40"]);
  assert.deepEqual(texts(-0.3, 0.3), ["-0.2", "0", "0.2"]);
  assert.deepEqual(texts(0, 3e-8), ["0", "1e-8", "2e-8", "3e-8"]);
  assert.deepEqual(texts(0, 0), ["0"]);
  const values = ticks(0, 0.7, 5).map(({ value }) => value.toFixed(6));
  assert.deepEqual(values, ["0.000000", "0.200000", "0.400000", "0.600000"]);
});

function share(name: string, value: number, area = 0): Share {
  return { name, value, area, remainder: name === "rest" };
}

function laidOut(shares: Share[], total: number) {
  const { parts, zero, total: end } = receiptParts(shares, total);
  const rounded = (value: number) => Math.round(value * 1000) / 1000;
  return {
    parts: parts.map(({ start, width }) => [rounded(start), rounded(width)]),
    zero: rounded(zero),
    total: rounded(end),
  };
}

test("the parts of a score follow each other, negative ones left of zero", () => {
  const shares = [share("head", 0.4), share("bag", -0.1), share("legs", 0.3), share("rest", 0.2)];
  assert.deepEqual(laidOut(shares, 0.8), {
    parts: [
      [10, 40],
      [0, 10],
      [50, 30],
      [80, 20],
    ],
    zero: 10,
    total: 90,
  });
});

test("a negative remainder and a negative score lie left of zero", () => {
  assert.deepEqual(laidOut([share("head", 0.1), share("a", -0.2), share("rest", -0.1)], -0.2), {
    parts: [
      [75, 25],
      [25, 50],
      [0, 25],
    ],
    zero: 75,
    total: 25,
  });
  assert.deepEqual(laidOut([], 0), { parts: [], zero: 0, total: 0 });
});

test("parts have their own colors, the remainder is gray", () => {
  const shares = [share("head", 0.4, 0.333), share("rest", -0.05), share("legs", 0.3)];
  const { parts } = receiptParts(shares, 0.65);
  assert.deepEqual(
    parts.map(({ color, remainder, text }) => [color, remainder, text]),
    [
      ["#0072b2", false, "+0.400 (33 % of the area)"],
      ["#999999", true, "-0.050"],
      ["#e69f00", false, "+0.300"],
    ],
  );
});
