import { expect, test } from "vitest";

import { count, short, size, time, whole } from "./numbers";

test("numbers are as people read them", () => {
  expect([0, 999, 1204.4, 1234567].map(whole)).toEqual(["0", "999", "1,204", "1,234,567"]);
  expect([0.4249, 3.44, 34.4, 1204].map(short)).toEqual(["0.42", "3.4", "34", "1,204"]);
  expect([0, 420, 3400, 59_400, 125_000].map(time)).toEqual(["0 ms", "420 ms", "3.4 s", "59 s", "2 min 5 s"]);
  expect([0, 1, 1204].map((value) => count(value, "token"))).toEqual(["0 tokens", "1 token", "1,204 tokens"]);
  expect([812, 3440, 1_250_000].map(size)).toEqual(["812 B", "3.4 kB", "1.3 MB"]);
});
