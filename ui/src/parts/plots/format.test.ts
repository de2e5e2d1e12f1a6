import { expect, test } from "vitest";

import { amount, bytes, duration, percent } from "./format";

test("numbers as they are read", () => {
  expect([0, 1023, 1024, 1536, 20 * 1024, 3 * 1024 ** 3].map(bytes)).toEqual([
    "0 B",
    "1023 B",
    "1.0 KiB",
    "1.5 KiB",
    "20 KiB",
    "3.0 GiB",
  ]);
  expect([0, 1.25, 12.6, 12_345].map(amount)).toEqual(["0", "1.3", "13", "12,345"]);
  expect([0, 59.9, 61, 300, 7500, 93_600].map(duration)).toEqual(["0 s", "59 s", "1 min 1 s", "5 min", "2 h 5 min", "1 d 2 h"]);
  expect(percent(0.416)).toBe("42 %");
});
