import { expect, test } from "vitest";

import { bytes, count, memory } from "./format";

test("sizes", () => {
  expect([0, 999, 98_362_432, 4.1e9].map(bytes)).toEqual(["0 bytes", "999 bytes", "98.4 MB", "4.1 GB"]);
  expect([512, 222_298_112, 2.2 * 2 ** 30].map(memory)).toEqual(["512 bytes", "212 MiB", "2.2 GiB"]);
});

test("parameters", () => {
  expect([134_515_008, 7_600_000_000, 8e9, 95_936].map(count)).toEqual(["135M", "7.6B", "8B", "95936"]);
});
