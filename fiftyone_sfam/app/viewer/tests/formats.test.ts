import assert from "node:assert/strict";
import { test } from "node:test";
import { listScore, receiptParts, shareText } from "../src/formats";
import type { Described, Share } from "../src/types";

test("a share is written with its sign, four decimals, and as a part of the score", () => {
  assert.equal(shareText(0.0412, 0.683), "+0.0412, 6.0 % of 0.683");
  assert.equal(shareText(-0.1, 0.5), "-0.1000, -20.0 % of 0.500");
  assert.equal(shareText(0.00004, 0.683), "+0.0000, 0.0 % of 0.683");
  assert.equal(shareText(0.1, -0.2), "+0.1000 of -0.200");
  assert.equal(shareText(0, 0), "+0.0000 of 0.000");
});

function share(name: string, value: number, area = 0): Share {
  return { name, value, area, remainder: name === "rest" };
}

function laidOut(shares: Share[]) {
  const { parts, zero, end } = receiptParts(shares);
  const rounded = (value: number) => Math.round(value * 1000) / 1000;
  return {
    widths: parts.map(({ width }) => rounded(Number.parseFloat(width))),
    orders: parts.map(({ order }) => order),
    zero: rounded(zero),
    end: rounded(end),
  };
}

test("negative parts of a score end at zero, where the positive ones begin", () => {
  const shares = [share("head", 0.4), share("bag", -0.1), share("legs", 0.3), share("rest", 0.2)];
  const [widths, orders] = [
    [40, 10, 30, 20],
    [0, -1, 0, 0],
  ];
  assert.deepEqual(laidOut(shares), { widths, orders, zero: 10, end: 90 });
});

test("a negative score ends left of zero, and nothing takes no room", () => {
  const shares = [share("head", 0.1), share("a", -0.2), share("rest", -0.1)];
  const [widths, orders] = [
    [25, 50, 25],
    [0, -1, -1],
  ];
  assert.deepEqual(laidOut(shares), { widths, orders, zero: 75, end: 25 });
  assert.deepEqual(laidOut([]), { widths: [], orders: [], zero: 0, end: 0 });
});

test("parts have their own colors, the remainder is gray", () => {
  const shares = [share("head", 0.4, 0.333), share("rest", -0.05), share("legs", 0.3)];
  const { parts } = receiptParts(shares);
  assert.deepEqual(
    parts.map(({ background, text }) => [background.match(/#\w+/)?.[0], text]),
    [
      ["#0072b2", "+0.400 (33 % of the area)"],
      ["#999999", "-0.050"],
      ["#e69f00", "+0.300"],
    ],
  );
});

test("a list's own score is named, whatever its size; without one nothing is said", () => {
  const said = (list_score: number | null) => listScore({ list_score } as Described);
  assert.equal(said(0.913456), "score in the list 0.91346");
  assert.equal(said(-120000), "score in the list -120000");
  assert.equal(said(0), "score in the list 0");
  assert.equal(said(null), "");
});
