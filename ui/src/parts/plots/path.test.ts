import { expect, test } from "vitest";

import { areaPath, linePath, lines, nearest, roundBytes, roundTop, rows } from "./path";

const FRAME = { end: 100_000, span: 100_000, top: 10, width: 100, height: 10 };

test("points become places, and a gap parts the line", () => {
  const points = [
    { at: 0, value: 0 },
    { at: 4000, value: 5 },
    { at: 50_000, value: 10 },
    { at: 51_000, value: null },
    { at: 52_000, value: 20 },
  ];
  expect(lines(points, FRAME)).toEqual([
    [
      [0, 10],
      [4, 5],
    ],
    [[50, 0]],
    [[52, 0]],
  ]);
});

test("what is older than the frame is left out", () => {
  expect(lines([{ at: -1, value: 1 }], FRAME)).toEqual([]);
});

test("the nearest point, and none where nobody looked", () => {
  const points = [0, 1000, 30_000].map((at) => ({ at, value: at }));
  expect(nearest(points, 700)?.at).toBe(1000);
  expect(nearest(points, 34_000)?.at).toBe(30_000);
  expect(nearest(points, 15_000)).toBeNull();
});

test("of a level stretch only the ends are drawn", () => {
  const points = [2, 2, 2, 2, 3].map((value, at) => ({ at: 1000 * at, value }));
  expect(lines(points, FRAME)).toEqual([
    [
      [0, 8],
      [3, 8],
      [4, 7],
    ],
  ]);
});

test("paths", () => {
  const run: [number, number][] = [
    [0, 10],
    [4, 5],
  ];
  expect(linePath(run)).toBe("M0 10L4 5");
  expect(areaPath(run, 10)).toBe("M0 10L0 10L4 5V10Z");
});

test("a scale ends at a round number", () => {
  expect([0, 0.2, 1, 1.1, 3, 7, 10, 11, 201, 5e9].map(roundTop)).toEqual([1, 1, 1, 2, 5, 10, 10, 20, 500, 5e9]);
  expect([0, 3, 1024, 1025].map(roundBytes)).toEqual([1, 4, 1024, 2048]);
});

test("a table has the last value of each step, newest first", () => {
  const points = [1, 2, 12, 13, 31].map((at) => ({ at, value: at }));
  expect(rows(points, 31, 40, 10)).toEqual([
    { ago: 0, value: 31 },
    { ago: 10, value: 13 },
    { ago: 20, value: 2 },
    { ago: 30, value: 1 },
  ]);
});
